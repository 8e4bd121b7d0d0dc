"""Runs tasks again that failed: retry_on= and retry_delay= of Pool, and of executors' with_options.

    Submitter.submit ──▶ Retrying.keep: the pickled call, until the task is done
    Dispatch._deliver ──▶ Retrying.settle ──▶ at once, or after a pause (run_due), Submitter.resubmit

The engine itself runs lost tasks again if there is only retries= (core/pool/worker.go). With one of the other two
arguments, all is done here, in the pool's own thread, which collects all results of such a pool. docs/guide/faults.md
says what programs see.
"""

import heapq
import itertools
import threading
from multiprocessing import util
from multiprocessing.pool import RemoteTraceback
from pickle import PickleBuffer

from .. import _native
from ..errors import CancelledError, WorkerLostError
from .failures import add_note, raised_by_handler

__all__ = ["RetryPolicy", "Retrying", "checked_policy"]


class RetryPolicy:
    """Which tasks are run again, how often, and after which pauses. checked_policy() describes the arguments."""

    __slots__ = ("retries", "_types", "_delay")

    def __init__(self, retries, types, delay):
        self.retries, self._types, self._delay = retries, types, delay

    def wants(self, error):
        """Whether a task that failed with this exception is to be run again."""
        if error.__cause__ is None:  # the engine's own, and not what the task has raised
            if type(error) is WorkerLostError:
                return True
            if type(error) is CancelledError:
                return False
        return isinstance(error, self._types)

    def pause(self, attempt):
        """Return how many seconds to wait after attempt number `attempt`, counted from 1."""
        if callable(self._delay):
            return max(0.0, float(self._delay(attempt)))
        return min(self._delay * 2.0 ** min(attempt - 1, 60), threading.TIMEOUT_MAX)


def checked_policy(retries, retry_on, retry_delay, always=False):
    """Return a RetryPolicy; None if the engine's own retries will do.

    retries: how often a task is run again, checked. retry_on: the type, or a tuple of types, of exceptions after which
    a task is run again; None or () for WorkerLostError only. retry_delay: seconds before the second attempt, twice as
    many before each further one; or a function that returns them, given the number of attempts so far; None or 0 for no
    pause. always: return a policy in any case.
    """
    types = () if retry_on is None else retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for kind in types:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise TypeError(f"retry_on must be a type of exceptions or a tuple of such types, not {retry_on!r}")
    delay = 0.0
    if callable(retry_delay):
        delay = retry_delay
    elif retry_delay is not None:
        try:
            if isinstance(retry_delay, bool):
                raise TypeError
            delay = float(retry_delay)
        except (TypeError, ValueError):
            raise TypeError(f"retry_delay must be a number of seconds or a function, not {retry_delay!r}") from None
        if not delay >= 0:
            raise ValueError(f"retry_delay must be at least 0, not {retry_delay!r}")
    if not types and not delay and not always:
        return None
    if retries < 1 and not always:
        raise ValueError(
            "retry_on and retry_delay say when a task is run again: retries must say how often, at least 1"
        )
    return RetryPolicy(retries, types, delay)


class _Kept:
    """A task that may have to be run again. attempts: how often it has been submitted. paused: whether it waits."""

    __slots__ = ("result", "index", "stream", "buffers", "attempts", "paused")

    def __init__(self, result, index, stream, buffers):
        self.result, self.index, self.stream, self.buffers = result, index, stream, buffers
        self.attempts, self.paused = 1, False


def _raised(value, result):
    """Return the exceptions that a task's items have raised, if return_exceptions=True made the task succeed.

    An exception that an item returns, instead of raising it, has no traceback of a worker.
    """
    if not getattr(result, "_returning", False):
        return []
    return [item for item in value if isinstance(item, BaseException) and type(item.__cause__) is RemoteTraceback]


class Retrying:
    """The tasks of one pool that may have to be run again. Its `done` is what join() waits for.

    dispatch: the pool's Dispatch, whose thread must serve. submitter: its Submitter. on_busy, on_idle: called when
    there are such tasks, and when none is left.
    """

    def __init__(self, dispatch, submitter, on_busy, on_idle):
        self._dispatch = dispatch
        self._submitter = submitter
        self._on_busy, self._on_idle = on_busy, on_idle
        self._kept: dict = {}  # by job and index
        self._paused: list = []  # a heap: (when it is due by _native.monotonic(), a number, its _Kept)
        self._numbers = itertools.count()
        self._ending = False  # whether tasks that fail from now on are not run again
        self._lock = threading.RLock()  # a signal handler may cancel a result while its thread submits another task

    @property
    def done(self):
        """Whether no task is left that may have to be run again."""
        return not self._kept

    def keep(self, result, index, stream, buffers):
        """Keep a task that is about to be submitted. The buffers are copied: the program may change them."""
        if buffers:
            buffers = [bytearray(PickleBuffer(buffer).raw()) for buffer in buffers]
        with self._lock:
            if not self._kept:
                self._on_busy()
            self._kept[result._job, index] = _Kept(result, index, stream, buffers)

    def settle(self, result, index, success, value):
        """Return whether a task that has ended is run again. If it is not, forget it. Called by the pool's thread."""
        with self._lock:
            task = self._kept.get((result._job, index))
            if task is None:
                return False
            if result._repeats is not None and (plain := result._repeats.plain(index, success, value)) is not None:
                task.stream, task.buffers = plain  # it has not run, so this is no attempt
                self._submit(task)
                return True
            policy = result._retry
            errors = _raised(value, result) if success else [value]
            is_last = self._ending or task.attempts > policy.retries
            error = None if is_last else next(filter(policy.wants, errors), None)
            if error is not None:
                try:
                    pause = policy.pause(task.attempts)
                except BaseException as reason:  # of the program's function
                    if raised_by_handler(reason):
                        raise
                    add_note(error, f"goproc: it was not tried again, because retry_delay raised {reason!r}")
                    error = None
            if error is None:
                if task.attempts > 1:
                    for each in errors:
                        add_note(each, f"goproc: tried {task.attempts} times")
                self._forget([task])
                return False
            task.attempts += 1
            util.info("pool: a task is tried again after %g s (attempt %d): %r", pause, task.attempts, error)
            if pause:
                task.paused = True
                heapq.heappush(self._paused, (_native.monotonic() + pause, next(self._numbers), task))
            else:
                self._submit(task)
            return True

    def run_due(self, longest):
        """Submit the tasks whose pause is over. Called by the pool's thread.

        Returns how many seconds to wait until the next one is due, at most longest; None for no limit.
        """
        with self._lock:
            while self._paused:
                due, _, task = self._paused[0]
                left = due - _native.monotonic()
                if left > 0 and task.paused:
                    return left if longest is None else min(left, longest)
                heapq.heappop(self._paused)
                if task.paused:
                    task.paused = False
                    self._submit(task)
        return longest

    def _submit(self, task):
        try:
            error = self._submitter.resubmit(task.result, task.index, task.stream, task.buffers)
        except Exception as reason:  # the pool has been terminated, or there is no memory
            error = reason
        if error is not None:
            self._forget([task])
            task.result._set(task.index, (False, error))

    def drop(self, result):
        """Forget the tasks of a result, so that none is run again; return how many of them paused."""
        with self._lock:
            tasks = [task for task in self._kept.values() if task.result is result]
            paused = [task for task in tasks if task.paused]
            self._forget(tasks)
        return len(paused)

    def end(self):
        """Run no task again from now on. Those that pause complete as cancelled."""
        self._ending = True
        self.withdraw_paused()

    def withdraw_paused(self, result=None):
        """Let the tasks that pause complete as cancelled. result: whose tasks; None for all."""
        with self._lock:
            tasks = [task for task in self._kept.values() if task.paused and result in (None, task.result)]
            self._forget(tasks)
        for task in tasks:
            outcome = (False, CancelledError("the task was cancelled"))
            self._dispatch.run(lambda task=task, outcome=outcome: task.result._set(task.index, outcome))

    def clear(self):
        """Forget all tasks: the pool has been terminated, or all its tasks fail."""
        with self._lock:
            self._forget(list(self._kept.values()))
            self._paused.clear()

    def _forget(self, tasks):
        for task in tasks:
            task.paused = False
            self._kept.pop((task.result._job, task.index), None)
        if not self._kept and tasks:
            self._on_idle()

    def _read_all(self):
        """Wait until no task is left. join() calls it, as it calls that of each reader of a map's input."""
        self._dispatch.wait(self)
