"""How tasks go to the engine: pickled, in batches where they are small. One object for each pool."""

from .._common import calls, disabled
from ..errors import EngineError
from .codec import encode
from .failures import interrupts
from .inputs import COLLECTIONS, call

__all__ = ["CHUNK_BYTES", "CHUNK_ITEMS", "FOR_EVER", "Submitter", "batch_size", "plain_size"]

#: Longer, or more, than anything lasts; in Go still far from an overflow.
FOR_EVER = 1 << 50

#: After how many submissions the submitting thread looks for results, so that they do not pile up.
_LOOK_EVERY = 64

#: How many items a batch has at most, and how many bytes its pickle. Several workers may copy and unpickle it.
_BATCH_ITEMS, _BATCH_BYTES = 32, 4096

#: The same for a chunk of a map that may be divided.
CHUNK_ITEMS, CHUNK_BYTES = 4096, 16384
_TEXTS = frozenset({str, bytes})
_PLAIN = _TEXTS | {int, float, bool, type(None), tuple}


class Submitter:
    """Submits a pool's tasks, limits how long they may run, and withdraws them.

    port: the _native.Port. number: the engine's pool. crew: the Crew. dispatch: the Dispatch. results: those that
    are not complete, by job.
    """

    def __init__(self, port, number, crew, dispatch, results):
        self._port = port
        self._number = number
        self._crew = crew
        self._dispatch = dispatch
        self._results = results
        self._unlooked = 0  # how many tasks have been submitted since this pool looked for results

    def submit(self, result, index, call):
        """Submit one task of a result. It fails if it cannot be pickled, or if no worker can begin."""
        error = self._crew.broken
        if error is not None:
            error = self.try_again()
        if error is None:
            try:
                stream, buffers = encode(call)
            except BaseException as reason:
                if interrupts(reason):
                    raise
                from .describe import explain_pickling

                error = reason
                explain_pickling(error)
        if error is not None:
            if result._limit is not None:
                calls.pool_limit(self._number, result._job, index, 0)
            self._dispatch.run(lambda: result._set(index, (False, error)))
            return
        if result._note is not None:
            result._note(index, stream, buffers)
        urgent = self._port.submit(result._job, index, stream, buffers)
        self._unlooked += _LOOK_EVERY if urgent else 1
        if self._unlooked >= _LOOK_EVERY:
            self._unlooked = 0
            self._dispatch.poll()

    def try_again(self):
        """Have a worker tried again, as none could begin. Return None, or why a task cannot be submitted."""
        error = self._crew.try_again()
        self._dispatch.see_to_workers()
        return error

    def submit_batch(self, result, index, func, items, how, together=False):
        """Submit the tasks (func, item, how) of a result: in one payload, if they are few bytes.

        Their items must be of the simplest immutable types for that: the tasks of a payload may share objects, and
        several workers may unpickle it. Each task is scheduled, and answered, by itself. If together is true, a worker
        answers it together with the tasks that follow, for about a millisecond.
        """
        most = CHUNK_BYTES if together else _BATCH_BYTES
        size = None
        if len(items) > 1 and type(func) is str and self._crew.broken is None:
            size = 0 if together else None if "batches" in disabled else plain_size(items, _BATCH_ITEMS)
        if size is not None:
            stream = encode((how, func, items, together))[0] if size <= most else None
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
        """Drop a result that nobody gets, since a signal handler, or the end of the pool, has interrupted making it."""
        self._results.pop(result._job, None)
        self.cancel(result)

    def limit(self, result, index, seconds):
        """Limit how long a task that is about to be submitted may run."""
        result._limit = seconds
        microseconds = int(min(seconds * 1e6, FOR_EVER)) or 1
        calls.pool_limit(self._number, result._job, index, microseconds)

    def cancel(self, result):
        """Withdraw all tasks of a result; return how many of them will not complete by themselves."""
        try:
            left = calls.pool_cancel(self._number, result._job)
            self._crew.replace_by_forks()
            return left
        except (calls.PoolGoneError, EngineError):
            return 0  # the pool has been terminated, or the engine is closed, which cancels what is left


def batch_size(iterable, chunksize):
    """How many chunks of the iterable may be read before they are submitted."""
    return max(1, _BATCH_ITEMS // chunksize) if chunksize and type(iterable) in COLLECTIONS else 1


def plain_size(items, most):
    """Return how many bytes and characters are in items. None if not all are numbers, texts, bytes, or tuples of these.

    None, too, if there are more than 16 * most of them.
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
