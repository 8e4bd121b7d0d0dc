"""Prints one line of counters to stderr when the program ends, for --stats and GOPROC_STATS=1."""

import atexit
import os
import sys
from multiprocessing import process

from . import stdlib

__all__ = ["print_at_exit", "print_if_wanted"]

_printing_pid = None
_LAST = -sys.maxsize  # the lowest priority of a finalizer

#: The faults: the name in the line, and the key in the result of calls.stats(). The first is always shown, the others
#: only if their count is not 0.
_FAULTS = (("workers lost", "lost"), ("tasks over their limit", "timeouts"), ("tasks run again", "retries"))

#: How many results executors of concurrent.futures have received from processes of goproc.
executed = 0


def is_counting() -> bool:
    """Return whether this process prints the counters when it ends."""
    return _printing_pid == os.getpid()


def count_executors() -> None:
    """Count the results of concurrent.futures' executors from now on. The engine counts their processes only."""
    Manager = stdlib.executors_manager()
    take = Manager.process_result_item
    if getattr(take, "counted", False):
        return

    def process_result_item(self, result_item):
        global executed
        if not isinstance(result_item, int):  # an int is the pid of a process that exits by itself
            executed += 1
        return take(self, result_item)

    process_result_item.counted = True  # type: ignore[attr-defined]
    Manager.process_result_item = process_result_item  # type: ignore[method-assign]


def print_at_exit() -> None:
    """Print the counters once, when this process ends, after everything else that runs at exit.

    Children never print them, because each process counts only its own work.
    """
    global _printing_pid
    if _printing_pid is not None or getattr(sys, "argv", [])[1:2] in (
        ["--multiprocessing-fork"],
        ["--multiprocessing-forkserver"],
    ):
        return
    _printing_pid = os.getpid()
    # The exit function that was registered last runs first. multiprocessing's exit function ends the pools. If it has
    # been registered already, the line is printed by a finalizer of the lowest priority, which that function runs last.
    util = sys.modules.get("multiprocessing.util")
    if util is None:
        atexit.register(_print)
    else:
        util.Finalize(None, _print, exitpriority=_LAST)


def print_if_wanted(value: str) -> None:
    """Apply the environment variable GOPROC_STATS: 1 prints the counters, 0 does not. Warn about any other value."""
    if value == "1":
        print_at_exit()
    elif value != "0":
        import warnings

        warnings.warn(f"GOPROC_STATS={value!r} is ignored: it must be 1 or 0", RuntimeWarning, stacklevel=2)


def line(stats) -> str:
    """Return the line to print. stats: the result of calls.stats()."""
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
        pass  # stderr is closed
