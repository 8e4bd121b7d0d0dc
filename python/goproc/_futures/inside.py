"""What programs use of the inside of concurrent.futures' executor, and the engine's pool does not have.

Used by executor.py, and by the executor of the cluster.
"""

import itertools
import threading
import weakref
from collections import deque

from .future import Future

__all__ = ["Count", "WorkItem", "WorkQueue", "pending_items"]


class Count:
    """A number that several threads add to. Adding needs no lock, so it may be done in a signal handler."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._reads = 0  # how many of the numbers were taken by value()
        self._lock = threading.Lock()

    def add(self, number: int = 1) -> None:
        """Add a number."""
        if number == 1:
            next(self._numbers)
        else:
            deque(itertools.islice(self._numbers, number), 0)

    def value(self) -> int:
        """Return what has been added."""
        with self._lock:
            number = next(self._numbers) - self._reads
            self._reads += 1
        return number


class WorkQueue:
    """A stand-in for a queue of concurrent.futures' executor: the engine's pool has none.

    count: returns how many things would be in it, for a Works.
    """

    def __init__(self, executor, count):
        self._executor = weakref.ref(executor)
        self._count = count

    def qsize(self):
        works = getattr(self._executor(), "_works", None)
        return 0 if works is None else self._count(works)

    def empty(self):
        return not self.qsize()

    def full(self):
        return False

    def close(self):
        pass

    def join_thread(self):
        pass


class _CallOfMap:
    """The stand-in for the future of one call of a map: all calls of a map have one job of the pool."""

    def __init__(self, works, job, index):
        self._works = works
        self._job = job
        self._index = index

    def cancel(self):
        """Withdraw the calls of the map that no worker has begun; return whether this is one of them."""
        self._works.withdraw_pending(self._job)
        self._works.dispatch.poll()
        return self.done()

    def done(self):
        return self._job.outcomes[self._index] is not None

    def running(self):
        return False


class WorkItem:
    """A call that is not done, with the attributes of concurrent.futures' work item.

    future: its Future. fn: the function that is called. args, kwargs are empty: the call has been pickled.
    """

    def __init__(self, future, fn):
        self.future = future
        self.fn = fn
        self.args = ()
        self.kwargs: dict = {}


def pending_items(works) -> "dict[int, WorkItem]":
    """Return a new dict of the work items of the calls that are not done."""
    works.dispatch.poll()
    items = []
    for result in list(works.results.values()):
        if isinstance(result, Future):
            items += [] if result.done() else [WorkItem(result, result._func)]
        else:
            left = [index for index, outcome in enumerate(result.outcomes) if outcome is None]
            items += [WorkItem(_CallOfMap(works, result, index), result.func) for index in left]
    return dict(enumerate(items))
