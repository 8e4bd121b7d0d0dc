"""Threads of goproc's own, which the program has not started."""

import threading

__all__ = ["OwnThread"]


class OwnThread(threading.Thread):
    """A daemonic thread of goproc's own. It runs no code of the program while it holds a lock.

    So it does not make a fork less safe, and the warning about forks in multi-threaded programs does not count it.
    """

    _goproc = True  # capi/native/fork.c looks for this

    def __init__(self, name, target):
        super().__init__(target=target, name=name, daemon=True)
