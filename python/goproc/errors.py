"""The exceptions that goproc adds to the standard library's.

    Exception
    └── multiprocessing.ProcessError
        ├── BufferTooShort, AuthenticationError   (the standard library's own)
        ├── TimeoutError                 (the standard library's own)
        │   └── TaskTimeoutError         the task ran longer than it was allowed
        ├── EngineError                  the engine cannot go on, or is closed
        ├── WorkerLostError              a pool's worker ended while it ran the task
        └── CancelledError               the task was withdrawn, or its pool terminated

What the standard library has an exception for is raised as that: OSError when the kernel refuses, ValueError,
TypeError and AssertionError for wrong use, with multiprocessing's own texts.
"""

import signal as _signal
from multiprocessing.context import ProcessError, TimeoutError

__all__ = ["CancelledError", "EngineError", "TaskTimeoutError", "WorkerLostError"]


class EngineError(ProcessError):
    """The engine refuses the call: it was poisoned by an internal error, which the message names, or it is closed.

    The interpreter lives on. What ran before goes on running and can still be terminated and joined; new processes
    cannot be started.
    """


class WorkerLostError(ProcessError):
    """A pool's worker ended while it ran the task: it was killed, crashed, or left by os._exit().

    pid: of the worker. exitcode: how it ended, as Process.exitcode. signal: the signal that ended it, None if none did.

    If no worker can begin, `__cause__` is what the last one's initializer, or the import of what it needs, has raised.
    """

    def __init__(self, pid, exitcode, function=None, births=0, reason=None):
        # All arguments are kept in args, by which exceptions are pickled.
        super().__init__(pid, exitcode, function, births, reason)
        self.pid = pid
        self.exitcode = exitcode
        self.signal = None
        if exitcode < 0:
            try:
                self.signal = _signal.Signals(-exitcode)
            except ValueError:
                self.signal = -exitcode

    def __str__(self):
        pid, exitcode, function, births, reason = self.args
        how = f"exited with status {exitcode}" if exitcode >= 0 else f"was killed by signal {-exitcode}"
        if isinstance(self.signal, _signal.Signals):
            how += f" ({self.signal.name})"
        if births:
            return f"{births} workers in a row ended before they took a task; the last one (pid {pid}) {how}. " + (
                f"The reason it gave: {reason}" if reason else "What it printed may say why"
            )
        return f"the worker (pid {pid}) that ran {_called(function)} {how}"


class TaskTimeoutError(TimeoutError):
    """The task ran longer than the timeout or task_timeout that it was given. The worker that ran it has been ended.

    pid: of that worker. limit: how long the task was allowed to run, in seconds.
    """

    def __init__(self, pid, limit, function=None):
        super().__init__(pid, limit, function)
        self.pid = pid
        self.limit = limit

    def __str__(self):
        pid, limit, function = self.args
        return f"{_called(function)} ran longer than its limit of {limit:g} s; its worker (pid {pid}) has been ended"


class CancelledError(ProcessError):
    """The task was withdrawn before it was done, or its pool was terminated."""


def _called(function):
    return function + "()" if function else "the task"
