"""Loads the Go engine when it is first needed, calls it, and translates its errors to Python's exceptions.

    calls.spawn(...) ──▶ engine.call("Spawn", ...) ──▶ _engine.pybind_Spawn (Go, through gopy)
                                                  └──▶ RuntimeError("goproc:OS:11:...") ──▶ OSError(11)

`import goproc` and starting processes by fork do not load the engine: a program that does no more has only its own
threads. Of gopy's output only the extension module is used, and it is loaded by its path: gopy's Python modules change
the working directory while they are imported.

An engine belongs to one process. A forked child inherits its parent's engine without the threads: every call into it
would block for ever. So the child forgets the inherited engine. If it needs an engine, it loads a private copy of the
library from a memfd: the dynamic loader identifies a file by its inode, and would return the dead engine for the same
file. docs/design/engine.md says more.
"""

import errno
import os
import posix
import sys
import threading
from _frozen_importlib import ModuleSpec  # as importlib.machinery has it, without the imports of that module
from _frozen_importlib_external import ExtensionFileLoader
from io import FileIO

from .. import _native
from ..errors import EngineError
from . import disabled, exists, extension_path, folder, is_whole, stdlib
from .detached import Function

__all__ = [
    "REFUSALS",
    "PoolGoneError",
    "call",
    "close",
    "is_loaded",
    "load",
    "refusal",
]

#: The errors by which a system refuses a call. With the last two it says that it has the call, but not what is asked of
#: it: a flag, an advice, a kind of file.
REFUSALS = {errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL, errno.EOPNOTSUPP}

#: How many descriptors must be free before the engine is loaded: those of the engine, of the fork server and of the
#: processes that stand by, and of a pool and an executor with two workers each. With fewer, the engine could be loaded,
#: and then start no workers.
_DESCRIPTORS = 32

_lock = threading.RLock()
_module = None
_forgotten_in_children = False  # whether a fork handler is registered that makes children forget this engine
_tracing = False  # whether the engine logs to standard error
_warned = False  # whether the warning has been issued that the program goes on without an engine
_copies = 0  # how many private copies this process and its ancestors have loaded


class PoolGoneError(ValueError):
    """The engine has no pool with that number: it has been destroyed, or has never existed."""


def is_loaded() -> bool:
    """Return whether this process has an engine of its own; an inherited engine does not count."""
    return _module is not None


def load():
    """Return the engine's extension module, loading it if this process has none yet.

    Raises ImportError if the extension has not been built, or does not match `_native`; OSError or MemoryError if
    the limits of this process leave no room for it now.
    """
    global _module, _forgotten_in_children
    if _module is None:
        with _lock:
            if _module is None:
                _module = _load_module()
                if not _forgotten_in_children:
                    _forgotten_in_children = True
                    posix.register_at_fork(after_in_child=Function(__name__, "_forget_inherited"))
    return _module


def refusal() -> "OSError | MemoryError | None":
    """Load the engine if necessary. Return None, or the error for which this process can have no engine now.

    In that case the first call issues a RuntimeWarning, because the program goes on without an engine. A loaded engine
    traces if, and only if, the program's log goes to standard error at level DEBUG.
    """
    global _tracing
    if _module is None:
        try:
            load()
        except (OSError, MemoryError) as reason:
            what = "pools"
            if isinstance(reason, MemoryError) or reason.errno == errno.EMFILE:
                # Each takes 8 MiB of addresses, and more descriptors than multiprocessing's; now they are scarce.
                disabled.add("queues")
                what = "queues and pools"
            warn_once(f"{reason}. Processes are started by spawn and forkserver as new interpreters, and {what}")
            return reason
    tracing = stdlib.is_tracing()
    if tracing != _tracing:
        call("Trace", tracing)
        _tracing = tracing
    return None


def warn_once(what: str) -> None:
    """Warn once, and log each time, that something is multiprocessing's own because there is no engine.

    what: the reason, and the subject of a sentence that goes on with "are multiprocessing's own".
    """
    global _warned
    from multiprocessing import util

    text = f"{what} are multiprocessing's own: they do not notice lost workers, and have no time limits for tasks"
    util.info(text)
    if not _warned:
        _warned = True
        import warnings

        warnings.warn(text, RuntimeWarning, stacklevel=2)


def call(function: str, *args):
    """Call one of the engine's functions (pybind/*.go) and return its result.

    Only calls.py and tests use this. Raises OSError with the kernel's errno, ValueError for a refused argument,
    PoolGoneError when there is no such pool, ProcessLookupError when the process is no longer known, and EngineError
    when the engine is poisoned or closed, or for an unexpected error.
    """
    module = _module or load()
    _native.mend_runtime()
    try:
        return getattr(module, "pybind_" + function)(*args)
    except RuntimeError as error:
        raise _translated(error) from None


def close() -> None:
    """Stop the servers and release everything that the engine holds.

    At the end of the interpreter this is done automatically (capi/native/link.c), after all exit functions. Later calls
    are refused, and load no second engine; only the counters can still be read.
    """
    if _module is None:
        return
    try:
        call("Close")
    except EngineError:
        pass  # the engine is poisoned: the kernel releases everything when the process ends


def _load_module():
    path = _find_extension()
    free = _native.free_descriptors(_DESCRIPTORS)
    if free < _DESCRIPTORS:
        raise OSError(
            errno.EMFILE,
            f"goproc's engine needs {_DESCRIPTORS} descriptors, and {free} are free under the limit of open files "
            "(RLIMIT_NOFILE)",
        )
    _native.save_limits()
    try:
        if not is_whole(path):
            raise ImportError("the file is too short")
        return _load_copy(path) if _native.engine_state() == 2 else _load_path(path)
    except ImportError as error:
        from . import installation

        raise installation.explained("_engine", error) from error


def _find_extension() -> str:
    path = extension_path("_engine")
    if path is None:
        if not exists(folder):
            raise OSError(
                errno.ENOENT,
                f"goproc's engine cannot be loaded: its folder {folder} is out of reach, for instance after a chroot",
            )
        from . import installation

        raise installation.missing("_engine")
    return path


def _load_copy(path: str):
    """Load a copy of the engine's library: a forked process cannot start its ancestor's Go runtime again.

    The copy is in memory, or else in the first folder from which the kernel executes files. Raises OSError if there is
    no such place, and what _load_path() raises.
    """
    global _copies
    _copies += 1
    reason: OSError | ImportError | None = None
    for place in ("", None, "/dev/shm", "/var/tmp"):
        name = None
        try:
            if place == "":
                if not exists("/proc/self/fd"):
                    continue
                fd = posix.memfd_create("goproc-engine")
            else:
                import tempfile

                fd, name = tempfile.mkstemp(".so", "goproc-engine-", place)
        except OSError as error:
            reason = reason or error
            continue
        try:
            _copy(path, fd)
            # The dynamic loader compares names before inodes, and an ancestor may have loaded its copy from a memfd
            # with the same number. So the name must differ from all names that ancestors have used.
            return _load_path(name or "/proc/self/fd/" + "./" * _copies + str(fd))
        except _CannotCopy as error:
            reason = reason or error.reason
        except ImportError as error:  # for instance, the folder is mounted with noexec
            reason = reason or error
        finally:
            posix.close(fd)
            if name is not None:
                posix.unlink(name)
    number = getattr(reason, "errno", None) or errno.ENOEXEC
    raise OSError(number, f"goproc's engine cannot be loaded here: a forked process needs a copy of it ({reason})")


class _CannotCopy(Exception):
    def __init__(self, reason):
        super().__init__()
        self.reason = reason


def _copy(path, fd):
    try:
        with FileIO(path) as library:
            while piece := library.read(1 << 20):
                while piece:
                    piece = piece[posix.write(fd, piece) :]
    except OSError as error:
        raise _CannotCopy(error) from None


def _load_path(path: str):
    try:
        with FileIO("/proc/self/status") as file:
            status = file.read().decode("latin-1")
    except OSError:
        status = ""
    loader = ExtensionFileLoader("goproc._engine", path)
    spec = ModuleSpec("goproc._engine", loader, origin=path)
    _native.hold_signals()
    try:
        _native.start_engine(path)
        module = loader.create_module(spec)
        loader.exec_module(module)
        _native.attach(path)
        module.pybind_NoteOrigin(status)
    finally:
        _native.release_signals()
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.debug("process %d has loaded its engine", os.getpid())
    return module


def _translated(error: RuntimeError) -> BaseException:
    text = str(error)
    if not text.startswith("goproc:"):
        return error
    _, code, number, text = text.split(":", 3)
    if code == "OS":
        return OSError(int(number), text)
    if code == "INVALID":
        return ValueError(text)
    if code == "NO_POOL":
        return PoolGoneError(text)
    if code == "GONE":
        return ProcessLookupError(text)
    return EngineError(text)


def _forget_inherited() -> None:
    global _module, _tracing
    _module, _tracing = None, False


# No fork may happen while another thread loads the engine: the child would inherit a half-loaded engine. The lock's own
# methods are registered, because a Python function would write to more copy-on-write pages.
posix.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
