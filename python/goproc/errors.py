"""The exceptions that goproc adds to the standard library's.

    Exception
    └── multiprocessing.ProcessError
        ├── BufferTooShort, AuthenticationError   (the standard library's own)
        ├── TimeoutError                 (the standard library's own)
        │   └── TaskTimeoutError         the task ran longer than it was allowed
        ├── EngineError                  the engine cannot go on, or is closed
        ├── WorkerLostError              a pool's worker ended while it ran the task
        └── CancelledError               the task was withdrawn, or its pool terminated

Where the standard library has an exception, that one is raised: OSError when the kernel refuses, ValueError, TypeError
and AssertionError for wrong use, with multiprocessing's own texts.
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
    function: the name of what it ran, None if it is not known. index: the item's place in the input of a map, from 0.
    If the task was a chunk, index is the place of the first of its count items. None for apply. argument: a short str
    of the arguments, None if they cannot be told, as when they take more than 16 KiB.

    If no worker can begin, `__cause__` is what the last worker's initializer or imports raised.
    """

    def __init__(
        self,
        pid: int,
        exitcode: int,
        function: "str | None" = None,
        births: int = 0,
        reason: "str | None" = None,
        index: "int | None" = None,
        count: int = 1,
        argument: "str | None" = None,
    ) -> None:
        # All arguments are kept in args, by which exceptions are pickled.
        super().__init__(pid, exitcode, function, births, reason, index, count, argument)
        self.pid: int = pid
        self.exitcode: int = exitcode
        self.function: str | None = function
        self.index: int | None = index
        self.count: int = count
        self.argument: str | None = argument
        self.signal: _signal.Signals | int | None = None
        if exitcode < 0:
            try:
                self.signal = _signal.Signals(-exitcode)
            except ValueError:
                self.signal = -exitcode

    def __str__(self) -> str:
        pid, exitcode, function, births, reason, index, count, argument = self.args
        how = f"exited with status {exitcode}" if exitcode >= 0 else f"was killed by signal {-exitcode}"
        if isinstance(self.signal, _signal.Signals):
            how += f" ({self.signal.name})"
        if births:
            return f"{births} workers in a row ended before they took a task; the last one (pid {pid}) {how}. " + (
                f"The reason it gave: {reason}" if reason else "What it printed may say why"
            )
        return f"the worker (pid {pid}) that ran {task_named(function, index, count, argument)} {how}"


class TaskTimeoutError(TimeoutError):
    """The task ran longer than the timeout or task_timeout that it was given. The worker that ran it has been ended.

    pid: of that worker. limit: how long the task was allowed to run, in seconds. function, index, count, argument:
    which task it was, as of WorkerLostError.
    """

    def __init__(
        self,
        pid: int,
        limit: float,
        function: "str | None" = None,
        index: "int | None" = None,
        count: int = 1,
        argument: "str | None" = None,
    ) -> None:
        super().__init__(pid, limit, function, index, count, argument)
        self.pid: int = pid
        self.limit: float = limit
        self.function: str | None = function
        self.index: int | None = index
        self.count: int = count
        self.argument: str | None = argument

    def __str__(self) -> str:
        pid, limit, function, *which = self.args
        task = task_named(function, *which)
        return f"{task} ran longer than its limit of {limit:g} s; its worker (pid {pid}) has been ended"


class CancelledError(ProcessError):
    """The task was withdrawn before it was done, or its pool was terminated."""


def task_named(function: "str | None", index: "int | None", count: int, argument: "str | None") -> str:
    """Return words for a task, to stand in a sentence; the arguments are those of WorkerLostError."""
    if count > 1 and index is not None:
        text = f"{function or 'a chunk'}{'()' if function else ''} on items {index} to {index + count - 1} of the input"
        return text if argument is None else f"{text}, {argument},"
    text = "the task" if function is None else f"{function}({'' if argument is None else argument})"
    return text if index is None else f"{text}, item {index} of the input,"
