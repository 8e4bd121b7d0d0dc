"""The functions of the tasks: one for each fault. In a module of its own, which every library's workers can import."""

import os
import signal
import sys
import time
from collections import deque
from itertools import repeat


class OwnBaseError(BaseException):
    pass


class Unbuildable(Exception):
    """Pickles, but does not unpickle: exceptions are rebuilt by calling their class with args."""

    def __init__(self, one, two):
        super().__init__(one)


class Bomb:
    """Pickles, but does not unpickle."""

    def __reduce__(self):
        return explode, ()


def explode():
    raise ValueError("this result cannot be rebuilt")


def double(value):
    time.sleep(0.01)
    return 2 * value


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def leave():
    os._exit(1)


def crash():
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)


def exit_normally():
    sys.exit(1)


def raise_base():
    raise OwnBaseError("own")


def raise_unbuildable():
    raise Unbuildable("one", "two")


def return_bomb():
    return Bomb()


def return_lambda():
    return lambda: None


def fail():
    raise ValueError("this initializer fails")


def pid_and_wait(seconds):
    time.sleep(seconds)
    return os.getpid()


def loop():
    """Never return from C."""
    deque(repeat(None), maxlen=0)
