"""One call of map or starmap: divides its input into tasks, and submits them. Used by engine_pool.py."""

import itertools
import operator
from multiprocessing import util

from .. import _native
from .._common import disabled
from .codec import MAP, STARMAP, by_name, once, returning
from .failures import interrupts
from .inputs import COLLECTIONS, MapReader, call
from .repeats import with_buffers, with_buffers_in
from .results import MapResult
from .submitter import CHUNK_BYTES, CHUNK_ITEMS, batch_size, plain_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than loading the engine

__all__ = ["Kind", "submit"]


class Kind:
    """The arguments of a map, besides its iterable and its callbacks.

    star: whether it is starmap. chunksize: as given by the caller. limit: how long each task may run, in seconds; None
    for no limit. returning: return_exceptions, whether exceptions are put into the list of results. retry: the
    RetryPolicy of each task, None for none.
    """

    __slots__ = ("func", "star", "chunksize", "limit", "returning", "retry")

    def __init__(self, func, star, chunksize, limit, returning, retry):
        self.func = func
        self.star = star
        self.chunksize = 1 if limit is not None and chunksize is None else chunksize
        self.limit = limit
        self.returning = returning
        self.retry = retry


def submit(pool, kind, iterable, callback, error_callback, in_thread):
    """Submit the tasks of a map; return its MapResult. in_thread: whether a thread reads an iterable that may block."""
    func, chunksize, limit = kind.func, kind.chunksize, kind.limit
    one_by_one = pool._one_by_one or limit is not None or kind.retry is not None
    if chunksize is None and one_by_one:
        chunksize = 1
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
    result._returning, result._retry = kind.returning, kind.retry
    chunks: Any = (chunk for _, chunk in pool._get_tasks(func, iterable, chunksize)) if chunksize else ()
    chunks = itertools.islice(chunks, result._chunks)  # the iterable may yield more items than its len() says
    size = batch_size(iterable, chunksize) if not one_by_one else 1
    if result.done:
        return result
    in_thread = in_thread and type(iterable) not in COLLECTIONS
    tasks = _Tasks(pool, result, kind, items, chunks, chunksize, size)
    if in_thread:
        with _native.held_signals:
            pool._results[result._job] = result
            result._reading = True
            try:
                MapReader(pool, lambda: tasks.submit(True)).start()
            except RuntimeError as error:
                util.info("no thread can be started, so the caller reads the input of this map: %s", error)
                in_thread = result._reading = False
    if not in_thread:
        tasks.submit(False)
    return result


def _divisible(pool, func, iterable, chunksize):
    """Return the items of a map as a list if its chunks may be divided; else None.

    Chunks may be divided if the caller gave no chunksize. Then idle workers take items that a slow worker has not
    begun.
    """
    if type(iterable) not in COLLECTIONS or not 1 < chunksize <= CHUNK_ITEMS or "divided-chunks" in disabled:
        return None
    if pool._maxtasksperchild is not None or type(by_name(func, pool._submitter.form)) is not str:
        return None  # a program could notice: each task counts for maxtasksperchild, or func is pickled more often
    items = list(iterable)
    for some in items[:8], items:  # the first few items are enough to refuse most inputs
        size = plain_size(some, len(some))
        if size is None or size * chunksize > CHUNK_BYTES * len(some):
            return None
    return items


class _Tasks:
    """The tasks of a map, either items or chunks.

    items: the list of all items, if the chunks of chunksize items may be divided; else None. chunks: an iterator of
    chunks, for the other case. size: how many chunks are submitted in one batch.
    """

    def __init__(self, pool, result, kind, items, chunks, chunksize, size):
        self._pool = pool
        self._result = result
        self._limit = kind.limit
        form = pool._submitter.form
        self._name = returning(kind.func, form) if kind.returning else once(kind.func, form)
        self._how = STARMAP if kind.star else MAP
        self._items = items
        self._chunks = chunks
        self._chunksize = chunksize
        self._size = size
        self._index = 0  # how many tasks have been submitted

    def submit(self, in_thread):
        """Submit all tasks. in_thread: whether this runs in a thread of goproc's own, which must raise nothing."""
        pool, result = self._pool, self._result
        try:
            pool._results[result._job] = result
            if self._items is None and result._chunks > 1 and "repeats" not in disabled:
                self._name = with_buffers(self._name)
                result._repeats = pool._Repeats(self._name, pool._pool)
            if self._items is not None:
                self._submit_items()
            elif self._size == 1:
                self._submit_chunks(in_thread)
            else:
                self._submit_batches()
        except BaseException as reason:
            if interrupts(reason) and not in_thread:
                pool._submitter.forget(result)
                raise
            error = reason
            pool._dispatch.run(lambda: result._fail_from(self._index, error))
        else:
            if self._index < result._chunks and not result.done:
                error = ValueError(f"the iterable gave fewer than the {result._input_length} items of its length")
                pool._dispatch.run(lambda: result._fail_from(self._index, error))
        result._reading = False

    def _submit_items(self):
        items, submitter = self._items, self._pool._submitter
        while self._index < len(items):
            chunk = items[self._index : self._index + self._chunksize]
            submitter.submit_batch(self._result, self._index, self._name, chunk, self._how, True)
            self._index += len(chunk)

    def _submit_chunks(self, in_thread):
        submitter, result = self._pool._submitter, self._result
        for chunk in self._chunks:
            if in_thread and result.done:  # the map has been cancelled
                submitter.cancel(result)
                return
            if self._limit is not None:
                submitter.limit(result, self._index, self._limit)
            if self._how == STARMAP and result._repeats is not None:
                chunk = with_buffers_in(chunk)
            submitter.submit(result, self._index, call(self._name, chunk, self._how))
            self._index += 1

    def _submit_batches(self):
        repeats = self._result._repeats
        while batch := list(itertools.islice(self._chunks, self._size)):
            if self._how == STARMAP and repeats is not None:
                batch = list(map(with_buffers_in, batch))
            self._pool._submitter.submit_batch(self._result, self._index, self._name, batch, self._how)
            self._index += len(batch)
