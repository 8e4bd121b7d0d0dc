"""The objects that Pool's methods return. They derive from the standard library's classes, and wait in another way.

A thread that waits for a result collects the pool's results itself (dispatch.py).
"""

import itertools
from collections import deque
from collections.abc import Generator

from .._common.threads import report_error
from .._native import monotonic
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
_BY_HAND: "Any" = object()  # in the place of func: the program itself makes the result object


class ApplyResult(_standard.ApplyResult):
    """The result of apply_async. Source: multiprocessing.pool.AsyncResult."""

    done = False  # whether the result has come
    _completing = False  # whether its callback runs: the callback may terminate the pool, which calls _fail()
    _callback = _error_callback = None
    _limit = None  # how long each of its tasks may run, in seconds
    _retry = None  # the RetryPolicy of its tasks
    _note = None  # called with each task before it is submitted
    _held: "dict[int, list[Any]]" = {}  # by index: the handles of shared objects in tasks that are not done
    _repeats = None  # the Repeats of a map
    _reading = False  # whether a thread still reads its input
    _watchers = None  # the coroutines that await it (awaiting.py)

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
        """Return whether the result has come. Source: multiprocessing.pool.AsyncResult.ready."""
        if not self.done:
            self._dispatch.poll()
        return self.done

    def wait(self, timeout=None):
        """Wait until the result has come, for at most timeout seconds; None for no limit.

        Source: multiprocessing.pool.AsyncResult.wait.
        """
        if not self.done:
            self._wait(timeout)

    def _wait(self, timeout):
        pool = self._pool
        try:
            self._dispatch.wait(self, timeout)
        except KeyboardInterrupt:
            if pool is not None and pool._cancel_on_interrupt:
                self.cancel()
            raise

    def get(self, timeout=None):
        """Return the result, or raise the exception of the task. timeout: in seconds; None for no limit.

        Raises TimeoutError if the result has not come after timeout seconds. Source:
        multiprocessing.pool.AsyncResult.get.
        """
        if not self.done:
            self._wait(timeout)
            if not self.done:
                raise TimeoutError
        if self._success:
            return self._value
        raise self._value

    @property
    def _event(self):
        return _ResultEvent(self)

    # A signal handler may raise anywhere in the next methods. Then Dispatch repeats the whole call. CPython calls no
    # handler between two assignments without a call or a jump in between.

    def _set(self, i, obj):
        self._success, self._value = obj
        self._complete()

    def _complete(self):
        callback = self._callback if self._success else self._error_callback
        if callback is not None and not self._completing:  # runs in the pool's thread, which calls no signal handler
            self._completing = True
            callback(self._value)
        self.done = True
        self._cache.pop(self._job, None)
        self._pool = self._repeats = None
        self._held = {}
        if self._watchers:
            _notify(self)

    def _fail(self, error):
        if not self._completing:
            self._set(0, (False, error))

    def __await__(self):
        """Wait in asyncio's running loop; return the result, or raise the exception of the task, as get() does.

        If the waiting task of asyncio is cancelled, this result is cancelled, too; asyncio.shield() prevents that.
        """
        from .awaited import result_of

        return result_of(self).__await__()

    def _serve_watchers(self):
        """Have the result delivered to a coroutine that has begun to await it."""
        if (pool := self._pool) is not None:  # else it has just been completed
            pool._check_owner()
            self._dispatch.serve_watchers(self)

    def cancel(self):
        """Withdraw all tasks that are not done, so that get() raises CancelledError.

        Tasks that are not begun never begin. A worker that runs one of the tasks is ended, and replaced: it is sent
        SIGTERM, and SIGKILL if it has not ended after two seconds. Returns True; or False if the result was complete,
        which is then kept.
        """
        pool = self._pool
        if self.ready() or pool is None or not (pool._submitter.cancel(self) or self._reading):
            return False
        pool._dispatch.run(lambda: self._fail(CancelledError("the task was cancelled")))
        return True


class _ResultEvent:
    """A stand-in for the threading.Event of multiprocessing's results."""

    def __init__(self, result):
        self._result = result

    def set(self):
        self._result.done = True

    def is_set(self):
        return self._result.ready()

    _flag = property(is_set)  # programs read it

    def wait(self, timeout=None):
        self._result.wait(timeout)
        return self._result.done


class MapResult(ApplyResult, _standard.MapResult):
    """The result of map_async. Source: multiprocessing.pool.MapResult."""

    _failed = 0  # how many items have failed, for progress.py
    _returning = False  # return_exceptions: whether exceptions are put into the list, in the place of their items

    def __init__(self, pool, chunksize, length, callback, error_callback, func=_BY_HAND):
        if func is _BY_HAND:
            return _make_by_hand(self, "MapResult", pool, chunksize, length, callback, error_callback)
        ApplyResult.__init__(self, pool, callback, error_callback, func)
        self._success = True
        self._input_length = length
        self._value = [None] * length
        self._chunksize = chunksize
        self._left = self._chunks = -(-length // chunksize) if chunksize else 0
        self._received = bytearray(self._chunks)  # 1 for each chunk whose result has come
        self.done = not self._chunks

    @property
    def _number_left(self):
        """How many tasks are not complete. Programs read it to show progress."""
        self.ready()
        return self._left

    def _set(self, i, success_result):
        i, count = i if type(i) is tuple else (i, 1)  # a tuple: several tasks of a divided chunk, answered together
        if not self._received[i]:
            repeats, pool = self._repeats, self._pool  # both are None once it is complete
            if repeats is not None and pool is not None and repeats.again(pool._port, self._job, i, success_result):
                return
            if self._held:
                self._held.pop(i, None)
            success, value = success_result
            if not success and self._returning:
                first = i * self._chunksize
                value = [value] * (min(first + count * self._chunksize, self._input_length) - first)
                success = True
            if self._returning or not success:
                self._count_failed(i, count, success, value)
            if not success:
                if self._success:  # only the first exception is kept
                    self._success, self._value = False, value
            elif self._success:
                self._value[i * self._chunksize : (i + count) * self._chunksize] = value
            self._received[i : i + count] = b"\1" * count
            self._left -= count
        if not self._left:
            self._complete()

    def _count_failed(self, i, count, success, value):
        if not success:
            self._failed += min(count * self._chunksize, self._input_length - i * self._chunksize)
        elif self._returning:
            self._failed += sum(isinstance(item, BaseException) for item in value)

    def _fail_from(self, chunks, error):
        """Fail all chunks from number `chunks` on, which the iterable did not yield."""
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
    """The iterator of imap. Source: multiprocessing.pool.IMapIterator.

    Only the program holds a reference to it; its Iteration (iteration.py) does the work.
    """

    _report = None  # the Report of its progress

    def __init__(
        self,
        pool,
        func=_BY_HAND,
        iterable=None,
        prefetch=None,
        how=ITEM,
        batch=1,
        limit=None,
        may_block=True,
        chunksize=1,
        retry=None,
    ):
        if func is _BY_HAND:
            kind = "IMapUnorderedIterator" if isinstance(self, IMapUnorderedIterator) else "IMapIterator"
            return _make_by_hand(self, kind, pool)
        self._iteration = self._new_iteration()
        self._iteration._chunksize, self._iteration._retry = chunksize, retry
        self._iteration.start(self, pool, next(job_counter), func, iterable, may_block, prefetch, how, batch, limit)

    @staticmethod
    def _new_iteration():
        from .iteration import Iteration  # imported here, as most programs do not use imap

        return Iteration()

    def __getattr__(self, name):
        iteration = self.__dict__.get("_iteration")
        if iteration is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(iteration, "_owner" if name == "_pool" else name)

    @property
    def done(self):
        """Whether next() can return or raise something at once."""
        return self._iteration.done

    def next(self, timeout=None):
        """Return the next result, or raise the exception of its task. timeout: in seconds; None for no limit.

        Raises TimeoutError if the result has not come after timeout seconds, StopIteration at the end.
        """
        report = self._report
        if report is None:
            return self._iteration.next(timeout)
        taken = self._iteration._taken
        if monotonic() >= report.due:
            report.tell(report.taken())
        try:
            return self._iteration.next(timeout)
        except BaseException as error:
            report.has_raised(error, taken)
            raise

    __next__ = next

    def cancel(self):
        """Read no more of the input, and withdraw the tasks that are not done.

        next() still returns the results that have come; then it raises CancelledError once, and the iteration is over.
        Workers that run one of the tasks are ended, as by AsyncResult.cancel. Returns True; or False if all results had
        come already.
        """
        return self._iteration.cancel()

    def __aiter__(self):
        """Return an asynchronous iterator over the results. When it is dropped before its end, cancel() is called.

        So leaving an `async for` early ends the rest of the job.
        """
        from .awaited import Results

        return Results(self)

    async def __anext__(self):
        """Wait in asyncio's running loop; return the next result, or raise the exception of its task.

        If the waiting task of asyncio is cancelled, the rest of the iteration is cancelled, too.
        """
        from .awaited import next_of

        return await next_of(self, self._report)

    async def aclose(self):
        """Call cancel(), for contextlib.aclosing()."""
        self.cancel()

    def _when_dropped(self, results):
        self._iteration.cancel_without(results)


class IMapUnorderedIterator(IMapIterator):
    """The iterator of imap_unordered. Source: multiprocessing.pool.IMapUnorderedIterator."""

    @staticmethod
    def _new_iteration():
        from .unordered import UnorderedIteration

        return UnorderedIteration()


class Items(Generator):
    """The iterator of imap and imap_unordered with a chunksize above 1: it returns the items of the chunks one by one.

    An exception stands for a whole chunk. After it the iteration can go on, unlike multiprocessing's generator.
    """

    _report = None  # the Report of its progress

    def __init__(self, chunks):
        self._chunks = chunks
        self._items: deque = deque()

    def next(self, timeout=None):
        """Return the next item, or raise the exception of its chunk. timeout: in seconds; None for no limit.

        Raises TimeoutError if the item has not come after timeout seconds, StopIteration at the end.
        """
        while True:
            try:
                return self._items.popleft()
            except IndexError:
                if self._chunks is None:
                    raise StopIteration from None
            if self._report is None:
                self._items.extend(self._chunks.next(timeout))
            else:
                self._items.extend(self._report.take_chunk(self._chunks, timeout))

    __next__ = next

    def __aiter__(self):
        """Return an asynchronous iterator; see IMapIterator.__aiter__."""
        from .awaited import Results

        return Results(self)

    async def __anext__(self):
        """Wait in asyncio's running loop for the next item; see IMapIterator.__anext__."""
        from .awaited import next_of

        while True:
            try:
                return self._items.popleft()
            except IndexError:
                if self._chunks is None:
                    raise StopAsyncIteration from None
            self._items.extend(await next_of(self._chunks, self._report))

    async def aclose(self):
        """Call cancel(), for contextlib.aclosing()."""
        self.cancel()

    def _when_dropped(self, results):
        if self._chunks is not None:
            self._chunks._when_dropped(results)

    def send(self, value):
        """Return the next item; value is not used, as with multiprocessing's generator."""
        return self.next()

    def throw(self, kind, value=None, traceback=None):
        """Close, and raise the exception."""
        self.close()
        return super().throw(kind, value, traceback)

    def close(self):
        """Drop the results that have not been taken. Their tasks still run, as when the program drops the iterator."""
        self._chunks, self._items = None, deque()
        if self._report is not None:
            self._report.stop()

    def cancel(self):
        """Read no more of the input, and withdraw the tasks that are not done; see IMapIterator.cancel."""
        return self._chunks is not None and self._chunks.cancel()


def _guarded(callback):
    """Wrap a callback: an exception that it raises is printed, and does not stop the delivery of other results."""
    if not callback:
        return None

    def call(value):
        try:
            callback(value)
        except BaseException as raised:  # also SystemExit: it would end the thread that delivers all results
            report_error(raised)

    return call


def _notify(watched):
    from .._common.awaiting import notify

    notify(watched)


def _make_by_hand(result, kind, pool, *arguments):
    parts.inside.make_result(result, getattr(parts.queue_pool, kind), pool, *arguments)


for _class in ApplyResult, MapResult, IMapIterator, IMapUnorderedIterator:
    _class.__module__ = "goproc.pool"  # their public module
