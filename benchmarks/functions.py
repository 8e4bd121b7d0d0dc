"""The functions that the workers call. A spawned worker imports this module, so it imports almost nothing."""

import time


def nothing(*arguments):
    """Do nothing; return None."""


def echo(item):
    """Return the item."""
    return item


def wait(seconds):
    """Sleep, like a task that waits for a disk or a network. seconds: how long."""
    time.sleep(seconds)


def count(steps):
    """Compute in Python code, and return the sum of the first steps integers."""
    total = 0
    for number in range(steps):
        total += number
    return total


def compute(steps):
    """Compute in Python code, and return None. steps: how long; growth.pace() measures one."""
    for _ in range(steps):
        pass


def element(array, index):
    """Return an element of a large array."""
    return float(array[index])


def read(array, _):
    """Read a large array as a whole, and hold it for a moment, so that all workers have it at the same time."""
    total = float(array.sum())
    time.sleep(0.2)
    return total
