"""The generators that the tests of Pool.stream run. In a module of its own: spawned workers import it by its name."""

import os
import pickle
import signal
import sys
import time
from pathlib import Path

import numpy

PATIENCE = 30


def count(number):
    yield from range(number)


def squares(number):
    return [value * value for value in range(number)]


def nothing(_):
    return
    yield


def nones(number):
    yield from [None] * number


def pairs(number):
    for value in range(number):
        yield number, value


def returns(value):
    return value


def note(path, text="x"):
    with open(path, "a") as file:
        file.write(text)


def wait_for(path):
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists(path):
        assert time.monotonic() < deadline, f"{path} has not come"
        time.sleep(0.002)


def step_by_step(folder):
    """Yield 0; then 1 when there is a file 0, and so on; at the file 2 end."""
    for step in range(3):
        yield step
        wait_for(Path(folder) / str(step))


def meet(task):
    """Yield the worker's pid; then wait until `others` items have done so."""
    folder, name, others = task
    (Path(folder) / name).write_text("")
    yield os.getpid()
    deadline = time.monotonic() + PATIENCE
    while len(os.listdir(folder)) < others:
        assert time.monotonic() < deadline, "the others do not run at the same time"
        time.sleep(0.002)
    yield os.getpid()


def endless(path):
    """Yield numbers, and note each in the file, before it is yielded."""
    value = 0
    while True:
        note(path)
        yield value
        value += 1


def endless_arrays(path):
    for value in endless(path):
        yield numpy.full(500_000, value, dtype="float64")


def arrays(number):
    for value in range(number):
        yield numpy.full(100_000 + value, value, dtype="float64")


def blobs(number):
    for value in range(number):
        yield bytes([value % 256]) * 100_000


def fail_after(number):
    yield from range(number)
    raise KeyError(number)


def fail_at_odd(number):
    yield number
    if number % 2:
        raise ZeroDivisionError(number)
    yield number


def exit_after(number):
    yield from range(number)
    os._exit(5)


def die_once(path):
    """Yield the number of this attempt; die in the first one."""
    note(path)
    attempt = os.path.getsize(path)
    yield attempt
    if attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    yield "end"


def die_once_before(path):
    note(path)
    if os.path.getsize(path) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    yield "end"


def lambda_after(task):
    path, number = task
    try:
        yield from range(number)
        yield lambda: 0
    finally:
        note(path)


class Unreadable:
    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise OSError("this value cannot be unpickled")


def unreadable_between(_):
    yield 1
    yield Unreadable()
    yield 2


def with_finally(path):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        while True:
            yield 1
    finally:
        note(path)


def pid_and_wait(_):
    yield os.getpid()
    time.sleep(3600)


def pid_only(_):
    yield os.getpid()


def hang(_):
    yield 1
    time.sleep(3600)


def send_part_of_no_stream(value):
    """Send a part, as only a stream does, from a call that is none."""
    frame = sys._getframe()
    while "channel" not in frame.f_locals:
        frame = frame.f_back
    for _ in range(3):
        frame.f_locals["channel"].send_part(pickle.dumps(value))
    return value


class Generator:
    """A generator function that is an object."""

    def __call__(self, number):
        yield from range(number)
