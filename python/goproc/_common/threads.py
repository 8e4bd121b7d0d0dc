"""Threads of goproc's own, which the program has not started."""

import threading
import time

__all__ = ["OwnThread", "persist"]

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
