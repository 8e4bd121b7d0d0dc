"""Threads of goproc's own, which a program does not know of."""

import threading

__all__ = ["OwnThread"]


class OwnThread(threading.Thread):
    """A daemonic thread of goproc's own. It runs no code of the program's while it holds a lock.

    So a fork is as safe with it as without it, and the warning about forks in programs with threads does not count it.
    """

    _goproc = True  # capi/native/fork.c looks for this

    def __init__(self, name, target):
        super().__init__(target=target, name=name, daemon=True)
