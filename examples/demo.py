"""Run every script of this folder on goproc, and say which passed. `make demo` calls this.

    python examples/demo.py [--plain] [--start-method METHOD] [--time-limit SECONDS] [SCRIPT ...]

Each script is run unchanged, once for each start method that it can work with:

    python -W error -m goproc --futures --stats --start-method METHOD SCRIPT

It passes when all of this holds:

    - its output is its docstring
    - its exit status is 0
    - stderr has only the line of --stats
    - that line says that the engine started exactly the processes that the script asks for
    - no process is left afterwards

With --plain, each script is run on the standard library's multiprocessing, but not those that only goproc can run.
Then there is no line of --stats.

A script that needs a package that is not installed is left out, and a line says so.

A docstring may hold placeholders; everything else in it is literal:

    <pid>          any process ID
    <parent pid>   the process ID of the name `parent`, or of another word: each word stands for one process ID, the
                   same at each place, and different words for different process IDs
    <seconds>      any time

The exit status is 0 when everything passed, 1 when something failed, and 2 when nothing could be run.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import importlib.util
import multiprocessing
import os
import platform
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

FOLDER = Path(__file__).resolve().parent
EVERY_METHOD = ("fork", "spawn", "forkserver")
TIME_LIMIT = 60.0  # seconds for one run; the longest takes two or three
GRACE = 5.0  # seconds that a script's other processes may take to end after the main one


@dataclass(frozen=True)
class Example:
    """A script, what it shows, and how many processes it starts with multiprocessing.

    own: whether it shows what only goproc has, and so is left out with --plain. needs: a package without which it is
    left out. variables: of its environment.
    """

    script: str
    shows: str
    processes: int
    start_methods: tuple[str, ...] = EVERY_METHOD
    own: bool = False
    needs: str = ""
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> Path:
        return FOLDER / self.script


EXAMPLES = (
    Example("fork.py", "os.fork, and fork", 1, ("fork",)),
    Example("spawn.py", "spawn", 3, ("spawn",)),
    Example("forkserver.py", "forkserver", 3, ("forkserver",)),
    Example("daemon.py", "daemon", 2),
    Example("terminate.py", "terminate", 1),
    Example("current_process.py", "current process", 2),
    Example("subclass.py", "subclass of Process", 5),
    Example("pool_apply.py", "Pool.apply", 2),
    Example("pool_apply_async.py", "Pool.apply_async", 2),
    Example("pool_map.py", "Pool.map", 4),
    Example("pool_map_async.py", "Pool.map_async", 4),
    Example("executor.py", "ProcessPoolExecutor", 1),
    Example("log_relay.py", "goproc.logging", 2, own=True),
    Example("threads_and_processes.py", "threads and processes", 4),
    Example(
        "lambdas.py",
        "lambdas, closures",
        2,
        own=True,
        needs="cloudpickle",
        variables=(("GOPROC_PICKLER", "cloudpickle"),),
    ),
    Example("asyncio_pool.py", "goproc in asyncio", 3, own=True),
    Example("progress.py", "progress of a map", 1, own=True),
    Example("shared_data.py", "share", 2, own=True),
    Example("nested_pools.py", "nested pools", 1, own=True),
    Example("stream.py", "Pool.stream", 4, own=True),
    Example("cpus.py", "CPUs and threads", 1, own=True),
    Example("limits_and_retries.py", "limits and retries", 3, own=True),
    Example("cluster_pool.py", "many machines", 0, ("spawn",), own=True, needs="distributed"),
    Example("joblib_backend.py", "joblib", 2, ("spawn",), own=True, needs="joblib"),
)

STATS = re.compile(
    r"^goproc: processes started: (?P<started>.+); tasks done: (?P<tasks>\d+); workers lost: (?P<lost>\d+)\n",
    re.MULTILINE,
)
PLACEHOLDER = re.compile(r"<(?:(?P<word>\w+) )?pid>|<seconds>")
SECONDS = re.compile(r"^(?P<count>\d+) (?P<kind>processes|threads): (?P<seconds>[\d.]+) s$", re.MULTILINE)

# multiprocessing has no option and no environment variable for the start method. So this code sets it, and then runs
# the script as python would.
WITH_START_METHOD = """
import multiprocessing, os, runpy, sys
del sys.argv[0]
multiprocessing.set_start_method(sys.argv.pop(0))
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass
class Run:
    """One run of a script: what it printed, and each fault that was found."""

    example: Example
    start_method: str
    stdout: str = ""
    seconds: float = 0.0
    stats: dict[str, int] | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def started(self) -> int | None:
        """The number of processes that the engine says it started; None under plain multiprocessing."""
        return None if self.stats is None else sum(self.stats[method] for method in EVERY_METHOD)


def expected_output(script: Path) -> str:
    """Return the docstring of a script: the output that it must print."""
    docstring = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    if not docstring:
        raise ValueError(f"{script} has no docstring to say what it must print")
    return docstring + "\n"


def matches(expected: str, printed: str) -> bool:
    """Return whether printed matches expected, a docstring with placeholders."""
    pattern, end, words = "", 0, set()
    for place in PLACEHOLDER.finditer(expected):
        pattern += re.escape(expected[end : place.start()])
        word, end = place["word"], place.end()
        if place[0] == "<seconds>":
            pattern += r"\d+(?:\.\d+)?"
        elif word is None:
            pattern += r"\d+"
        else:
            pattern += f"(?P={word})" if word in words else rf"(?P<{word}>\d+)"
            words.add(word)
    found = re.fullmatch(pattern + re.escape(expected[end:]), printed)
    return found is not None and len(set(found.groups())) == len(words)


def difference(expected: str, printed: str) -> str:
    """Show line by line where printed is not what was expected."""
    lines = difflib.unified_diff(expected.splitlines(), printed.splitlines(), "expected", "got", n=99, lineterm="")
    return "\n".join(lines)


def command(script: Path, start_method: str, plain: bool) -> list[str]:
    """Return the command line that runs script with start_method, on goproc or on plain multiprocessing."""
    python = [sys.executable, "-W", "error"]
    if not plain:
        return [*python, "-m", "goproc", "--futures", "--stats", "--start-method", start_method, str(script)]
    if sys.version_info >= (3, 15):
        # multiprocessing's workers fail with this warning when a task raises: their `__mp_main__` has no `__spec__`.
        python += ["-W", "ignore:Module globals is missing a __spec__.loader:DeprecationWarning"]
    if start_method == multiprocessing.get_start_method():
        return [*python, str(script)]
    return [*python, "-c", WITH_START_METHOD, start_method, str(script)]


def wait_for_end(pid: int, seconds: float) -> bool:
    """Wait until a process has ended; return False if it has not after this time. Popen.wait would poll every 50 ms."""
    pidfd = os.pidfd_open(pid)
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)


def members(group: int) -> list[int]:
    """Return the living processes of a process group. Zombies are left out: reaping them is their parent's task."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended while we looked
                # pid (name) state ppid pgrp: the name may hold anything, so begin after its last parenthesis (proc(5)).
                state, _, pgrp = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:3]
                if int(pgrp) == group and state not in "ZX":
                    found.append(int(entry.name))
    return found


def wait_until_empty(group: int, seconds: float) -> list[int]:
    """Wait until a process group has no living process; return those that are left after this time."""
    deadline = time.monotonic() + seconds
    while (left := members(group)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def run(example: Example, start_method: str, plain: bool = False, time_limit: float = TIME_LIMIT) -> Run:
    """Run one script with one start method.

    The script gets its own process group. The whole group is killed when the main process takes longer than time_limit
    seconds, when processes are left behind, and when this program is interrupted. The output goes to files, not to a
    pipe: a process that is left behind would keep a pipe open, and the reader waiting.
    """
    result = Run(example, start_method)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOPROC_")}
    environment.update(example.variables)
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        began = time.perf_counter()
        process = subprocess.Popen(
            command(example.path, start_method, plain),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            start_new_session=True,
        )
        try:
            ended = wait_for_end(process.pid, time_limit)
            result.seconds = time.perf_counter() - began
            if not ended:
                result.faults.append(f"not finished after {time_limit:g} s")
            elif status := process.wait():
                result.faults.append(f"exit status {status}, not 0")
            if ended and (left := wait_until_empty(process.pid, GRACE)):
                result.faults.append(f"processes left behind: {', '.join(map(str, left))}")
        finally:
            if members(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        result.stdout, errors = read(stdout), read(stderr)

    if not matches(expected := expected_output(example.path), result.stdout):
        result.faults.append("the output is not what it must be:\n" + difference(expected, result.stdout))
    if not plain:
        errors = check_stats(result, errors)
    if errors:
        result.faults.append("on stderr:\n" + errors.rstrip())
    return result


def read(file: IO[bytes]) -> str:
    """Return all that was written to a file."""
    file.seek(0)
    return file.read().decode(errors="backslashreplace")


def check_stats(result: Run, errors: str) -> str:
    """Check the line of --stats in errors, what a run printed to stderr. Return errors without this line."""
    if not (found := STATS.search(errors)):
        result.faults.append("no line of --stats")
        return errors
    started = dict(part.split() for part in found["started"].split(", "))
    counts = {**started, "tasks": found["tasks"], "lost": found["lost"]}
    stats = result.stats = {name: int(number) for name, number in counts.items()}
    must_be = {method: 0 for method in EVERY_METHOD} | {result.start_method: result.example.processes, "lost": 0}
    if wrong := [f"{name}={stats[name]}, not {number}" for name, number in must_be.items() if stats[name] != number]:
        result.faults.append("the line of --stats says " + "; ".join(wrong))
    return errors[: found.start()] + errors[found.end() :]


def why_left_out(example: Example, plain: bool) -> str:
    """Return why a script is not run, an empty text if it is."""
    if plain and example.own:
        return "it is for goproc"
    if example.needs and importlib.util.find_spec(example.needs) is None:
        return f"{example.needs} is not installed"
    return ""


def run_all(examples: list[Example], start_methods: list[str], plain: bool, time_limit: float) -> Iterator[Run]:
    """Run the scripts one at a time, each with every start method that it can work with. Print a row after each run."""
    row = "{:<26}{:<23}{:<13}{:>10}{:>7}{:>9}  {}"
    print(row.format("script", "what it shows", "start method", "processes", "tasks", "time", "result"))
    for example in examples:
        if reason := why_left_out(example, plain):
            print(f"{example.script:<26}{example.shows:<23}left out: {reason}")
            continue
        for start_method in example.start_methods:
            if start_method not in start_methods:
                continue
            result = run(example, start_method, plain, time_limit)
            counts = (result.started, result.stats["tasks"]) if result.stats else ("-", "-")
            verdict = "FAILED" if result.faults else "ok"
            print(row.format(example.script, example.shows, start_method, *counts, f"{result.seconds:.2f} s", verdict))
            for fault in result.faults:
                print("    " + fault.replace("\n", "\n    "))
            sys.stdout.flush()
            yield result


def print_times(runs: list[Run]) -> None:
    """Print what threads_and_processes.py measured under each start method."""
    print(f"\nThe same CPU-bound work in threads and in processes, on {os.cpu_count()} CPUs:")
    for result in runs:
        times = {found["kind"]: found for found in SECONDS.finditer(result.stdout)}
        threads, processes = times["threads"], times["processes"]
        ratio = float(threads["seconds"]) / max(float(processes["seconds"]), 0.01)
        print(f"  {result.start_method:<12}{threads[0]:<20}{processes[0]:<22}{ratio:.1f} times as fast in processes")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the examples and check what they print.")
    names = [example.script for example in EXAMPLES]
    parser.add_argument("scripts", metavar="SCRIPT", nargs="*", help="run only these (by default all)")
    parser.add_argument("--plain", action="store_true", help="run them with the standard library's multiprocessing")
    parser.add_argument("--start-method", choices=EVERY_METHOD, help="run only with this start method")
    parser.add_argument("--time-limit", type=float, default=TIME_LIMIT, metavar="SECONDS", help="for one run")
    options = parser.parse_args(arguments)
    options.scripts = [Path(script).name for script in options.scripts] or names
    if unknown := set(options.scripts) - set(names):
        parser.error(f"no such script: {', '.join(sorted(unknown))} (there are: {', '.join(names)})")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    options = parse(arguments)
    if not options.plain and importlib.util.find_spec("goproc") is None:
        print(f"goproc is not installed for {sys.executable}: run `make demo`, or use --plain", file=sys.stderr)
        return 2
    engine = "the standard library's multiprocessing" if options.plain else "goproc"
    print(f"{engine}, {platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} CPUs\n")

    examples = [example for example in EXAMPLES if example.script in options.scripts]
    if options.plain and any(example.own for example in examples):
        print("left out, as only goproc has it:", ", ".join(example.script for example in examples if example.own))
        examples = [example for example in examples if not example.own]
    start_methods = [options.start_method] if options.start_method else list(EVERY_METHOD)
    runs = list(run_all(examples, start_methods, options.plain, options.time_limit))
    if not runs:
        print("no script to run: none of them works with this start method", file=sys.stderr)
        return 2

    timed = [result for result in runs if result.example.script == "threads_and_processes.py" and not result.faults]
    if timed:
        print_times(timed)
    failed = [result for result in runs if result.faults]
    if failed:
        print(f"\nFAILED: {len(failed)} of {len(runs)} runs did not do what they must (see above)")
        return 1
    print(f"\nOK: all {len(runs)} runs printed what they must and left no process behind", end="")
    print("" if options.plain else f"; the engine started {sum(result.started or 0 for result in runs)} processes")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
