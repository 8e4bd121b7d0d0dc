"""Turns the exceptions of the engine's pool into those that programs expect of an executor. Used by all of _futures."""

from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool

from .. import errors
from .._common import stdlib
from .._pool.parts import standard_pool as _standard

__all__ = ["BrokenProcessPool", "WorkerLostError", "is_withdrawn", "of_executor"]


class WorkerLostError(errors.WorkerLostError, BrokenProcessPool):
    """The worker ended while it ran the call of this future. The other futures, and the executor, go on.

    It is a goproc.WorkerLostError, with its attributes. It is also a concurrent.futures.process.BrokenProcessPool, so
    that handlers which were written for concurrent.futures handle it.
    """


WorkerLostError.__module__ = "goproc.futures"  # its public module


def is_withdrawn(error):
    """Whether the engine says that a task was withdrawn. The same error has a __cause__ if a task has raised it."""
    return type(error) is errors.CancelledError and error.__cause__ is None


def of_executor(error):
    """Return the exception for a future, given the exception that the pool has for its task."""
    cause = error.__cause__
    kind = type(error)
    if type(cause) is _standard.RemoteTraceback:
        error.__cause__ = stdlib.remote_traceback(cause.tb)
    elif kind is errors.WorkerLostError:
        error = WorkerLostError(*error.args)
        error.__cause__ = cause or _ended(error)
    elif kind is _standard.MaybeEncodingError and cause is not None:
        error = BrokenProcessPool(f"the result of the call could not be unpickled: {error}")
        error.__cause__ = cause
    elif kind is BrokenProcessPool:  # each future needs its own exception, because raising adds a traceback
        error = BrokenProcessPool(*error.args)
        error.__cause__ = cause
    elif is_withdrawn(error):
        return CancelledError()
    return error


def _ended(error):
    """Return the cause that concurrent.futures gives: which process has ended, with which exit code."""
    return stdlib.remote_traceback(f"\n'''\nProcess {error.pid} terminated abruptly with exit code {error.exitcode}'''")
