"""Chaos: rounds in which pools of all start methods lose workers at random, with an account of each task.

    run.py [--minutes N] [--seed SEED] [--round N] [--methods METHOD ...]

All random choices come from the seed, which is printed: a run with the same seed makes the same choices, though the
scheduling of the system differs. Each round is a program of its own (arena.py). If a round hangs, all its processes
print their stacks, and are killed. The exit status is 0 only if no round had an error.
"""

import argparse
import collections
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from killer import MARK

ROUND = 8  # seconds of giving out tasks
LIMIT = 240  # seconds after which a round hangs


class Failure(Exception):
    pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1, help="how long new rounds are begun (1)")
    parser.add_argument("--seed", help="a text; a random one if not given", default=None)
    parser.add_argument("--round", type=int, help="play only this one", default=None)
    parser.add_argument("--methods", nargs="*", default=[], choices=["fork", "spawn", "forkserver"])
    options = parser.parse_args()
    seed = options.seed or secrets.token_hex(4)
    print(
        f"chaos: seed {seed}, {options.minutes:g} min, {sys.implementation.name} {sys.version.split()[0]}", flush=True
    )
    end = time.monotonic() + 60 * options.minutes
    number, total, ends, failed = 0, collections.Counter(), collections.Counter(), []
    if options.round is not None:
        number, end = options.round, 0
    while True:
        seconds = ROUND if options.round is not None else min(ROUND, max(end - time.monotonic(), 1))
        try:
            report = play(f"{seed}:{number}", seconds, options.methods)
        except Failure as failure:
            failed.append(number)
            print(f"chaos: round {number}: {failure}", flush=True)
        else:
            ends.update(report["ends"])
            total.update({key: report[key] for key in ("pools", "tasks", "killed", "stopped")})
            print(f"chaos: round {number}: {described(report)}; {described(report['ends'])}", flush=True)
            for text in report["wrong"]:
                print(f"    {text}", flush=True)
            if report["wrong"]:
                failed.append(number)
        number += 1
        if time.monotonic() > end:
            break
    print(f"chaos: in all {described(total)}; {described(ends)}")
    if failed:
        print(f"chaos: FAILED, seed {seed}, rounds {failed}: again with --seed {seed} --round {failed[0]}")
    sys.exit(bool(failed))


def described(counts):
    return ", ".join(f"{key} {value}" for key, value in counts.items() if isinstance(value, int))


def play(seed, seconds, methods):
    """Play one round; return its report."""
    folder = Path(tempfile.mkdtemp(prefix="goproc-chaos-"))
    mark = str(uuid.uuid4())
    command = [
        sys.executable,
        "-W",
        "ignore",
        Path(__file__).with_name("arena.py"),
        seed,
        str(seconds),
        folder,
        *methods,
    ]
    arena = subprocess.Popen(command, env={**os.environ, MARK: mark}, stdout=subprocess.PIPE, text=True)
    try:
        try:
            output, _ = arena.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            show(mark)
            raise Failure(f"it hangs: no end after {LIMIT} s") from None
        try:
            report = json.loads(output)
        except ValueError:
            raise Failure(f"it ended with status {arena.returncode} and said {output!r}") from None
        deadline = time.monotonic() + 30
        while left := marked(mark):
            if time.monotonic() > deadline:
                report["wrong"].append(f"left behind: {left}")
                show(mark)
                break
            time.sleep(0.01)
        return report
    finally:
        for pid in marked(mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        arena.wait()
        shutil.rmtree(folder)


def marked(mark):
    """Return {pid: command} of all processes of a round."""
    wanted, found = f"{MARK}={mark}".encode(), {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if wanted in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    found[int(entry)] = Path(f"/proc/{entry}/cmdline").read_text().replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                pass
    return found


def show(mark):
    """Have all processes of a round say where they stand."""
    for pid, command in marked(mark).items():
        print(f"\n=== {pid}: {command}", file=sys.stderr)
        for name in ("wchan", "syscall", "status"):
            try:
                text = Path(f"/proc/{pid}/{name}").read_text()
            except OSError:
                continue
            lines = [
                line for line in text.splitlines() if name != "status" or line.startswith(("State", "PPid", "Sig"))
            ]
            print(f"{name}: " + "; ".join(lines), file=sys.stderr)
        sys.stderr.flush()
        try:
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGABRT)  # the program, and forked workers, then print their threads' stacks
        except ProcessLookupError:
            pass
        time.sleep(0.3)


if __name__ == "__main__":
    main()
