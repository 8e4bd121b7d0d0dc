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
