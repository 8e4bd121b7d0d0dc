"""The exceptions that goproc adds to the standard library's.

    Exception
    └── multiprocessing.ProcessError
        ├── BufferTooShort, AuthenticationError, TimeoutError   (the standard library's own)
        ├── EngineError                  the engine cannot go on, or is closed
        ├── WorkerLostError              a pool's worker ended while it ran the task
        └── CancelledError               the task was withdrawn, or its pool terminated

What the standard library has an exception for is raised as that: OSError when the kernel refuses, ValueError,
TypeError and AssertionError for wrong use, with multiprocessing's own texts.
"""

import signal as _signal
from multiprocessing.context import ProcessError

__all__ = ["CancelledError", "EngineError", "WorkerLostError"]


class EngineError(ProcessError):
    """The engine refuses the call: it was poisoned by an internal error, which the message names, or it is closed.

    The interpreter lives on. What ran before goes on running and can still be terminated and joined; new processes
    cannot be started.
    """


class WorkerLostError(ProcessError):
    """A pool's worker ended while it ran the task: it was killed, crashed, or left by os._exit().

    pid: of the worker. exitcode: how it ended, as Process.exitcode. signal: the signal that ended it, None if none did.
    """

    def __init__(self, pid, exitcode, function=None, births=0):
        # All arguments are kept in args, by which exceptions are pickled.
        super().__init__(pid, exitcode, function, births)
        self.pid = pid
        self.exitcode = exitcode
        self.signal = None
        if exitcode < 0:
            try:
                self.signal = _signal.Signals(-exitcode)
            except ValueError:
                self.signal = -exitcode

    def __str__(self):
        pid, exitcode, function, births = self.args
        how = f"exited with status {exitcode}" if exitcode >= 0 else f"was killed by signal {-exitcode}"
        if isinstance(self.signal, _signal.Signals):
            how += f" ({self.signal.name})"
        if births:
            return (
                f"{births} workers in a row ended before they took a task; the last one (pid {pid}) {how}. What it "
                "printed says why: look for an error in the initializer, or in what the workers import"
            )
        return f"the worker (pid {pid}) that ran {function + '()' if function else 'the task'} {how}"


class CancelledError(ProcessError):
    """The task was withdrawn before it was done, or its pool was terminated."""
