"""What the workers call. Its own module, which imports nothing: a spawned worker imports it."""

import time


def nothing(*arguments):
    """Do nothing; return None."""


def echo(item):
    """Return the item."""
    return item


def wait(seconds):
    """Wait, as for a disk or a network."""
    time.sleep(seconds)


def count(steps):
    """Compute, in Python code only."""
    total = 0
    for number in range(steps):
        total += number
    return total
