"""Submits a pool's tasks to the engine: pickles them, and sends small tasks in batches. One object for each pool."""

from .._common import calls, disabled
from .._common.own_pickler import CONNECTIONS
from ..errors import CancelledError, EngineError
from .codec import BY_NAME, encode, sent, sent_by_me
from .describe import explain_pickling
from .failures import interrupts
from .inputs import COLLECTIONS, call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than loading the engine

__all__ = ["CHUNK_BYTES", "CHUNK_ITEMS", "FOR_EVER", "Submitter", "batch_size", "plain_size"]

#: Used instead of infinity, for a number of retries and for microseconds: 35 years. It does not overflow in Go.
FOR_EVER = 1 << 50

#: The number of submissions after which the submitting thread collects results, so that they do not pile up.
_LOOK_EVERY = 64

#: The most items, and the most bytes of pickle, of a batch. It is small because each worker that takes a task of the
#: batch copies and unpickles the whole batch.
_BATCH_ITEMS, _BATCH_BYTES = 32, 4096

#: The same for a chunk of a map that may be divided.
CHUNK_ITEMS, CHUNK_BYTES = 4096, 16384
_TEXTS = frozenset({str, bytes})
_PLAIN = _TEXTS | {int, float, bool, type(None), tuple}


class Submitter:
    """Submits a pool's tasks, limits how long they may run, and withdraws them.

    port: the _native.Port. control: the Control. crew: the Crew. dispatch: the Dispatch. results: the results that
    are not complete, by job. form: how the tasks are pickled (codec.py).
    """

    def __init__(self, port, control, crew, dispatch, results, form):
        self.form = form
        self.watch = CONNECTIONS  # whether the program's own pickler is used
        self._port = port
        self._control = control
        self._crew = crew
        self._dispatch = dispatch
        self._results = results
        self.pool_retries = 0  # how often the engine runs each lost task again
        self.retrying: Any = None  # the Retrying, if tasks may have to be run again
        self._unlooked = 0  # how many tasks have been submitted since results were last collected here

    def submit(self, result, index, call):
        """Submit one task of a result. The task fails if it cannot be pickled, or if no worker can begin."""
        error = self._crew.broken
        if error is not None:
            error = self.try_again()
        if error is None:
            try:
                stream, buffers = encode(call, self.form, self.watch)
                if result._repeats is not None and buffers is not None:
                    stream, buffers = result._repeats.replace(index, stream, buffers)
            except BaseException as reason:
                if interrupts(reason):
                    raise
                error = reason
                explain_pickling(error, self.form is BY_NAME)
        if error is not None:
            if result._limit is not None:
                self._control.limit(result._job, index, 0)
            self._dispatch.run(lambda: result._set(index, (False, error)))
            return
        if sent:
            result._held = {**result._held, index: sent_by_me()}
        if result._note is not None:
            result._note(index, stream, buffers)
        if result._retry is not None:
            self.retrying.keep(result, index, stream, buffers)
            self._leave_to_retrying(result, index)
        urgent = self._port.submit(result._job, index, stream, buffers)
        self._unlooked += _LOOK_EVERY if urgent else 1
        if self._unlooked >= _LOOK_EVERY:
            self._unlooked = 0
            self._dispatch.poll()

    def resubmit(self, result, index, stream, buffers):
        """Submit a task once more. Return None, or the exception that it must fail with: no worker can begin."""
        error = self._crew.broken
        if error is not None and (error := self.try_again()) is not None:
            return error
        if result._limit is not None:
            self.limit(result, index, result._limit)
        self._leave_to_retrying(result, index)
        try:
            self._port.submit(result._job, index, stream, buffers)
        except (ValueError, calls.PoolGoneError):
            if self._crew.terminated:
                return CancelledError(self._dispatch.why_terminated)
            raise
        return None

    def _leave_to_retrying(self, result, index):
        """Tell the engine not to run a task again that is about to be submitted; else the pool's retries would hold."""
        if self.pool_retries:
            self._control.retry(result._job, index, -1)

    def try_again(self):
        """Try a worker again, as none could begin. Return None, or the exception that a new task must fail with."""
        error = self._crew.try_again()
        self._dispatch.schedule_retry()
        return error

    def submit_batch(self, result, index, func, items, how, together=False):
        """Submit the tasks (func, item, how) of a result, from index on. Small tasks share one payload.

        The tasks of one payload may share objects, and several workers may unpickle it; so all items must be of the
        simplest immutable types (plain_size). If together is false, each task is scheduled and answered by itself. If
        it is true, a worker answers as many tasks together as it runs in about a millisecond.
        """
        most = CHUNK_BYTES if together else _BATCH_BYTES
        size = None
        if len(items) > 1 and type(func) is str and self._crew.broken is None:
            size = 0 if together else None if "batches" in disabled else plain_size(items, _BATCH_ITEMS)
        if size is not None:
            stream = encode((how, func, items, together), self.form, self.watch)[0] if size <= most else None
            if type(stream) is bytes and len(stream) <= most:
                urgent = self._port.submit(result._job, index, stream, None, len(items))
                self._unlooked += _LOOK_EVERY if urgent else len(items)
            else:
                half = len(items) // 2
                self.submit_batch(result, index, func, items[:half], how, together)
                self.submit_batch(result, index + half, func, items[half:], how, together)
        else:
            for item in items:
                self.submit(result, index, call(func, (item,) if together else item, how))
                index += 1
        if self._unlooked >= _LOOK_EVERY:
            self._unlooked = 0
            self._dispatch.poll()

    def forget(self, result):
        """Drop a result that no caller will get: a signal handler, or the end of the pool, interrupted its making."""
        self._results.pop(result._job, None)
        self.cancel(result)

    def limit(self, result, index, seconds):
        """Limit how long a task that is about to be submitted may run, in seconds."""
        result._limit = seconds
        microseconds = int(min(seconds * 1e6, FOR_EVER)) or 1
        self._control.limit(result._job, index, microseconds)

    def cancel(self, result):
        """Withdraw all tasks of a result; return how many of them will not complete by themselves."""
        paused = 0 if result._retry is None else self.retrying.drop(result)
        try:
            left = self._control.cancel(result._job) + paused
            self._crew.replace_by_forks()
            return left
        except (calls.PoolGoneError, EngineError):
            return 0  # the pool has been terminated, or the engine is closed: all tasks are cancelled


def batch_size(iterable, chunksize):
    """Return how many chunks of the iterable may be read before they are submitted."""
    return max(1, _BATCH_ITEMS // chunksize) if chunksize and type(iterable) in COLLECTIONS else 1


def plain_size(items, most):
    """Return the number of characters and bytes in items, or None if they cannot travel in one payload.

    All items must be numbers, None, str, bytes, or tuples of these. There must be at most 16 * most of them, at each
    level of nested tuples.
    """
    size = 0
    while len(items) <= 16 * most:
        types = set(map(type, items))
        if not types <= _PLAIN:
            return None
        if not types.isdisjoint(_TEXTS):
            size += sum(len(item) for item in items if type(item) in _TEXTS)
        if tuple not in types:
            return size
        items = [part for item in items if type(item) is tuple for part in item]
    return None
