"""One call of map or starmap: how its input becomes tasks."""

import itertools
import operator
from multiprocessing import util

from .. import _native
from .._common import disabled
from .codec import MAP, STARMAP, by_name, returning
from .failures import interrupts
from .inputs import COLLECTIONS, MapReader, call
from .results import MapResult
from .submitter import CHUNK_BYTES, CHUNK_ITEMS, batch_size, plain_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than loading the engine

__all__ = ["Kind", "submit"]


class Kind:
    """What kind of map it is.

    star: whether it is starmap. chunksize: as given by the caller. limit: how long each task may run, in seconds; None
    for ever. returning: whether exceptions stand in the list of results.
    """

    __slots__ = ("func", "star", "chunksize", "limit", "returning")

    def __init__(self, func, star, chunksize, limit, returning):
        self.func = func
        self.star = star
        self.chunksize = 1 if limit is not None and chunksize is None else chunksize
        self.limit = limit
        self.returning = returning


def submit(pool, kind, iterable, callback, error_callback, apart):
    """Submit the tasks of a map, and return its MapResult. apart: if the iterable may block, have a thread read it."""
    func, chunksize, limit = kind.func, kind.chunksize, kind.limit
    if not hasattr(iterable, "__len__"):
        iterable = list(iterable)
    length, items = len(iterable), None
    if chunksize is None:
        chunksize, extra = divmod(length, pool._processes * 4)
        if extra:
            chunksize += 1
        items = _divisible(pool, func, iterable, chunksize)
    else:
        chunksize = operator.index(chunksize)
        if chunksize < 1 and length:
            raise ValueError("Chunksize must be 1+, not {0:n}".format(chunksize))
    if length == 0:
        chunksize = 0
    result = MapResult(pool, chunksize if items is None else 1, length, callback, error_callback, func)
    result._returning = kind.returning
    chunks: Any = (chunk for _, chunk in pool._get_tasks(func, iterable, chunksize)) if chunksize else ()
    chunks = itertools.islice(chunks, result._chunks)  # its iterator may give more than its length
    size = batch_size(iterable, chunksize) if limit is None else 1
    if result.done:
        return result
    apart = apart and type(iterable) not in COLLECTIONS
    tasks = _Tasks(pool, result, kind, items, chunks, chunksize, size)
    if apart:
        with _native.held_signals:
            pool._results[result._job] = result
            result._reading = True
            try:
                MapReader(pool, lambda: tasks.submit(True)).start()
            except RuntimeError as error:
                util.info("the input of a map is read by its caller: %s", error)
                apart = result._reading = False
    if not apart:
        tasks.submit(False)
    return result


def _divisible(pool, func, iterable, chunksize):
    """Return the items of a map as a list if its chunks, whose size nobody has given, may be divided; else None.

    Then idle workers take over a part of what a slow one has not begun.
    """
    if type(iterable) not in COLLECTIONS or not 1 < chunksize <= CHUNK_ITEMS or "divided-chunks" in disabled:
        return None
    if pool._maxtasksperchild is not None or type(by_name(func)) is not str:
        return None  # the number of tasks, or how often func is pickled, would show
    items = list(iterable)
    for some in items[:8], items:  # most inputs are refused by the first few
        size = plain_size(some, len(some))
        if size is None or size * chunksize > CHUNK_BYTES * len(some):
            return None
    return items


class _Tasks:
    """The tasks of a map: either items, whose chunks may be divided, or chunks, of which size travel together."""

    def __init__(self, pool, result, kind, items, chunks, chunksize, size):
        self._pool = pool
        self._result = result
        self._limit = kind.limit
        self._name = returning(kind.func) if kind.returning else by_name(kind.func)
        self._how = STARMAP if kind.star else MAP
        self._items = items
        self._chunks = chunks
        self._chunksize = chunksize
        self._size = size
        self._index = 0  # how many have been submitted

    def submit(self, apart):
        """Submit all. apart: in a thread of its own, which raises nothing."""
        pool, result = self._pool, self._result
        try:
            pool._results[result._job] = result
            if self._items is not None:
                self._submit_items()
            elif self._size == 1:
                self._submit_chunks(apart)
            else:
                self._submit_batches()
        except BaseException as reason:
            if interrupts(reason) and not apart:
                pool._submitter.forget(result)
                raise
            error = reason
            pool._dispatch.run(lambda: result._cut(self._index, error))
        else:
            if self._index < result._chunks and not result.done:
                error = ValueError(f"the iterable gave fewer than the {result._input_length} items of its length")
                pool._dispatch.run(lambda: result._cut(self._index, error))
        result._reading = False

    def _submit_items(self):
        items, submitter = self._items, self._pool._submitter
        while self._index < len(items):
            chunk = items[self._index : self._index + self._chunksize]
            submitter.submit_batch(self._result, self._index, self._name, chunk, self._how, True)
            self._index += len(chunk)

    def _submit_chunks(self, apart):
        submitter, result = self._pool._submitter, self._result
        for chunk in self._chunks:
            if apart and result.done:  # it has been cancelled
                submitter.cancel(result)
                return
            if self._limit is not None:
                submitter.limit(result, self._index, self._limit)
            submitter.submit(result, self._index, call(self._name, chunk, self._how))
            self._index += 1

    def _submit_batches(self):
        while batch := list(itertools.islice(self._chunks, self._size)):
            self._pool._submitter.submit_batch(self._result, self._index, self._name, batch, self._how)
            self._index += len(batch)
