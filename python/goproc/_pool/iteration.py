"""One call of imap: what has been read of its input, which results have come, and which have been taken.

    the user ──▶ IMapIterator (results.py) ──▶ Iteration ◀── the pool's results, by job; the thread that reads

The pool holds an Iteration until all of its results have come. Only the user holds the IMapIterator. When it is gone
nobody will take results any more. Then the rest of the input is read and run, as with multiprocessing, and the results
are dropped. Used by results.py.
"""

import itertools
import threading
import weakref
from collections import deque
from multiprocessing.context import TimeoutError

from .. import _native
from .._common.threads import OwnThread
from ..errors import CancelledError
from .codec import by_name
from .failures import interrupts
from .inputs import MUTABLE, call, iterator_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # as in results.py

__all__ = ["Iteration", "UnorderedIteration"]


#: The bounds on tasks that are on their way, unless prefetch is given: how many bytes their arguments may have, and how
#: many tasks of any size each worker may have all the same: one that runs, and one that waits.
_MOST_BYTES, _LEAST_TASKS = 1 << 20, 2

#: Tasks with arguments of fewer bytes are bounded by their number alone.
_NOTED_BYTES = 1024


class Iteration:
    """One call of imap. Making it does nothing; start() begins, and ends it again if a signal handler interrupts that.

    It reads its input as its results are taken. The thread that takes them reads an input that is a collection, which
    cannot block. Any other input may block, or wait for a result itself. So a thread reads it, as in multiprocessing.
    """

    _owner: "Any" = None  # the pool, until all results have come
    _hold: "Any" = None  # the weak reference to the IMapIterator, until then
    _chunksize = 1  # how many items make a task
    _cancelling = False
    _special = False  # whether something is to be done with each result besides keeping it
    _dropped = False  # whether nobody will take results any more
    _error_at = None  # which result is what reading the input has raised
    _starved = False  # whether it reads no more until tasks with large arguments are done

    def start(self, iterator, pool, job, func, iterable, waits, prefetch, how, batch, limit):
        """Begin. iterator: the IMapIterator. waits: whether reading the iterable may block. how: ITEM or MAP.

        prefetch: at most how many tasks are on their way or not taken, None for as many as keep the workers busy.
        batch: how many items are read before they are submitted.
        """
        self._dispatch = pool._dispatch
        # Later changes of the collection need not show: multiprocessing has mostly read all by then.
        self._iterator = iterator_of(list(iterable) if not waits and type(iterable) in MUTABLE else iterable)
        self._job = job
        self._func = func
        self._how = how
        self._batch = batch
        self._cache = pool._results
        self._ready: dict = {}  # results that have come, and have not been taken
        self._come = 0  # how many have come
        self._last = None  # which one has come last
        self._length = None  # how many there will be, when that is known
        self._prefetch = 128 * pool._processes if prefetch is None else prefetch
        self._half = self._prefetch // 2
        self._most_bytes = _MOST_BYTES if prefetch is None else float("inf")
        self._least = _LEAST_TASKS * pool._processes
        self._sizes: dict = {}  # of the arguments of tasks that are on their way, if they are large
        self._bytes = 0  # their sum
        self._limit = limit
        self._fed = self._taken = 0  # how many tasks have been submitted, and results taken
        self._feeding = _native.Turn()
        self._read_ahead: list = []  # items that have been read, and are to be submitted
        self._room: Any = None  # a lock, released when there may be room for what the reader reads
        try:
            with _native.held_signals:
                self._owner = pool
                self._hold = _Hold(iterator, pool._port.post)
                self._hold.iteration = self
                self._cache[job] = self
                pool._feeders.add(self)
                if waits:
                    self._room = threading.Lock()
                    self._reader = OwnThread("goproc-imap", self._read)
                    self._reader.start()
            if not waits:
                self._feed()
        except BaseException:
            self._withdraw()
            raise

    def _withdraw(self):
        """End this iteration, which nobody gets: start() has failed, or a signal handler has interrupted it."""
        pool = self._owner
        self._cancelling = True
        self._iterator = self._hold = None
        self._make_room()
        if pool is not None:
            pool._submitter.forget(self)
            self._fed_all(pool)

    def _drop(self):
        """Run what is left, and keep no results: nobody holds the IMapIterator any more. Called by the collector."""
        if self._owner is not None:
            self._dropped = self._special = True
            self._ready.clear()
            self._taken = self._come
            self._feed_soon()

    @property
    def done(self):
        """Whether next() has something to return or to raise."""
        return self._next_index() is not None or self._taken == self._length

    def _next_index(self):
        """Return which result can be taken next, None if it has not come."""
        return self._taken if self._taken in self._ready else None

    @property
    def _index(self):
        """How many results have come that can be taken one after the other; programs look at it."""
        self._dispatch.poll()
        index = self._taken
        while index in self._ready:
            index += 1
        return index

    @property
    def _cond(self):
        """For programs that look at the results under the iterator's condition. Nobody notifies it."""
        return threading.Condition()

    @property
    def _items(self):
        """The results that can be taken one after the other; programs look at how many there are."""
        index = self._index
        return deque(self._ready[i] for i in range(self._taken, index))

    @property
    def _unsorted(self):
        """The results that have come before their turn, by index."""
        index = self._index
        return {i: result for i, result in self._ready.items() if i >= index}

    def next(self, timeout=None):
        """Return the next result, or raise what its task raised; TimeoutError if it has not come in timeout seconds."""
        index = self._next_index()
        if index is None:
            if self._taken != self._length:
                self._dispatch.wait(self, timeout)
            index = self._next_index()
            if index is None:
                if self._taken == self._length:
                    raise StopIteration from None
                raise TimeoutError from None
        success, value = self._take(index)
        if (
            self._iterator is not None
            and self._fed - self._taken <= self._half
            and (not self._sizes or self._is_hungry())
        ):
            if self._room is None:
                self._feed()
            else:
                self._make_room()
        if success:
            return value
        raise value

    def cancel(self):
        """See IMapIterator.cancel."""
        self._dispatch.poll()
        pool = self._owner
        read = self._length is not None
        if pool is None or self._come == self._length:
            return False
        self._cancelling = True  # what another thread submits just now is withdrawn by it
        if not read:
            self._iterator = None
        if not pool._submitter.cancel(self) and read:
            return False
        self._dispatch.run(lambda: self._fail(CancelledError("the iteration was cancelled")))
        return True

    # As in ApplyResult: what a signal handler interrupts is done again.

    def _take(self, index):
        result = self._ready[index]
        self._taken += 1
        del self._ready[index]
        return result

    def _set(self, i, obj):
        if self._special:
            self._set_special(i, obj)
        elif i >= self._taken and i not in self._ready:
            self._ready[i] = obj
            self._come += 1
        if self._come == self._length:
            self._complete()

    def _set_special(self, i, obj):
        """As _set, when results are dropped, or the size of arguments is known."""
        if self._sizes:
            self._bytes -= self._sizes.pop(i, 0)
        if self._dropped:
            if i != self._last:
                self._last = i
                self._come += 1
                self._taken = self._come
        else:
            self._keep(i, obj)
        if (self._dropped or self._starved) and self._iterator is not None and self._is_hungry():
            self._feed_soon()

    def _keep(self, i, obj):
        if i >= self._taken and i not in self._ready:
            self._ready[i] = obj
            self._come += 1

    def _complete(self):
        if self._come == self._length:
            self._cache.pop(self._job, None)
            self._hold = self._owner = None

    def _fail(self, error):
        pool = self._owner
        self._iterator = None
        if self._come != self._length:
            self._fail_next(error)
        self._make_room()
        if pool is not None:
            self._fed_all(pool)
        self._complete()  # last: what is complete is not failed again

    def _fail_next(self, error):
        last = self._taken
        while last in self._ready:
            last += 1
        self._fail_at(last, last + 1, error)

    def _fail_at(self, index, length, error):
        """End with an exception, as the result of that index; length: how many results there are then."""
        self._error_at = None
        self._ready[index] = (False, error)
        self._length = self._come = length

    def _is_hungry(self):
        """Whether more is to be read: when at most half of what is allowed is on its way."""
        return self._fed - self._taken <= self._half and not self._is_full(self._most_bytes // 2)

    def _is_full(self, most):
        """Whether arguments of `most` bytes are on their way, in no fewer tasks than the workers need."""
        return self._bytes >= most and self._fed - self._come >= self._least

    def _feed(self):
        """Read and submit until enough is on its way."""
        with self._feeding as depth:
            if depth != 1:
                return
            try:
                self._feed_in_turn()
            except ValueError:
                pool = self._owner
                if pool is not None and not pool._crew.terminated:  # else it is being cancelled
                    raise

    def _feed_in_turn(self):
        pool, func, how = self._owner, by_name(self._func), self._how
        items = self._read_ahead
        self._starved = False
        while (iterator := self._iterator) is not None and (room := self._prefetch - self._fed + self._taken) > 0:
            if self._is_full(self._most_bytes):
                self._starved = True
                if self._is_full(self._most_bytes):  # else a result has come meanwhile, which may not have seen that
                    break
            # The first item, and all after a large one, are read one by one.
            size = min(self._batch, room) if self._fed and not self._sizes else 1
            error = None
            try:
                items.extend(itertools.islice(iterator, max(0, size - len(items))))
            except BaseException as reason:
                if self._room is None and interrupts(reason):
                    raise  # in the thread that takes the results
                error = reason
            ended = error is not None or len(items) < size
            with _native.held_signals:  # what is submitted is noted
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
        """As _feed(); by the reader, if there is one."""
        if self._room is None:
            self._feed()
        else:
            self._make_room()

    def _make_room(self):
        """Have the reader look whether there is room. The garbage collector may call this at any point."""
        if self._room is not None:
            try:
                self._room.release()
            except RuntimeError:
                pass  # it is going to look

    def _end(self, error):
        """Note that there is no more input: it has come to its end, or reading it has raised an error."""
        self._iterator = None
        self._dispatch.run(lambda: self._ended(error))

    def _ended(self, error):
        pool = self._owner
        if pool is None:
            return  # it has failed
        if self in pool._feeders:
            if error is None:
                self._length = self._fed
            else:
                self._length = self._fed + 1
                self._error_at = self._fed
                self._set(self._fed, (False, error))
            self._complete()
        self._fed_all(pool)

    def _fed_all(self, pool):
        pool._feeders.discard(self)
        pool._close_when_fed()

    def _read(self):
        """Feed from a thread of its own."""
        self._room.acquire()
        while self._iterator is not None:
            self._feed()
            if self._iterator is not None:
                self._room.acquire()

    def _read_all(self):
        """Read all of the input, however much that is: the pool is being joined."""
        self._prefetch = self._half = float("inf")
        if self._room is None:
            self._feed()
        else:
            self._make_room()
            self._reader.join()


class UnorderedIteration(Iteration):
    """One call of imap_unordered."""

    def _next_index(self):
        for index in self._ready:
            # What reading the input has raised comes after the results of what had been read.
            if index != self._error_at or self._taken == self._error_at:
                return index
        return None

    @property
    def _index(self):
        self._dispatch.poll()
        return self._come

    @property
    def _items(self):
        self._dispatch.poll()
        return deque(self._ready.values())

    @property
    def _unsorted(self):
        return {}

    def _set(self, i, obj):
        if self._special:
            self._set_special(i, obj)
        elif i != self._last:
            self._ready[i] = obj
            self._last = i
            self._come += 1
        if self._come == self._length:
            self._complete()

    def _keep(self, i, obj):
        if i != self._last:
            self._ready[i] = obj
            self._last = i
            self._come += 1

    def _fail_next(self, error):
        self._fail_at(-1, self._taken + len(self._ready) + 1, error)


class _Hold(weakref.ref):
    """An Iteration's weak reference to its IMapIterator.

    When that is gone the port posts this object to the collector, which hands it on like a completion (dispatch.py).
    All of that is in C. A __del__ would have to take locks at any point of a program, and an exception from a signal
    handler in it would be lost.
    """

    __slots__ = ("iteration",)

    def __iter__(self):
        return iter((None, None, None, self.iteration._drop))
