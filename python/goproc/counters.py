"""The one line about the engine's work that --stats and GOPROC_STATS=1 print to stderr when the program ends."""

import atexit
import os
import sys
from multiprocessing import process

__all__ = ["print_at_exit"]

_printing_pid = None
_LAST = -sys.maxsize  # the lowest of priorities


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


def line(stats) -> str:
    """Return the line for what engine.stats() returned."""
    started = ", ".join(f"{method} {stats['started'][method]}" for method in ("fork", "spawn", "forkserver"))
    return f"goproc: processes started: {started}; tasks done: {stats['tasks']}; workers lost: {stats['lost']}"


def _print() -> None:
    if os.getpid() != _printing_pid or process.parent_process() is not None:
        return
    from . import engine

    try:
        print(line(engine.stats()), file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        pass  # stderr is closed: there is nobody to tell
