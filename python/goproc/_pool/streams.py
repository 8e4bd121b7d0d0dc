"""One call of Pool.stream: what generators yield in the workers arrives here, and is kept until it is taken.

    the program ──▶ StreamIterator ──▶ StreamIteration ◀── parts of tasks (dispatch.py); the reading thread

As in iteration.py, only the program holds the StreamIterator. When it has dropped it, the tasks are withdrawn: unlike
those of imap they may never end. docs/design/streams.md says how workers are kept from running ahead of the program.
Used by engine_pool.py.
"""

from multiprocessing.context import TimeoutError

from .. import _native
from .._common import calls
from .._native import take_result
from ..errors import CancelledError, EngineError
from .describe import note_item
from .iteration import Iteration
from .results import IMapIterator

__all__ = ["StreamIteration", "StreamIterator"]

#: The program tells the worker that it has taken a part, and all before it, if the part's number has these bits, which
#: is so twice in a window (PartsAhead, core/ring/layout.go), or if the part is large.
_TOLD = 63

#: More than any number of entries.
_NEVER = float("inf")


class StreamIteration(Iteration):
    """One call of stream.

    What can be taken is an *entry*: a value, or the exception that ends an item. Entries are numbered as they arrive;
    _ready, _taken, _received and _length of Iteration count entries, while _fed counts items.
    """

    def __init__(self):
        self._ended_items = 0  # how many items have ended
        self._items_read = None  # how many items the input has; None until that is known
        self._passed = 0  # how many ended items _ahead() has seen whose entries have all been taken
        self._ends: dict = {}  # by number of the ended item, from _passed on: how many entries had come by then
        self._last_part = None  # (index, number) of the part that has come last
        self._input_error = None  # the exception of reading the input
        self._shut = False  # whether nothing is to be taken any more
        self._unbounded = False  # whether everything that comes is to be kept: the pool is being joined

    def start(self, iterator, pool, *arguments):
        """See Iteration.start."""
        self._control = pool._crew.control
        super().start(iterator, pool, *arguments)

    @property
    def done(self):
        """Whether next() can return or raise something at once."""
        return self._shut or self._taken in self._ready or self._taken == self._length

    def next(self, timeout=None):
        """See StreamIterator.next."""
        deadline = None
        try:
            while (entry := self.take_now()) is None:
                deadline = self._wait(timeout, deadline)
        except StopAsyncIteration:
            raise StopIteration from None
        success, value = entry
        if success:
            return value
        raise value

    def take_now(self):
        """Take the next entry, (success, value); None if it has not come. Raises StopAsyncIteration at the end."""
        while not self._shut:
            at = self._taken
            entry = self._ready.get(at)
            if entry is not None:
                success, value, part = entry
                if part is not None:
                    self._tell(part)  # first: a signal handler that raises after the next line must not prevent it
                if take_result(self, at) is None:
                    continue  # another thread has taken it
            elif at == self._length:
                break
            if self._iterator is not None and self._is_due():
                self._feed_soon()
            return None if entry is None else (success, value)
        raise StopAsyncIteration

    def _wait(self, timeout, deadline):
        """Wait until done is true. Return the deadline of next(). Raises TimeoutError when it is over."""
        left = None
        if timeout is not None:
            now = _native.monotonic()
            deadline = now + timeout if deadline is None else deadline
            left = deadline - now
        self._dispatch.wait(self, left)
        if deadline is not None and not self.done and _native.monotonic() >= deadline:
            raise TimeoutError
        return deadline

    def cancel(self):
        """See StreamIterator.cancel."""
        self._dispatch.poll()
        pool = self._owner
        if pool is None or self._length is not None:
            return False
        self._withdraw_all(pool)
        self._dispatch.run(lambda: self._fail(CancelledError("the stream was cancelled")))
        return True

    def close(self):
        """See StreamIterator.close."""
        self._shut = True
        self.cancel()
        self._empty()

    def _drop(self):
        pool = self._owner
        if pool is not None:
            self._shut = True
            self._withdraw_all(pool)
            self._fail(CancelledError("the stream was dropped"))

    def _withdraw_all(self, pool):
        self._cancelling = True  # a thread that is submitting items now withdraws them itself
        self._iterator = None
        pool._submitter.cancel(self)

    def _empty(self):
        self._ready.clear()
        if self._length is not None:
            self._taken = self._length

    def _tell(self, part):
        """Tell the worker that a part, (index, number), has been taken, and all parts before it."""
        try:
            self._control.taken(self._job, *part)
        except (calls.PoolGoneError, EngineError):
            pass  # the pool has been terminated, or the engine is closed

    # The collector calls the next methods. If a signal handler raises in one of them, it repeats the call.

    def _add_part(self, part, success, value, large):
        """Keep a value. part: (index of the item, number of the part). large: whether it lies in an extent.

        success: False if value is the exception of unpickling it.
        """
        if part == self._last_part or self._length is not None:
            return
        if success:
            value = part[0], value
        else:
            note_item(value, self, part, None)
        told = part if large or part[1] & _TOLD == _TOLD else None
        if told is not None and self._unbounded:
            self._tell(part)
            told = None
        at = self._received
        self._ready[at] = success, value, told
        self._last_part = part
        self._received = at + 1
        if self._watchers and self.done:
            self._notify()

    def _set(self, i, obj):
        """Note that item i has ended: regularly, or with an exception."""
        if self._length is not None:
            return
        if self._held:
            self._held.pop(i, None)
        if self._sizes:
            self._bytes -= self._sizes.pop(i, 0)
        if i != self._last:
            success, error = obj
            entries = self._received + (not success)
            if not success:
                self._ready[self._received] = False, error, None
            self._ends[self._ended_items] = entries
            self._last = i
            self._received = entries
            self._ended_items += 1
        if self._iterator is not None and (self._starved or self._is_due()):
            self._feed_soon()
        self._finish()
        if self._watchers and self.done:
            self._notify()

    def _finish(self):
        """End the stream if all items have ended."""
        if self._ended_items == self._items_read and self._length is None:
            entries = self._received
            if self._input_error is not None:
                self._ready[entries] = False, self._input_error, None
                entries += 1
            self._received = entries
            self._length = entries
        self._complete()

    def _fail(self, error):
        super()._fail(error)
        if self._shut:
            self._empty()

    def _fail_next(self, error):
        entries = self._received
        self._ready[entries] = False, error, None
        self._length = self._received = entries + 1

    def _ended(self, error):
        pool = self._owner
        if pool is None:
            return
        if self in pool._feeders:
            self._input_error = error
            self._items_read = self._fed
            self._finish()
        self._stop_feeding(pool)

    # Reading the input.

    def _is_due(self):
        """Whether at most half of the allowed items have entries that were not taken."""
        return self._ends.get(self._fed - self._half - 1, _NEVER) <= self._taken

    def _is_full(self, most):
        return self._bytes >= most and self._fed - self._ended_items >= self._least

    def _ahead(self):
        """Return how many submitted items have entries that were not taken. Only _feed_in_turn() calls it."""
        while self._ends.get(self._passed, _NEVER) <= self._taken:
            with _native.held_signals:
                self._passed += 1
                del self._ends[self._passed - 1]
        return self._fed - self._passed

    def _read_all(self):
        self._unbounded = True
        for _, _, part in list(self._ready.values()):
            if part is not None:
                self._tell(part)
        super()._read_all()


class StreamIterator(IMapIterator):
    """The iterator of Pool.stream: pairs of the index of an item, and a value that func(item) has yielded.

    It is a context manager, which calls close() at its end.
    """

    #: For each worker: how many items are read ahead, unless the program says prefetch. There are not more, because the
    #: values of an item that has ended are kept until they are taken.
    ITEMS_AHEAD = 4

    @staticmethod
    def _new_iteration():
        return StreamIteration()

    def cancel(self):
        """Read no more of the input, and withdraw the items that are not done.

        Workers that run an item are ended, as by AsyncResult.cancel: a generator does not notice, and its `finally`
        blocks do not run, unless the program handles SIGTERM. next() still returns the values that have come; then it
        raises CancelledError once, and the stream is over. Returns True; or False if everything had come already.
        """
        return self._iteration.cancel()

    def close(self):
        """Do what cancel() does, and drop the values that have come: next() raises StopIteration from now on."""
        self._iteration.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.close()


StreamIterator.__module__ = "goproc.pool"  # its public module
