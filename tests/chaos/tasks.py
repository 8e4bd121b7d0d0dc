"""The functions that the pools' workers run, and the record of the tasks that have begun.

When a task begins, it appends its number and its worker's pid to a file, in one write. The kernel appends a record as a
whole, and keeps it when the worker is killed.
"""

import contextlib
import os
import signal
import struct
import time
from collections import deque
from itertools import repeat

RECORD = struct.Struct("<QQ")  # number of the task, pid


class OwnError(Exception):
    pass


class OwnBaseError(BaseException):
    pass


class Bomb:
    """Cannot be rebuilt."""

    def __reduce__(self):
        return _explode, ()


def _explode():
    raise OwnError("rebuilt")


_files: "dict[str, int]" = {}


def begin(path, number):
    """Record that the task is being run."""
    if path not in _files:
        _files[path] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    os.write(_files[path], RECORD.pack(number, os.getpid()))


def records(path):
    """Return the recorded (number, pid), in the order in which the tasks were begun."""
    with open(path, "rb") as file:
        return list(RECORD.iter_unpack(file.read()))


def run(path, number, action, amount=0, data=None):
    """Do what the action says; the result, where there is one, is answer(number, data)."""
    begin(path, number)
    if action == "sleep":
        time.sleep(amount)
    elif action == "loop":  # in C, with the interpreter locked
        deque(repeat(None, int(amount * 1e8)), maxlen=0)
    elif action == "own error":
        raise OwnError(number)
    elif action == "own base error":
        raise OwnBaseError(number)
    elif action == "exit":
        raise SystemExit(number)
    elif action == "interrupt":
        raise KeyboardInterrupt(number)
    elif action == "leave":
        os._exit(3)
    elif action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "crash":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    elif action == "no pickle":
        return lambda: None
    elif action == "bomb":
        return Bomb()
    elif action == "terminate":
        with contextlib.suppress(ProcessLookupError):
            os.kill(os.getpid(), signal.SIGTERM)
    return answer(number, data)


def run_one(call):
    """Do what run() does, with its arguments in one sequence."""
    return run(*call)


def answer(number, data):
    """What a task returns: large data comes back changed in its first and last byte."""
    if data is None:
        return number, None
    data = bytearray(data)
    data[0] = data[-1] = number % 256
    return number, bytes(data)
