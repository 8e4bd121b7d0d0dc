"""The exceptions that goproc adds to the standard library's.

    Exception
    └── multiprocessing.ProcessError
        ├── BufferTooShort, AuthenticationError   (the standard library's own)
        ├── TimeoutError                 (the standard library's own)
        │   └── TaskTimeoutError         the task ran longer than its limit
        ├── EngineError                  the engine failed, or is closed
        ├── MemoryLimitError             the task took more memory than its limit; it is a MemoryError, too
        ├── WorkerLostError              a pool's worker ended while it ran the task
        ├── AbandonedLockError           the process that held the lock was killed
        ├── ConsumerLostError            a consumer of a JoinableQueue was killed before it called task_done()
        ├── ProducerLostError            a producer of a JoinableQueue has ended whose items were still in its buffer
        └── CancelledError               the task was withdrawn, or its pool was terminated

For all other errors goproc raises the standard library's exceptions: OSError when the kernel refuses a system call;
ValueError, TypeError and AssertionError for wrong use, with multiprocessing's own texts.
"""

import signal as _signal
from multiprocessing.context import ProcessError, TimeoutError

__all__ = [
    "AbandonedLockError",
    "CancelledError",
    "ConsumerLostError",
    "EngineError",
    "MemoryLimitError",
    "ProducerLostError",
    "TaskTimeoutError",
    "WorkerLostError",
]


class EngineError(ProcessError):
    """The engine refuses the call: it has had an internal error, which the message names, or it is closed.

    The interpreter and its processes run on. Processes can be terminated and joined; new ones cannot be started.
    """


class WorkerLostError(ProcessError):
    """A pool's worker ended while it ran the task: it was killed, crashed, called os._exit(), or its machine is lost.

    pid: the worker's process id. exitcode: the worker's exit code, as Process.exitcode. signal: the signal that ended
    the worker, None if it exited. function: the name of the task's function, None if it is not known. index: the
    position of the task's first item in the input of a map, from 0; None for apply. count: the number of the task's
    items. argument: a short text of the arguments, None if they cannot be shown, for instance because they take more
    than 16 KiB. machine: the name and the address of the machine of a cluster (goproc.cluster); None for a local pool.
    why: what happened to the machine, None if only the worker ended. pid is 0 then.

    If no worker can begin, `__cause__` is the exception of the last worker's initializer or imports.
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
        machine: "str | None" = None,
        why: "str | None" = None,
    ) -> None:
        # All arguments must be in args, because pickle makes an exception from its args.
        cluster = () if machine is None else (machine, why)
        super().__init__(pid, exitcode, function, births, reason, index, count, argument, *cluster)
        self.machine: str | None = machine
        self.why: str | None = why
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
        pid, exitcode, function, births, reason, index, count, argument, *_ = self.args
        if self.why is not None:
            if function is None and index is None:
                return self.why
            task = task_named(function, index, count, argument)
            return f"the machine {self.machine} that had begun {task} is lost: {self.why}"
        how = f"exited with status {exitcode}" if exitcode >= 0 else f"was killed by signal {-exitcode}"
        if isinstance(self.signal, _signal.Signals):
            how += f" ({self.signal.name})"
        if births:
            return f"{births} workers in a row ended before they took a task; the last one (pid {pid}) {how}. " + (
                f"The reason it gave: {reason}" if reason else "What it printed may say why"
            )
        where = "" if self.machine is None else f" on the machine {self.machine}"
        return f"the worker (pid {pid}{where}) that ran {task_named(function, index, count, argument)} {how}"


class AbandonedLockError(ProcessError):
    """The process that held the lock was killed, so the data that the lock guards may be half-written.

    pid: the process's id. name: its name, as Process.name; None if it is not known. It is raised once, by the next
    acquire(). The lock is free then.
    """

    def __init__(self, pid: int, name: "str | None" = None) -> None:
        super().__init__(pid, name)
        self.pid: int = pid
        self.name: str | None = name

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.name is None else f"{self.name} (pid {self.pid})"
        return f"{who} was killed while it held the lock: what the lock guards may be half-written"


class ConsumerLostError(ProcessError):
    """A process that had got items of a JoinableQueue was killed before it called task_done() for them.

    pid: the process's id. tasks: the number of these items. It is raised once, by join(). The items count as done from
    then on, so that join() can be called again.
    """

    def __init__(self, pid: int, tasks: int) -> None:
        super().__init__(pid, tasks)
        self.pid: int = pid
        self.tasks: int = tasks

    def __str__(self) -> str:
        items = "1 item" if self.tasks == 1 else f"{self.tasks} items"
        return f"process {self.pid} was killed: it had got {items} and not called task_done()"


class ProducerLostError(ProcessError):
    """A process ended while items that it had put into a JoinableQueue were still in its buffer: they are lost.

    It was killed, or called os._exit() or cancel_join_thread(). pid: the process's id; if there were several, of one of
    them. items: the number of all lost items. It is raised once, by join(). The items do not count from then on, so
    that join() can be called again.
    """

    def __init__(self, pid: int, items: int) -> None:
        super().__init__(pid, items)
        self.pid: int = pid
        self.items: int = items

    def __str__(self) -> str:
        items, were = ("1 item", "was") if self.items == 1 else (f"{self.items} items", "were")
        return f"process {self.pid} has ended: {items} that it had put {were} still in its buffer, and {were} lost"


class _OverLimit(ProcessError):
    """The task went over a limit. See the classes below."""

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


class TaskTimeoutError(_OverLimit, TimeoutError):
    """The task ran longer than its timeout or task_timeout. Its worker has been ended.

    pid: the worker's process id. limit: how long the task was allowed to run, in seconds. function, index, count,
    argument: which task it was, as in WorkerLostError.
    """

    def __str__(self) -> str:
        pid, limit, function, *which = self.args
        task = task_named(function, *which)
        return f"{task} ran longer than its limit of {limit:g} s; its worker (pid {pid}) has been ended"


class MemoryLimitError(_OverLimit, MemoryError):
    """The task took more memory than max_memory_per_task. Its worker has been killed.

    pid: the worker's process id. limit: how many bytes the task was allowed to take. function, index, count, argument:
    which task it was, as in WorkerLostError.
    """

    def __new__(cls, *args: object) -> "MemoryLimitError":
        # Libraries that pickle exceptions, such as tblib, call cls.__new__ by itself. The inherited one is
        # MemoryError's, which refuses a class whose first base is another one.
        return ProcessError.__new__(cls, *args)

    def __str__(self) -> str:
        pid, limit, function, *which = self.args
        size = f"{limit / (1 << 20):.0f} MiB" if limit >= 10 << 20 else f"{limit} bytes"
        task = task_named(function, *which)
        return f"{task} took more memory than its limit of {size}; its worker (pid {pid}) has been killed"


class CancelledError(ProcessError):
    """The task was withdrawn before it was done, or its pool was terminated."""


def task_named(function: "str | None", index: "int | None", count: int, argument: "str | None") -> str:
    """Return the name of a task for use in a sentence. The arguments are attributes of WorkerLostError."""
    if count > 1 and index is not None:
        text = f"{function or 'a chunk'}{'()' if function else ''} on items {index} to {index + count - 1} of the input"
        return text if argument is None else f"{text}, {argument},"
    text = "the task" if function is None else f"{function}({'' if argument is None else argument})"
    return text if index is None else f"{text}, item {index} of the input,"
