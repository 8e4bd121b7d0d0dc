"""One call of imap: reads the input, submits the tasks, and keeps results until they are taken.

    the program ──▶ IMapIterator (results.py) ──▶ Iteration ◀── the pool's results, by job; the reading thread

The pool holds an Iteration until all its results have come. Only the program holds the IMapIterator. When the program
has dropped it, no result can be taken any more. Then the rest of the input is read and run, as with multiprocessing,
and the results are dropped. docs/design/imap.md says why. Used by results.py.
"""

import itertools
import threading
from collections import deque
from multiprocessing.context import TimeoutError

from .. import _native
from .._common.threads import OwnThread, deadline_after
from .._native import take_result
from ..errors import CancelledError
from .codec import once
from .failures import interrupts
from .inputs import MUTABLE, call, iterator_of
from .references import IteratorRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # as in results.py

__all__ = ["Iteration"]


#: _MOST_BYTES: the most bytes that the arguments of submitted tasks may have until the tasks are done, unless prefetch
#: is given. _LEAST_TASKS: how many tasks each worker may always have, of any size: one that runs, and one that waits.
_MOST_BYTES, _LEAST_TASKS = 1 << 20, 2

#: Tasks with arguments of fewer bytes are bounded by their number alone.
_NOTED_BYTES = 1024


class Iteration:
    """One call of imap. start() begins it; if a signal handler interrupts start(), the iteration is withdrawn.

    The input is read as results are taken. A collection cannot block, so the thread that takes the results reads it.
    Any other input may block, or may itself wait for a result. So a separate thread reads it, as in multiprocessing.
    """

    _owner: "Any" = None  # the pool, until all results have come
    _iterator_ref: "Any" = None  # the weak reference to the IMapIterator, until all results have come
    _chunksize = 1  # the number of items in one task
    _retry = None  # the RetryPolicy of its tasks
    _cancelling = False
    _special = False  # whether _set() must do more with a result than keep it: see _set_special()
    _watchers = None  # the coroutines that wait for its next result (../_common/awaiting.py)
    taken_at_once = 0  # how many results a coroutine has taken without having to wait
    _report: "Any" = None  # a weak reference to what counts the results that are taken (progress.py)
    _dropped = False  # whether the program has dropped the IMapIterator
    _error_at = None  # the index of the result that is the exception of reading the input
    _repeats = None  # as of a map
    _held: "dict[int, list[Any]]" = {}  # as of the pool's results
    _starved = False  # whether reading has stopped until tasks with large arguments are done

    def start(self, iterator, pool, job, func, iterable, may_block, prefetch, how, batch, limit):
        """Begin. iterator: the IMapIterator. may_block: whether reading the iterable may block. how: ITEM or MAP.

        prefetch: the most tasks that are submitted and whose results are not taken; None for as many as keep the
        workers busy. batch: how many items are read before they are submitted. limit: how long each task may run, in
        seconds; None for no limit.
        """
        self._dispatch = pool._dispatch
        # A mutable collection is copied, so that later changes do not show: multiprocessing has mostly read it by then.
        self._iterator = iterator_of(list(iterable) if not may_block and type(iterable) in MUTABLE else iterable)
        self._results_refs: list = []  # weak references to the Results of each `async for`
        self._job = job
        self._func = func
        self._name = once(func, pool._submitter.form)  # what stands for func in the tasks
        self._how = how
        self._batch = batch
        self._cache = pool._results
        self._ready: dict = {}  # by index: results that have come, and have not been taken
        self._received = 0  # how many results have come
        self._last = None  # the index of the result that has come last
        self._length = None  # how many results there will be; None until that is known
        self._prefetch = 128 * pool._processes if prefetch is None else prefetch
        self._half = self._prefetch // 2
        self._most_bytes = _MOST_BYTES if prefetch is None else float("inf")
        self._least = _LEAST_TASKS * pool._processes
        self._sizes: dict = {}  # by index: the bytes of the arguments of tasks that are not done, if they are large
        self._bytes = 0  # the sum of _sizes
        self._limit = limit
        self._cancel_on_interrupt = pool._cancel_on_interrupt
        self._fed = self._taken = 0  # how many tasks have been submitted, and results taken
        self._feeding = _native.Turn()
        self._read_ahead: list = []  # items that have been read, and not submitted
        self._room: Any = None  # a lock that the reading thread waits for; released when it may read more
        try:
            with _native.held_signals:
                self._owner = pool
                self._iterator_ref = IteratorRef(iterator, pool._port.post)
                self._iterator_ref.then = self._drop
                self._cache[job] = self
                pool._feeders.add(self)
                if may_block:
                    self._room = threading.Lock()
                    self._reader = OwnThread("goproc-imap", self._read)
                    self._reader.start()
            if not may_block:
                self._feed()
        except BaseException:
            self._withdraw()
            raise

    def _withdraw(self):
        """End this iteration, which no caller will get: start() has failed, or a signal handler has interrupted it."""
        pool = self._owner
        self._cancelling = True
        self._iterator = self._iterator_ref = None
        self._results_refs.clear()
        self._make_room()
        if pool is not None:
            pool._submitter.forget(self)
            self._stop_feeding(pool)

    def _drop(self):
        """Read and run the rest, and drop all results: the IMapIterator is gone. Called by the collector."""
        if self._owner is not None:
            self._dropped = self._special = True
            self._ready.clear()
            self._taken = self._received
            self._feed_soon()

    @property
    def done(self):
        """Whether next() can return or raise something at once."""
        return self._next_index() is not None or self._taken == self._length

    def _next_index(self):
        """Return the index of the result to take next, None if it has not come."""
        return self._taken if self._taken in self._ready else None

    @property
    def _index(self):
        """How many results have come in a row, from the first on. Programs read it."""
        self._dispatch.poll()
        index = self._taken
        while index in self._ready:
            index += 1
        return index

    @property
    def _cond(self):
        """A condition for programs that read the results under the iterator's condition. It is never notified."""
        return threading.Condition()

    @property
    def _items(self):
        """The results that can be taken one after the other. Programs read how many there are."""
        index = self._index
        return deque(self._ready[i] for i in range(self._taken, index))

    @property
    def _unsorted(self):
        """The results that have come before their turn, by index."""
        index = self._index
        return {i: result for i, result in self._ready.items() if i >= index}

    def next(self, timeout=None):
        """See IMapIterator.next."""
        index = self._next_index()
        result = None if index is None else take_result(self, index)
        if result is None:
            result = self._wait_for_result(timeout)
        success, value = result
        if self._iterator is not None:
            self._read_on()
        if success:
            return value
        raise value

    def take_now(self):
        """Take the next result, (success, value); None if it has not come. Raises StopAsyncIteration at the end."""
        index = self._next_index()
        result = None if index is None else take_result(self, index)
        if result is None:
            if index is None and self._taken == self._length:
                raise StopAsyncIteration
        elif self._iterator is not None:
            self._read_on()
        return result

    def _read_on(self):
        """Read more of the input, if there is room after a result was taken."""
        if self._fed - self._taken <= self._half and (not self._sizes or self._is_hungry()):
            if self._room is None:
                self._feed()
            else:
                self._make_room()

    def _wait_for_result(self, timeout):
        """Wait for a result that no other thread takes, and take it."""
        deadline = None if timeout is None else deadline_after(timeout)
        if self._report is not None and (report := self._report()) is not None:
            report.wait(timeout)
        while True:
            if self._taken != self._length:
                try:
                    self._dispatch.wait(self, timeout)
                except KeyboardInterrupt:
                    if self._cancel_on_interrupt:
                        self.cancel()
                    raise
            index = self._next_index()
            if index is None:
                if self._taken == self._length:
                    raise StopIteration from None
            elif (result := take_result(self, index)) is not None:
                return result
            if deadline is not None and (timeout := deadline - _native.monotonic()) <= 0:
                raise TimeoutError from None

    def cancel(self):
        """See IMapIterator.cancel."""
        self._dispatch.poll()
        pool = self._owner
        read = self._length is not None
        if pool is None or self._received == self._length:
            return False
        self._cancelling = True  # another thread that is submitting tasks now withdraws them itself
        if not read:
            self._iterator = None
        if not pool._submitter.cancel(self) and read:
            return False
        self._dispatch.run(lambda: self._fail(CancelledError("the iteration was cancelled")))
        return True

    def cancel_without(self, results):
        """Have the collector call cancel() when an object is dropped before the end, in the same way as _drop()."""
        pool = self._owner
        if pool is not None:
            ref = IteratorRef(results, pool._port.post)
            ref.then = self.cancel
            self._results_refs.append(ref)
            if self._owner is None:  # it has just been completed
                self._results_refs.clear()

    def _serve_watchers(self):
        """Have results delivered to a coroutine that has begun to wait for the next one."""
        pool = self._owner
        if pool is not None:
            pool._check_owner()
            self._dispatch.serve_watchers(self)

    def _notify(self):
        from .._common.awaiting import notify

        notify(self)

    # As in ApplyResult: if a signal handler raises in one of these methods, Dispatch repeats the call.

    def _set(self, i, obj):
        if self._held:
            self._held.pop(i, None)
        if self._special:
            self._set_special(i, obj)
        elif i >= self._taken and i not in self._ready:
            self._ready[i] = obj
            self._received += 1
        if self._received == self._length:
            self._complete()
        if self._watchers and self.done:
            self._notify()

    def _set_special(self, i, obj):
        """Do what _set() does, when results are dropped, or when sizes of arguments are noted."""
        if self._sizes:
            self._bytes -= self._sizes.pop(i, 0)
        if self._dropped:
            if i != self._last:
                self._last = i
                self._received += 1
                self._taken = self._received
        else:
            self._keep(i, obj)
        if (self._dropped or self._starved) and self._iterator is not None and self._is_hungry():
            self._feed_soon()

    def _keep(self, i, obj):
        if i >= self._taken and i not in self._ready:
            self._ready[i] = obj
            self._received += 1

    def _complete(self):
        if self._received == self._length:
            self._cache.pop(self._job, None)
            self._results_refs.clear()
            self._iterator_ref = self._owner = None
            if self._watchers:
                self._notify()

    def _fail(self, error):
        pool = self._owner
        self._iterator = None
        if self._received != self._length:
            self._fail_next(error)
        self._make_room()
        if pool is not None:
            self._stop_feeding(pool)
        self._complete()  # last, so that an interrupted _fail() can be repeated

    def _fail_next(self, error):
        last = self._taken
        while last in self._ready:
            last += 1
        self._fail_at(last, last + 1, error)

    def _fail_at(self, index, length, error):
        """End with an exception as the result at index. length: the number of results, with the exception."""
        self._error_at = None
        self._ready[index] = (False, error)
        self._length = self._received = length

    def _ahead(self):
        """Return how many tasks have been submitted whose results have not been taken."""
        return self._fed - self._taken

    def _is_hungry(self):
        """Whether to read more: at most half of the allowed tasks and bytes are submitted and not done."""
        return self._ahead() <= self._half and not self._is_full(self._most_bytes // 2)

    def _is_full(self, most):
        """Whether arguments of `most` bytes are submitted and not done, in at least as many tasks as workers need."""
        return self._bytes >= most and self._fed - self._received >= self._least

    def _feed(self):
        """Read and submit until enough tasks are submitted and not done."""
        with self._feeding as depth:
            if depth != 1:
                return
            try:
                self._feed_in_turn()
            except ValueError:
                pool = self._owner
                if pool is not None and not pool._crew.terminated:  # a terminated pool raises it, and cancels all tasks
                    raise

    def _feed_in_turn(self):
        pool, how = self._owner, self._how
        func = self._name
        items = self._read_ahead
        self._starved = False
        while (iterator := self._iterator) is not None and (room := self._prefetch - self._ahead()) > 0:
            if self._is_full(self._most_bytes):
                self._starved = True
                if self._is_full(self._most_bytes):  # again: a result that came in between may not have seen _starved
                    break
            # The first item is read alone, and so is each item while tasks with large arguments are not done.
            size = min(self._batch, room) if self._fed and not self._sizes else 1
            error = None
            try:
                items.extend(itertools.islice(iterator, max(0, size - len(items))))
            except BaseException as reason:
                if self._room is None and interrupts(reason):
                    raise  # this is the thread that takes the results: next() raises it
                error = reason
            ended = error is not None or len(items) < size
            with _native.held_signals:  # a signal handler must not raise between submitting and counting
                if self._batch > 1:
                    pool._submitter.submit_batch(self, self._fed, func, items[:], how)
                elif items:
                    if self._limit is not None:
                        pool._submitter.limit(self, self._fed, self._limit)
                    pool._submitter.submit(self, self._fed, call(func, items[0], how))
                self._fed += len(items)
                items.clear()
            if ended:
                self._end(error)
            error = None
        if self._cancelling and pool is not None:
            pool._submitter.cancel(self)

    def _note(self, index, stream, buffers):
        """Note the size of the arguments of a task that is about to be submitted, as encode() gives them."""
        size = len(stream) if type(stream) is bytes else sum(map(len, stream))
        if buffers:
            size += sum(memoryview(buffer).nbytes for buffer in buffers)
        if size >= _NOTED_BYTES:
            self._special = True
            self._sizes[index] = size
            self._bytes += size

    def _feed_soon(self):
        """Let the reading thread call _feed(); call it here if there is no such thread."""
        if self._room is None:
            self._feed()
        else:
            self._make_room()

    def _make_room(self):
        """Let the reading thread check whether it may read more. The garbage collector may call this at any point."""
        if self._room is not None:
            try:
                self._room.release()
            except RuntimeError:
                pass  # it is going to check already

    def _end(self, error):
        """Note that there is no more input. error: what reading it has raised, None at its regular end."""
        self._iterator = None
        self._dispatch.run(lambda: self._ended(error))

    def _ended(self, error):
        pool = self._owner
        if pool is None:
            return  # the iteration has failed
        if self in pool._feeders:
            if error is None:
                self._length = self._fed
            else:
                self._length = self._fed + 1
                self._error_at = self._fed
                self._set(self._fed, (False, error))
            self._complete()
        self._stop_feeding(pool)

    def _stop_feeding(self, pool):
        pool._feeders.discard(self)
        pool._close_when_fed()

    def _read(self):
        """Call _feed() whenever there is room: the main function of the reading thread."""
        self._room.acquire()
        while self._iterator is not None:
            self._feed()
            if self._iterator is not None:
                self._room.acquire()

    def _read_all(self):
        """Read all the input, whatever prefetch says: the pool is being joined."""
        self._prefetch = self._half = float("inf")
        if self._room is None:
            self._feed()
        else:
            self._make_room()
            self._reader.join()
