"""Work for a proxy of a manager. Rows of work.py call these functions.

Each function takes a proxy of a dict, and how often to call it.
"""

from .locks import measured


def assign(proxy, count):
    """Set an item."""

    def work(count):
        for number in range(count):
            proxy["key"] = number

    return measured(work, count)


def look_up(proxy, count):
    """Get an item."""
    proxy["key"] = 1

    def work(count):
        for _ in range(count):
            proxy["key"]

    return measured(work, count)
