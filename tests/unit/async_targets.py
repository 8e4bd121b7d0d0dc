"""Functions that test_async.py runs in other processes."""

import asyncio
import os
import time
from pathlib import Path


def square(number):
    return number * number


def add(a, b):
    return a + b


def fail(text):
    raise ValueError(text)


def begin_and_hang(path):
    """Note in the file that this call has begun, and run for ever."""
    with open(path, "a") as file:
        file.write("begun\n")
    while True:
        time.sleep(60)


def note(path, number):
    """Note in the file that this call has begun."""
    with open(path, "a") as file:
        file.write(f"{number}\n")
    return number


def return_when(path, value):
    """Return value when the file is there."""
    while not Path(path).exists():
        time.sleep(0.005)
    return value


def kill_itself(_):
    os.kill(os.getpid(), 9)


async def _twice(number):
    await asyncio.sleep(0)
    return 2 * number


def run_a_loop(connection):
    """Run a coroutine in this process, and send its result."""
    connection.send(asyncio.run(_twice(21)))


def exit_with(status):
    raise SystemExit(status)


def count_to(number):
    yield from range(number)


def count_to_and_fail(number):
    yield from range(number)
    raise ValueError("no more")


def count_for_ever(first):
    del first
    number = 0
    while True:
        yield number
        number += 1
