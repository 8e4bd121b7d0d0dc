"""What Pool's methods return. The classes are the standard library's, with another way to wait: who waits, collects."""

import itertools
import sys
from collections.abc import Generator, Iterator

from ..errors import CancelledError
from . import parts
from .codec import ITEM
from .parts import standard_pool as _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than loading the engine

__all__ = ["ApplyResult", "IMapIterator", "IMapUnorderedIterator", "Items", "MapResult"]

TimeoutError = _standard.TimeoutError

job_counter = itertools.count()
_BY_HAND: "Any" = object()  # marks a result that a program makes itself


class ApplyResult(_standard.ApplyResult):
    """What apply_async returns. Source: multiprocessing.pool.AsyncResult."""

    done = False  # whether the result is there; who waits for it collects
    _completing = False  # its callback may terminate the pool, which fails all results that have not come
    _callback = _error_callback = None
    _limit = None  # how long its tasks may run, in seconds
    _note = None  # is told of each task before it is submitted
    _reading = False  # whether a thread still reads its input

    def __init__(self, pool, callback, error_callback, func=_BY_HAND):
        if func is _BY_HAND:
            return _make_by_hand(self, "ApplyResult", pool, callback, error_callback)
        self._pool = pool
        self._dispatch = pool._dispatch
        self._func = func
        self._cache = pool._results
        self._job = next(job_counter)
        if callback or error_callback:
            self._callback, self._error_callback = _guarded(callback), _guarded(error_callback)
            pool._dispatch.serve()

    def ready(self):
        """Whether the result is there."""
        if not self.done:
            self._dispatch.poll()
        return self.done

    def wait(self, timeout=None):
        """Wait until the result is there, at most timeout seconds; for ever when it is None."""
        if not self.done:
            self._dispatch.wait(self, timeout)

    def get(self, timeout=None):
        """Return the result, or raise what the task raised; TimeoutError if it has not come in timeout seconds."""
        if not self.done:
            self._dispatch.wait(self, timeout)
            if not self.done:
                raise TimeoutError
        if self._success:
            return self._value
        raise self._value

    @property
    def _event(self):
        return _Arrival(self)

    # A signal handler may raise anywhere in here. Then all is done again, from the beginning (dispatch.py). No handler
    # is called between two stores that have no call or jump between them.

    def _set(self, i, obj):
        self._success, self._value = obj
        self._complete()

    def _complete(self):
        callback = self._callback if self._success else self._error_callback
        if callback is not None and not self._completing:  # in the pool's thread, where no signal handler is called
            self._completing = True
            callback(self._value)
        self.done = True
        self._cache.pop(self._job, None)
        self._pool = None

    def _fail(self, error):
        if not self._completing:
            self._set(0, (False, error))

    def cancel(self):
        """Withdraw all that is not done, so that get() raises CancelledError.

        Tasks that wait do not begin. A worker that runs one is ended, and replaced: it is sent SIGTERM, and SIGKILL if
        it has not ended after two seconds. Returns True; False if the result was complete, which then stays.
        """
        pool = self._pool
        if self.ready() or pool is None or not (pool._submitter.cancel(self) or self._reading):
            return False
        pool._dispatch.run(lambda: self._fail(CancelledError("the task was cancelled")))
        return True


class _Arrival:
    """Stands in for the threading.Event of the standard library's results."""

    def __init__(self, result):
        self._result = result

    def set(self):
        self._result.done = True

    def is_set(self):
        return self._result.ready()

    _flag = property(is_set)  # programs look at it

    def wait(self, timeout=None):
        self._result.wait(timeout)
        return self._result.done


class MapResult(ApplyResult, _standard.MapResult):
    """What map_async returns. Source: multiprocessing.pool.MapResult."""

    _returning = False  # return_exceptions: whether exceptions stand in the list, in the place of their items

    def __init__(self, pool, chunksize, length, callback, error_callback, func=_BY_HAND):
        if func is _BY_HAND:
            return _make_by_hand(self, "MapResult", pool, chunksize, length, callback, error_callback)
        ApplyResult.__init__(self, pool, callback, error_callback, func)
        self._success = True
        self._input_length = length
        self._value = [None] * length
        self._chunksize = chunksize
        self._left = self._chunks = -(-length // chunksize) if chunksize else 0
        self._handed = bytearray(self._chunks)  # which of them have come
        self.done = not self._chunks

    @property
    def _number_left(self):
        """How many tasks are not complete: programs look at it to show progress."""
        self.ready()
        return self._left

    def _set(self, i, success_result):
        i, count = i if type(i) is tuple else (i, 1)  # of a divided chunk, several tasks are answered together
        if not self._handed[i]:
            success, value = success_result
            if not success and self._returning:
                first = i * self._chunksize
                value = [value] * (min(first + count * self._chunksize, self._input_length) - first)
                success = True
            if not success:
                if self._success:  # only the first exception is kept
                    self._success, self._value = False, value
            elif self._success:
                self._value[i * self._chunksize : (i + count) * self._chunksize] = value
            self._handed[i : i + count] = b"\1" * count
            self._left -= count
        if not self._left:
            self._complete()

    def _cut(self, chunks, error):
        """Fail: the iterable gave no more than the first chunks."""
        self._returning = False
        for i in range(chunks, self._chunks):
            self._set(i, (False, error))

    def _fail(self, error):
        if self._completing:
            return
        if self._left:
            self._value = error
            self._success = False
            self._left = 0
        self._complete()


class IMapIterator(_standard.IMapIterator):
    """What imap returns. Source: multiprocessing.pool.IMapIterator.

    Only the user holds it. All work is done by its Iteration (iteration.py).
    """

    def __init__(
        self, pool, func=_BY_HAND, iterable=None, prefetch=None, how=ITEM, batch=1, limit=None, waits=True, chunksize=1
    ):
        if func is _BY_HAND:
            kind = "IMapUnorderedIterator" if isinstance(self, IMapUnorderedIterator) else "IMapIterator"
            return _make_by_hand(self, kind, pool)
        self._iteration = self._new_iteration()
        self._iteration._chunksize = chunksize
        self._iteration.start(self, pool, next(job_counter), func, iterable, waits, prefetch, how, batch, limit)

    @staticmethod
    def _new_iteration():
        from .iteration import Iteration  # most programs have no need of it

        return Iteration()

    def __getattr__(self, name):
        iteration = self.__dict__.get("_iteration")
        if iteration is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(iteration, "_owner" if name == "_pool" else name)

    @property
    def done(self):
        """Whether next() has something to return or to raise."""
        return self._iteration.done

    def next(self, timeout=None):
        """Return the next result, or raise what its task raised; TimeoutError if it has not come in timeout seconds."""
        return self._iteration.next(timeout)

    __next__ = next

    def cancel(self):
        """Read no more of the input, and withdraw what has not been done.

        What has come can still be taken; then next() raises CancelledError, once, and the iteration is over. Workers
        that run one of its tasks are ended, as by AsyncResult.cancel. Returns False if everything had come already.
        """
        return self._iteration.cancel()


class IMapUnorderedIterator(IMapIterator):
    """What imap_unordered returns. Source: multiprocessing.pool.IMapUnorderedIterator."""

    @staticmethod
    def _new_iteration():
        from .iteration import UnorderedIteration

        return UnorderedIteration()


class Items(Generator):
    """What imap returns for a chunksize above 1: the items of its chunks, one by one.

    After an exception, which stands for a whole chunk, it goes on, unlike multiprocessing's generator.
    """

    def __init__(self, chunks):
        self._chunks = chunks
        self._items: Iterator = iter(())

    def next(self, timeout=None):
        """Return the next item, or raise what its chunk raised; TimeoutError if it has not come in timeout seconds."""
        for item in self._items:
            return item
        if self._chunks is None:
            raise StopIteration
        self._items = iter(self._chunks.next(timeout))
        return next(self._items)

    __next__ = next

    def send(self, value):
        """Return the next item, as a generator does that makes no use of the value."""
        return self.next()

    def throw(self, kind, value=None, traceback=None):
        """Close, and raise the exception."""
        self.close()
        return super().throw(kind, value, traceback)

    def close(self):
        """Let go of what has not been taken; it is run all the same, as when nobody holds the iterator any more."""
        self._chunks, self._items = None, iter(())

    def cancel(self):
        """Read no more of the input, and withdraw what has not been done; see IMapIterator.cancel."""
        return self._chunks is not None and self._chunks.cancel()


def _guarded(callback):
    """Return a callback that reports what it raises, and does not keep other results from being delivered."""
    if not callback:
        return None

    def call(value):
        try:
            callback(value)
        except BaseException:  # SystemExit, too, would end the thread that delivers everybody's results
            sys.excepthook(*sys.exc_info())

    return call


def _make_by_hand(result, kind, pool, *arguments):
    parts.inside().make_result(result, getattr(parts.queue_pool(), kind), pool, *arguments)


for _class in ApplyResult, MapResult, IMapIterator, IMapUnorderedIterator:
    _class.__module__ = "goproc.pool"  # where programs find them
