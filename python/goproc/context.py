"""The contexts and the Process classes: where a start method's name becomes the module that starts the process.

    goproc.Process ─▶ Process._Popen ─▶ DefaultContext ─▶ ForkProcess       ─▶ popen_fork.Popen
    get_context("spawn").Process ─────────────────────▶ SpawnProcess      ─▶ popen_spawn_posix.Popen
    get_context("forkserver").Process ────────────────▶ ForkServerProcess ─▶ popen_forkserver.Popen

Each class derives from its namesake in multiprocessing.context, and so do the contexts: whatever accepts
multiprocessing's (concurrent.futures, joblib, isinstance checks) accepts these, and all that is not overridden here
(locks, queues, managers, shared memory) is the standard library's own, on our processes.
"""

import functools
import os
import sys
from multiprocessing import context as _standard
from types import ModuleType

from ._common import start_methods, stdlib

__all__ = ()

#: The start method that the running interpreter's multiprocessing uses when none is set; None until it is needed.
_interpreters_default: "str | None" = stdlib.interpreters_default()

_VARIABLE = "GOPROC_START_METHOD"

#: The module, once a process has been started by fork: a child of that should not have to look for it.
_popen_fork: "ModuleType | None" = None


def _tracked(name):
    """Return multiprocessing's method name, that makes semaphores, with the resource tracker started before it.

    Such a semaphore has a name until the tracker has been told of it. To start the tracker in between takes long enough
    for a program to be killed, and the semaphore would stay.
    """
    make = getattr(_standard.BaseContext, name)

    @functools.wraps(make)
    def make_tracked(self, *args, **kwds):
        if self.get_start_method() != "fork":
            from multiprocessing import resource_tracker

            resource_tracker.ensure_running()
        return make(self, *args, **kwds)

    return make_tracked


class BaseContext(_standard.BaseContext):
    """What goproc's contexts have in common. Source: multiprocessing.context.BaseContext."""

    Lock, RLock, Condition, Event, Barrier = map(_tracked, ("Lock", "RLock", "Condition", "Event", "Barrier"))
    Semaphore, BoundedSemaphore = map(_tracked, ("Semaphore", "BoundedSemaphore"))
    Queue, JoinableQueue, SimpleQueue = map(_tracked, ("Queue", "JoinableQueue", "SimpleQueue"))
    Value, Array = map(_tracked, ("Value", "Array"))

    def Pool(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, **options):
        """Return a pool of worker processes; see goproc.pool.Pool for the arguments."""
        from .pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context(), **options)

    def freeze_support(self):
        """In a frozen executable that was started to be a child process: be that child, then exit. Else do nothing."""
        if getattr(sys, "frozen", False):
            from .spawn import freeze_support

            freeze_support()

    def set_executable(self, executable):
        """Set the interpreter that runs spawned processes and the fork server.

        executable: a path (str, bytes or path object), or a whole command line in one str, "python3 -X dev", which is
        split as a shell would and whose program is looked up in PATH. None makes starting fail.

        Raises ValueError for a command line that cannot be split. It takes effect for the next process; a running fork
        server stays.
        """
        from .spawn import set_executable

        set_executable(executable)

    def set_forkserver_preload(self, module_names, *, on_error="ignore"):
        """Set the modules that the fork server imports before it forks; ["__main__"] unless set.

        on_error: what the server does when one cannot be imported: "ignore" it, "warn" (ImportWarning), or "fail": then
        it prints the traceback and ends, and starting processes raises EOFError. All versions of Python accept it.

        Raises TypeError unless module_names is a list of str, ValueError for another on_error. A running server stays
        as it is. Source: multiprocessing.set_forkserver_preload of Python 3.15.
        """
        from .forkserver import set_forkserver_preload

        set_forkserver_preload(module_names, on_error=on_error)

    def get_context(self, method=None):
        """Return the context for a start method, or this one for None. Raises ValueError for an unknown name.

        Contexts that others have added to multiprocessing's, such as joblib's "loky", are found, too.
        """
        if method is None:
            return self
        context = _concrete_contexts.get(method)
        if context is not None:
            return context
        try:
            return super().get_context(method)
        except ValueError:
            raise ValueError(
                f"cannot find context for {method!r}: the start methods are {', '.join(_concrete_contexts)}"
            ) from None


class Process(_standard.Process):
    """A process of the default context. Source: multiprocessing.Process, with the same arguments and exceptions."""

    @staticmethod
    def _Popen(process_obj):
        return _default_context.get_context().Process._Popen(process_obj)

    @staticmethod
    def _after_fork():
        return _default_context.get_context().Process._after_fork()


class ForkProcess(_standard.ForkProcess):
    """A process started by fork."""

    @staticmethod
    def _Popen(process_obj):
        global _popen_fork
        from . import popen_fork

        _popen_fork = popen_fork
        return popen_fork.Popen(process_obj)

    @staticmethod
    def _after_fork():
        _standard.ForkProcess._after_fork()
        if _popen_fork is not None:
            _popen_fork.collect_again()


class SpawnProcess(_standard.SpawnProcess):
    """A process started as a fresh interpreter."""

    @staticmethod
    def _Popen(process_obj):
        from .popen_spawn_posix import Popen

        return Popen(process_obj)


class ForkServerProcess(_standard.ForkServerProcess):
    """A process forked by the fork server."""

    @staticmethod
    def _Popen(process_obj):
        from .popen_forkserver import Popen

        return Popen(process_obj)


class ForkContext(BaseContext, _standard.ForkContext):
    """The context whose start method is fork."""

    Process = ForkProcess


class SpawnContext(BaseContext, _standard.SpawnContext):
    """The context whose start method is spawn."""

    Process = SpawnProcess


class ForkServerContext(BaseContext, _standard.ForkServerContext):
    """The context whose start method is forkserver."""

    Process = ForkServerProcess


class DefaultContext(BaseContext, _standard.DefaultContext):
    """The context behind goproc's own functions: its start method can be set once, and otherwise is the default.

    The default is the running interpreter's, unless the environment variable GOPROC_START_METHOD or the command line's
    --start-method names another. Source: multiprocessing.context.DefaultContext.
    """

    Process = Process

    def __init__(self):
        self._actual_context = None

    @property
    def _default_context(self):
        return _concrete_contexts[default_start_method()]

    # By name: BaseContext comes first among the bases.
    def get_context(self, method=None):
        """Return the context for a start method; for None the current one, which is settled by that."""
        if method is None:
            if self._actual_context is None:
                self._actual_context = self._default_context
            return self._actual_context
        return super().get_context(method)

    get_start_method = _standard.DefaultContext.get_start_method
    set_start_method = _standard.DefaultContext.set_start_method


_concrete_contexts = start_methods.concrete
_concrete_contexts.update(fork=ForkContext(), spawn=SpawnContext(), forkserver=ForkServerContext())
_default_context = start_methods.default = DefaultContext()
start_methods.base_class = BaseContext
_default_override: "str | None" = None  # from the command line's --start-method


def default_start_method() -> str:
    """Return the start method of a program that sets none.

    Raises ValueError if the environment variable GOPROC_START_METHOD names none.
    """
    if _default_override is not None:
        return _default_override
    method = os.environ.get(_VARIABLE)
    if not method:
        global _interpreters_default
        if _interpreters_default is None:
            _interpreters_default = stdlib.find_interpreters_default()
        return _interpreters_default
    if method not in _concrete_contexts:
        raise ValueError(f"{_VARIABLE}={method!r}: it must be one of {', '.join(_concrete_contexts)}")
    return method


def set_default_start_method(method: str) -> None:
    """Make method the default of this program, which can still set another. Raises ValueError for an unknown name."""
    global _default_override
    _default_context.get_context(method)
    _default_override = method
