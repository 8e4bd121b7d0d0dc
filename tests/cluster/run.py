"""Run chaos on many machines, and check the account of the tasks: `make chaos-cluster`.

    python tests/cluster/run.py [--tasks 50000] [--seed SEED] [--limit SECONDS] [--only MISFORTUNE ...]

Three network namespaces are joined by veth to a fourth: two machines, the main program, and the scheduler's. The exit
status is 0 if each task has ended as it may, none was run twice, nothing hung, and nothing was left behind; 1 if not; 2
if there can be no namespaces here.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import spaces

HERE = Path(__file__).resolve().parent

#: The most errors that are printed.
SHOWN = 30


def main():
    parser = argparse.ArgumentParser(description="Chaos on many machines.")
    parser.add_argument("--tasks", type=int, default=50_000, help="how many tasks there are")
    parser.add_argument("--seed", default=str(random.randrange(10**6)), help="of the random choices")
    parser.add_argument("--limit", type=float, help="seconds after which the program hangs")
    parser.add_argument("--only", nargs="*", default=[], metavar="MISFORTUNE", help="only these misfortunes")
    options = parser.parse_args()
    if reason := spaces.why_not():
        print(f"chaos-cluster: {reason}", file=sys.stderr)
        return 2
    limit = options.limit or 200 + options.tasks / 50
    print(f"chaos-cluster: {options.tasks} tasks, seed {options.seed}", flush=True)
    report = round_of(options.tasks, options.seed, limit, options.only)
    for text in report["wrong"][:SHOWN]:
        print(f"WRONG: {text}")
    ends = ", ".join(f"{count} {name}" for name, count in sorted(report["ends"].items()))
    misfortunes = ", ".join(f"{count} {name}" for name, count in sorted(report["misfortunes"].items()))
    print(f"chaos-cluster: {report['tasks']} tasks in {report['seconds']:.0f} s: {ends}; misfortunes: {misfortunes}")
    print(f"chaos-cluster: {len(report['wrong'])} wrong" if report["wrong"] else "chaos-cluster: all accounted for")
    return 1 if report["wrong"] else 0


def round_of(tasks, seed, limit, only):
    """Run a round in namespaces of its own; return the report."""
    paths = [str(HERE), str(HERE.parent / "chaos"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "DASK_TEMPORARY_DIRECTORY": spaces.FOLDER}
    words = [sys.executable, HERE / "arena.py", tasks, seed, limit, *only]
    with spaces.enter(words, env=environment, stdout=subprocess.PIPE, text=True) as arena:
        output = arena.stdout.read()
    try:
        return json.loads(output)
    except ValueError:
        wrong = [f"the arena ended with status {arena.returncode} and said {output!r}"]
        return {"tasks": 0, "ends": {}, "misfortunes": {}, "seconds": 0, "wrong": wrong}


if __name__ == "__main__":
    sys.exit(main())
