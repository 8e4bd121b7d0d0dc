"""The contexts and the Process classes: they map the name of a start method to the module that starts the process.

    goproc.Process ─▶ Process._Popen ─▶ DefaultContext ─▶ ForkProcess       ─▶ popen_fork.Popen
    get_context("spawn").Process ─────────────────────▶ SpawnProcess      ─▶ popen_spawn_posix.Popen
    get_context("forkserver").Process ────────────────▶ ForkServerProcess ─▶ popen_forkserver.Popen

Each class here derives from the class of the same name in multiprocessing.context. So code that accepts
multiprocessing's contexts and processes (concurrent.futures, joblib, isinstance checks) accepts these, too. Everything
that is not overridden here (managers, shared memory) is the standard library's own.
"""

import errno
import os
import sys
from multiprocessing import context as _standard
from types import ModuleType

from ._common import disabled, start_methods, stdlib

__all__ = ()

#: The start method that this interpreter's multiprocessing uses when none is set. None: not determined yet.
_interpreters_default: "str | None" = stdlib.interpreters_default()

_VARIABLE = "GOPROC_START_METHOD"

#: The module popen_fork, once a process has been started by fork. So a forked child need not import it again.
_popen_fork: "ModuleType | None" = None


#: What happens with the locks of multiprocessing's queues when their holder is killed, by class.
_OF_QUEUES = {"Lock": "take", "Condition": "take", "BoundedSemaphore": "keep"}


#: The errors by which the system refuses shared memory. ENOMEM: there are not enough addresses; a pipe and a named
#: semaphore need fewer, or none. A lack of descriptors is not among these: multiprocessing's objects need descriptors,
#: too.
_NO_SHARED_MEMORY = {
    errno.EACCES,
    errno.EFBIG,
    errno.EINVAL,
    errno.ENOENT,
    errno.ENOMEM,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EROFS,
}


class BaseContext(_standard.BaseContext):
    """The base class of goproc's contexts. Source: multiprocessing.context.BaseContext."""

    def Lock(self, *, abandoned="raise"):
        """Return a lock; see goproc.synchronize.Lock for the argument."""
        return self._made("Lock", abandoned=abandoned)

    def RLock(self, *, abandoned="raise"):
        """Return a lock that its holder may take again; see goproc.synchronize.RLock for the argument."""
        return self._made("RLock", abandoned=abandoned)

    def Condition(self, lock=None, *, abandoned="raise"):
        """Return a condition variable; see goproc.synchronize.Condition for the arguments."""
        return self._made("Condition", lock, abandoned=abandoned)

    def Semaphore(self, value=1):
        """Return a semaphore; see goproc.synchronize.Semaphore for the argument."""
        return self._made("Semaphore", value)

    def BoundedSemaphore(self, value=1, *, abandoned="raise"):
        """Return a bounded semaphore; see goproc.synchronize.BoundedSemaphore for the arguments."""
        return self._made("BoundedSemaphore", value, abandoned=abandoned)

    def Event(self):
        """Return a flag that processes wait for; see goproc.synchronize.Event."""
        return self._made("Event")

    def Barrier(self, parties, action=None, timeout=None):
        """Return a barrier; see goproc.synchronize.Barrier for the arguments."""
        return self._made("Barrier", parties, action, timeout)

    def Queue(self, maxsize=0):
        """Return a queue; see goproc.queues.Queue for the argument."""
        return self._made_queue("Queue", maxsize)

    def JoinableQueue(self, maxsize=0):
        """Return a queue that can be joined; see goproc.queues.JoinableQueue for the argument."""
        return self._made_queue("JoinableQueue", maxsize)

    def SimpleQueue(self):
        """Return a simple queue; see goproc.queues.SimpleQueue."""
        return self._made_queue("SimpleQueue")

    def Manager(self):
        """Return a manager whose server has been started. Source: multiprocessing.Manager."""
        from . import managers  # noqa: F401

        return super().Manager()

    def Value(self, typecode_or_type, *args, lock=True):
        """Return a shared ctypes object with a lock. Source: multiprocessing.Value."""
        from . import heap  # noqa: F401

        return super().Value(typecode_or_type, *args, lock=lock)

    def Array(self, typecode_or_type, size_or_initializer, *, lock=True):
        """Return a shared ctypes array with a lock. Source: multiprocessing.Array."""
        from . import heap  # noqa: F401

        return super().Array(typecode_or_type, size_or_initializer, lock=lock)

    def RawValue(self, typecode_or_type, *args):
        """Return a shared ctypes object without a lock. Source: multiprocessing.RawValue."""
        from . import heap  # noqa: F401

        return super().RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type, size_or_initializer):
        """Return a shared ctypes array without a lock. Source: multiprocessing.RawArray."""
        from . import heap  # noqa: F401

        return super().RawArray(typecode_or_type, size_or_initializer)

    def _made(self, name, *args, **options):
        """Return a new object of a class of goproc.synchronize."""
        context = self.get_context()
        if "locks" not in disabled and not _is_replaced(_standard.BaseContext, name):
            from . import synchronize

            kind = getattr(synchronize, name)
            is_choice = options.get("abandoned", "raise") != "raise"  # which multiprocessing's locks cannot obey
            if not is_choice and "abandoned" not in (getattr(kind.__init__, "__kwdefaults__", None) or ()):
                options.clear()  # a program has put a class with multiprocessing's arguments into the module
            elif name in _OF_QUEUES and sys._getframe(2).f_globals.get("__name__") == "multiprocessing.queues":
                # A queue takes its permits in one process and releases them in another. It expects no
                # AbandonedLockError.
                options["abandoned"] = _OF_QUEUES[name]
            try:
                return kind(*args, ctx=context, **options)
            except OSError as error:
                if error.errno not in _NO_SHARED_MEMORY or is_choice:
                    raise
                from ._common import log, named_locks

                log.warn(f"a {name} is multiprocessing's, with named semaphores: {error}")
            stdlib.tracker().ensure_running()
            return getattr(named_locks, name)(*args, ctx=context)
        if context.get_start_method() != "fork":
            # A named semaphore is made, and then registered with the tracker, which unlinks it if the program is
            # killed. If the tracker had to be started in between, a program killed then would leave it behind.
            stdlib.tracker().ensure_running()
        return getattr(_standard.BaseContext, name)(context, *args)

    def _made_queue(self, name, *args):
        """Return a new object of a class of goproc.queues; of multiprocessing.queues if that cannot be made."""
        context = self.get_context()
        if "queues" not in disabled and not _is_replaced(_standard.BaseContext, name):
            from . import queues
            from ._common import queue_types

            if queue_types.is_replaced(name):
                return queue_types.class_to_make(name)(*args, ctx=context)
            try:
                return getattr(queues, name)(*args, ctx=context)
            except OSError as error:
                if error.errno not in _NO_SHARED_MEMORY:
                    raise
                from ._common import log

                log.warn(f"a queue is multiprocessing's, in a pipe: {error}")
                return queue_types.class_to_make(name)(*args, ctx=context)
        return getattr(_standard.BaseContext, name)(context, *args)

    def Pool(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, **options):
        """Return a pool of worker processes; see goproc.pool.Pool for the arguments."""
        if _is_replaced(_standard.BaseContext, "Pool"):
            return super().Pool(processes, initializer, initargs, maxtasksperchild, **options)
        from .pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context(), **options)

    def freeze_support(self):
        """In a frozen executable that was started as a child process: run the child, then exit. Else do nothing."""
        if getattr(sys, "frozen", False):
            from .spawn import freeze_support

            freeze_support()

    def set_executable(self, executable):
        """Set the interpreter that runs spawned processes and the fork server.

        executable: a path (str, bytes or path object), or a whole command line in one str, such as "python3 -X dev". A
        command line is split as a shell does, and its program is looked up in PATH. After None, no process can be
        started by these methods.

        Takes effect for the next process; a running fork server is not replaced. Raises ValueError for a command line
        that cannot be split. Source: multiprocessing.set_executable.
        """
        from .spawn import set_executable

        set_executable(executable)

    def set_forkserver_preload(self, module_names, *, on_error="ignore"):
        """Set the modules that the fork server imports before it forks. The default is ["__main__"].

        module_names: a list of str. on_error: what the server does when a module cannot be imported. "ignore": it goes
        on. "warn": it issues an ImportWarning. "fail": it prints the traceback and exits, and starting a process raises
        EOFError. goproc accepts on_error in all versions of Python.

        A running server is not changed. Raises TypeError unless module_names is a list of str, ValueError for another
        on_error. Source: multiprocessing.set_forkserver_preload of Python 3.15.
        """
        from .forkserver import set_forkserver_preload

        set_forkserver_preload(module_names, on_error=on_error)

    #: The name of the pickler for the context's processes and pools; None for that of GOPROC_PICKLER.
    _pickler: "str | None" = None

    def get_context(self, method=None, *, pickler=None):
        """Return the context for a start method; for None, this context. Raises ValueError for an unknown name.

        pickler: for the arguments of the context's processes, and for the tasks of its pools. "cloudpickle" also sends
        functions that a child does not find by name, such as lambdas, and functions of a notebook. None for this
        context's pickler: that is "pickle" unless GOPROC_PICKLER is set. Raises ValueError for an unknown pickler,
        ImportError if cloudpickle is not installed.

        Contexts that a library has added to multiprocessing's, such as joblib's "loky", are found, too.
        Source: multiprocessing.get_context.
        """
        if method is None:
            return self if pickler is None else _with_pickler(self, pickler)
        context = _concrete_contexts.get(method)
        if context is not None:
            pickler = self._pickler if pickler is None else pickler
            return context if pickler is None else _with_pickler(context, pickler)
        if pickler is not None:
            raise ValueError(f"pickler= is for the start methods {', '.join(_concrete_contexts)}, not for {method!r}")
        try:
            return super().get_context(method)
        except ValueError:
            raise ValueError(
                f"cannot find context for {method!r}: the start methods are {', '.join(_concrete_contexts)}"
            ) from None


def _is_replaced(cls, name):
    """Return whether multiprocessing is goproc's, and the program has replaced a method of one of its classes.

    _common/monkeypatches.py says why it looks at the globals. It is not imported: `import goproc` is to be quick.
    """
    return stdlib.installed and getattr(getattr(cls, name), "__globals__", None) is not vars(_standard)


class _Awaitable:
    """What goproc adds to all Process classes."""

    async def join_async(self, timeout=None):
        """Do what join() does, while asyncio's running loop runs on.

        timeout: in seconds; None for no limit. Returns None; exitcode is None if the process still runs. Cancelling the
        waiting task does not affect the process. Raises what join() raises.
        """
        self.join(0)  # it checks that this process may wait
        popen = self._popen
        if popen.returncode is not None or timeout is not None and timeout <= 0:
            return
        from ._common.awaiting import process_ended

        await process_ended(popen, timeout)
        if self._popen is popen and not self._closed:  # else the program has joined and closed it meanwhile
            self.join(0)


class Process(_standard.Process, _Awaitable):
    """A process of the default context. Source: multiprocessing.Process, with the same arguments and exceptions."""

    @staticmethod
    def _Popen(process_obj):
        return _default_context.get_context().Process._Popen(process_obj)

    @staticmethod
    def _after_fork():
        return _default_context.get_context().Process._after_fork()


class ForkProcess(_standard.ForkProcess, _Awaitable):
    """A process started by fork."""

    @staticmethod
    def _Popen(process_obj):
        if _is_replaced(_standard.ForkProcess, "_Popen"):
            return _standard.ForkProcess._Popen(process_obj)
        global _popen_fork
        from . import popen_fork

        _popen_fork = popen_fork
        return popen_fork.Popen(process_obj)

    @staticmethod
    def _after_fork():
        _standard.ForkProcess._after_fork()
        if _popen_fork is not None:
            _popen_fork.collect_again()


class SpawnProcess(_standard.SpawnProcess, _Awaitable):
    """A process started as a new interpreter."""

    @staticmethod
    def _Popen(process_obj):
        if _is_replaced(_standard.SpawnProcess, "_Popen"):
            return _standard.SpawnProcess._Popen(process_obj)
        from .popen_spawn_posix import Popen

        return Popen(process_obj)


class ForkServerProcess(_standard.ForkServerProcess, _Awaitable):
    """A process forked by the fork server."""

    @staticmethod
    def _Popen(process_obj):
        if _is_replaced(_standard.ForkServerProcess, "_Popen"):
            return _standard.ForkServerProcess._Popen(process_obj)
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

    # DefaultContext's methods are named here again, because BaseContext comes first in the method resolution order.
    def get_context(self, method=None, *, pickler=None):
        """Return the context for a start method; for None the current one, whose start method is then fixed."""
        if method is None:
            if self._actual_context is None:
                self._actual_context = self._default_context
            return self._actual_context if pickler is None else self._actual_context.get_context(pickler=pickler)
        return super().get_context(method, pickler=pickler)

    get_start_method = _standard.DefaultContext.get_start_method
    set_start_method = _standard.DefaultContext.set_start_method


_concrete_contexts = start_methods.concrete
_concrete_contexts.update(fork=ForkContext(), spawn=SpawnContext(), forkserver=ForkServerContext())
_default_context = start_methods.default = DefaultContext()
start_methods.base_class = BaseContext
_default_override: "str | None" = None  # from the command line's --start-method


#: The contexts that have a pickler of their own, by the contexts' classes and the picklers' names.
_with_picklers: dict = {}


def _with_pickler(context, name):
    """Return a context like the given one, with a pickler. Each call returns the same one."""
    from copy import copy

    from ._common import picklers

    name = picklers.checked(name)
    kind = type(context)
    made = _with_picklers.get((kind, name))
    if made is None:
        made = copy(context)
        made._pickler = name
        if kind.Process in (SpawnProcess, ForkServerProcess):  # what a child by fork runs is not pickled
            class_name = f"{kind.Process.__name__}_{name}"
            made.Process = globals().get(class_name) or __getattr__(class_name)
        made = _with_picklers.setdefault((kind, name), made)
    return made


def __getattr__(name):
    """Make the Process class of a context that has a pickler of its own. Children look the class up by its name.

    Any other name is that of multiprocessing.context.
    """
    base, _, pickler = name.rpartition("_")
    if base not in ("SpawnProcess", "ForkServerProcess") or pickler not in ("pickle", "cloudpickle"):
        return stdlib.other_name(__name__, _standard, name)
    kind = globals()[base]
    members = {"__module__": __name__, "__qualname__": name, "__doc__": kind.__doc__, "_goproc_pickler": pickler}
    return globals().setdefault(name, type(base, (kind,), members))


def default_start_method() -> str:
    """Return the start method of a program that sets none.

    Raises ValueError if the environment variable GOPROC_START_METHOD has an unknown name.
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


def _force_start_method(method):
    _default_context._actual_context = _concrete_contexts[method]


def set_default_start_method(method: str) -> None:
    """Make method the default of this program, which can still set another. Raises ValueError for an unknown name."""
    global _default_override
    _default_context.get_context(method)
    _default_override = method
