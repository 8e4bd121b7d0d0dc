"""Threads of goproc's own, which the program has not started."""

import sys
import threading
import time

from .. import _native

__all__ = ["OwnThread", "deadline_after", "persist", "report_error"]

#: How long a thread waits for memory that the program may free, in seconds.
_PAUSE = 0.05


class OwnThread(threading.Thread):
    """A daemonic thread of goproc's own. It runs no code of the program while it holds a lock.

    So it does not make a fork less safe, and the warning about forks in multi-threaded programs does not count it.
    """

    _goproc = True  # capi/native/fork.c looks for this

    def __init__(self, name, target):
        super().__init__(target=target, name=name, daemon=True)


def persist(work):
    """Call work(), and after each MemoryError call it again: a thread that others rely on must outlive the shortage."""
    while True:
        try:
            return work()
        except MemoryError:
            time.sleep(_PAUSE)


def report_error(error: BaseException) -> None:
    """Report an exception that a callback of the program has raised, as an error of this thread.

    multiprocessing's pools call callbacks in a thread that the exception ends, so threading.excepthook reports it.
    threading.excepthook says nothing of a SystemExit, so sys.excepthook reports that. An error of the hook itself is
    printed: it must not end the thread that delivers all results.
    """
    kind, traceback = type(error), error.__traceback__
    try:
        if kind is SystemExit:
            sys.excepthook(kind, error, traceback)
        else:
            thread = threading.current_thread()
            threading.excepthook(threading.ExceptHookArgs((kind, error, traceback, thread)))
    except BaseException as of_hook:
        sys.__excepthook__(type(of_hook), of_hook, of_hook.__traceback__)


def deadline_after(timeout: float) -> float:
    """Return the time, by _native.monotonic(), at which a wait of timeout seconds is over.

    multiprocessing's results wait by threading, so threading decides about NaN, infinity and very long times: it raises
    ValueError or OverflowError, or does not wait. That depends on Python's version.
    """
    if not timeout <= threading.TIMEOUT_MAX:
        threading.Event().wait(timeout)
        timeout = 0
    return _native.monotonic() + max(timeout, 0)
