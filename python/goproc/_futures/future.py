"""Future: concurrent.futures' Future for a call that the engine's pool runs. Made by executor.py.

The pool holds a Future among its results until the result has come, and the thread that collects results delivers it
by _set(). docs/design/futures.md says who collects when, and why a future makes its condition late.
"""

import threading
from concurrent.futures import CancelledError
from concurrent.futures import Future as _Future

from .._common import disabled, stdlib
from .._common.threads import report_error
from .._pool.results import job_counter
from .faults import is_withdrawn, of_executor

__all__ = ["Future", "WatchedFuture"]

_base = stdlib.futures_base()
_PENDING, _RUNNING, _FINISHED = _base.PENDING, _base.RUNNING, _base.FINISHED
_CANCELLED, _NOTIFIED = _base.CANCELLED, _base.CANCELLED_AND_NOTIFIED
_DONE = frozenset({_FINISHED, _CANCELLED, _NOTIFIED})


class _Late:
    """An attribute of a Future that is made when it is first used: making all of them costs more than a task.

    make: returns the attribute's value for a future. From then on, other threads may know this future's lock.
    """

    def __init__(self, make):
        self._make = make

    def __set_name__(self, owner, name):
        self._name = name

    def __get__(self, future, owner=None):
        if future is None:
            raise AttributeError(self._name)
        future._shared = True  # before the attribute exists: see Future._set
        return future.__dict__.setdefault(self._name, self._make(future))


def _waiters(future):
    """Return the list of the waiters of wait() and as_completed() for a future. These do not collect results."""
    if future._state not in _DONE:
        future._works.serve()
    return []


class Future(_Future):
    """The result of a call that was submitted to an executor. Source: concurrent.futures.Future."""

    _state = _PENDING
    _result = _exception = None
    _limit = _note = _retry = _repeats = None  # as of the pool's results
    _held: "dict[int, list[object]]" = {}
    _shared = False  # whether its condition is made: from then on, its state is changed under the condition only
    _condition = _Late(lambda future: threading.Condition())
    _done_callbacks = _Late(lambda future: [])
    _waiters = _Late(_waiters)

    def __init__(self, works, func):
        self._works = works
        self._func = func
        self._job = next(job_counter)

    def cancel(self):
        """Withdraw the call, so that result() raises CancelledError; return whether that was possible.

        A call that has not begun never begins. If a worker runs the call, that worker is ended, and replaced: it is
        sent SIGTERM, and SIGKILL if it has not ended after two seconds. Returns False if the call is done.
        """
        if not self.done() and self._works.withdraw(self):
            self._become_cancelled()
            self._works.dispatch.wake()
        return self._state != _FINISHED and self._state in _DONE

    def _cancel_pending(self):
        """Withdraw the call if it has not begun. The thread that collects results then notes that it is cancelled."""
        if not self.done():
            self._works.withdraw_pending(self)

    def running(self):
        """Return whether a worker runs the call."""
        return not self.done() and self._works.has_begun(self)

    def __repr__(self):
        text = super().__repr__()
        return text.replace(" state=pending>", " state=running>") if self.running() else text

    def done(self):
        """Return whether the call is done, or was cancelled."""
        if self._state not in _DONE:
            self._works.dispatch.poll()
        return self._state in _DONE

    def cancelled(self):
        """Return whether the call was cancelled."""
        return self.done() and self._state != _FINISHED

    def result(self, timeout=None):
        """Return the result, or raise the exception of the call. timeout: in seconds; None for no limit.

        Raises CancelledError if the call was cancelled, TimeoutError if it is not done after timeout seconds.
        """
        try:
            if self._state not in _DONE:
                self._works.dispatch.wait(_Waiter(self), timeout)
            if self._state != _FINISHED:
                self._refuse()
            if self._exception is None:
                return self._result
            raise self._exception
        finally:
            del self  # else the exception's traceback would hold this future, and the future the exception

    def exception(self, timeout=None):
        """Return the exception of the call, None if there is none. Otherwise like result()."""
        if self._state not in _DONE:
            self._works.dispatch.wait(_Waiter(self), timeout)
        if self._state != _FINISHED:
            self._refuse()
        return self._exception

    def _refuse(self):
        """Raise the exception for a result that is not there."""
        raise CancelledError() if self._state in _DONE else _base.TimeoutError()

    def add_done_callback(self, fn):
        """Have fn(self) called when the call is done or cancelled; at once, if it is.

        Functions are called in the order in which they were added, in a thread of this process: the executor's own, or
        the thread that cancels the call.
        """
        if self._state not in _DONE:
            self._works.serve()  # it is called even if no thread waits for the result
        super().add_done_callback(fn)

    def set_result(self, result):
        """Set the result, in the place of the call's own. For executors, and for tests of programs."""
        super().set_result(result)
        self._works.forget(self)

    def set_exception(self, exception):
        """Set the exception, in the place of the call's own. For executors, and for tests of programs."""
        super().set_exception(exception)
        self._works.forget(self)

    # What follows is called by the thread that collects results. If a signal handler raises in one of these methods,
    # the call is repeated, as for the pool's own results.

    def _set(self, index, outcome):
        success, value = outcome
        if success:
            error = None
        elif is_withdrawn(value):
            return self._become_cancelled()
        else:
            value, error = None, of_executor(value)
        # If no other thread can know the condition, none needs to be woken. Another thread that wants to wait first
        # sets _shared. CPython changes threads neither between this line and the next three, nor within them.
        if not self._shared:
            self._result = value
            self._exception = error
            self._state = _FINISHED
        elif self._state not in _DONE:
            try:
                if error is None:
                    super().set_result(value)
                else:
                    super().set_exception(error)
            except _base.InvalidStateError:
                pass  # it was cancelled meanwhile
            except BaseException as raised:  # of a callback: it must not end the thread that delivers all results
                if threading.current_thread() is threading.main_thread():
                    raise  # of a signal handler: no callback is called here
                report_error(raised)
        self._func = None
        self._works.results.pop(self._job, None)

    def _fail(self, error):
        """Complete with an exception that the pool has for all its tasks."""
        self._set(0, (False, error))

    def _become_cancelled(self):
        self._works.results.pop(self._job, None)
        self._func = None
        with self._condition:
            if self._state == _RUNNING:  # a program has said so, by set_running_or_notify_cancel()
                self._state = _PENDING
        super().cancel()
        with self._condition:
            if self._state == _CANCELLED:
                self.set_running_or_notify_cancel()


class WatchedFuture(Future):
    """A future that tells one function that it is done, in less time than add_done_callback() takes.

    on_done: called with the future, by the executor's own thread, or by the thread that cancels the call.
    """

    def __init__(self, works, func, on_done):
        Future.__init__(self, works, func)
        self._on_done = on_done
        works.serve()

    def _set(self, index, outcome):
        super()._set(index, outcome)
        self._tell()

    def _become_cancelled(self):
        super()._become_cancelled()
        self._tell()

    def _tell(self):
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            try:
                on_done(self)
            except BaseException as raised:  # it must not end the thread that delivers all results
                report_error(raised)


def _make_all(future, works, func, make=Future.__init__):
    make(future, works, func)
    _ = future._condition, future._waiters, future._done_callbacks


if "late-conditions" in disabled:
    Future.__init__ = _make_all  # type: ignore[method-assign]


class _Waiter:
    """The waiter of a thread that waits for one future (dispatch.py)."""

    __slots__ = ("_future",)

    def __init__(self, future):
        self._future = future

    @property
    def done(self):
        return self._future._state in _DONE
