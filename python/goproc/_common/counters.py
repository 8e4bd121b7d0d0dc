"""The one line about the engine's work that --stats and GOPROC_STATS=1 print to stderr when the program ends."""

import atexit
import os
import sys
from multiprocessing import process

from . import stdlib

__all__ = ["print_at_exit", "print_if_wanted"]

_printing_pid = None
_LAST = -sys.maxsize  # the lowest of priorities

#: The faults, and their names in what calls.stats() returns. The first is always shown, the others if there are any.
_FAULTS = (("workers lost", "lost"), ("tasks over their limit", "timeouts"), ("tasks run again", "retries"))

#: How many results executors of concurrent.futures have had from processes of goproc.
executed = 0


def is_counting() -> bool:
    """Return whether this process prints the counters at its end."""
    return _printing_pid == os.getpid()


def count_executors() -> None:
    """Count what executors of concurrent.futures do from now on. Their processes are goproc's, their tasks are not."""
    Manager = stdlib.executors_manager()
    take = Manager.process_result_item
    if getattr(take, "counted", False):
        return

    def process_result_item(self, result_item):
        global executed
        if not isinstance(result_item, int):  # the pid of a process that ends by itself
            executed += 1
        return take(self, result_item)

    process_result_item.counted = True  # type: ignore[attr-defined]
    Manager.process_result_item = process_result_item  # type: ignore[method-assign]


def print_at_exit() -> None:
    """Print the counters when this process ends, once, after everything else that runs at exit.

    Children print nothing, however they were started: the counts of their own engines are their own.
    """
    global _printing_pid
    if _printing_pid is not None or getattr(sys, "argv", [])[1:2] in (
        ["--multiprocessing-fork"],
        ["--multiprocessing-forkserver"],
    ):
        return
    _printing_pid = os.getpid()
    # Exit functions run last first. If multiprocessing has registered its own already, which ends the pools, the line
    # is printed by the last of the finalizers that this one runs.
    util = sys.modules.get("multiprocessing.util")
    if util is None:
        atexit.register(_print)
    else:
        util.Finalize(None, _print, exitpriority=_LAST)


def print_if_wanted(value: str) -> None:
    """Do what the environment variable GOPROC_STATS says: 1 prints the counters, 0 does not. Warn of anything else."""
    if value == "1":
        print_at_exit()
    elif value != "0":
        import warnings

        warnings.warn(f"GOPROC_STATS={value!r} is ignored: it must be 1 or 0", RuntimeWarning, stacklevel=2)


def line(stats) -> str:
    """Return the line for what calls.stats() returned."""
    started = ", ".join(f"{method} {stats['started'][method]}" for method in ("fork", "spawn", "forkserver"))
    tasks = f"tasks done: {stats['tasks']}" + (f", by executors: {executed}" if executed else "")
    faults = "; ".join(f"{name}: {stats[key]}" for name, key in _FAULTS if stats.get(key) or key == "lost")
    return f"goproc: processes started: {started}; {tasks}; {faults}"


def _print() -> None:
    if os.getpid() != _printing_pid or process.parent_process() is not None:
        return
    from . import calls

    try:
        print(line(calls.stats()), file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        pass  # stderr is closed: there is nobody to tell
