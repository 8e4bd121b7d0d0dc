"""What the spawn start method and the servers share: the child's command line, the data it gets, its main function.

    parent: get_preparation_data() ─▶ pickled with the process object into a memfd ─▶ get_command_line() ─▶ the engine
    child:  python -c "...; from goproc.spawn import spawn_main ..." ─▶ main() ─▶ process_obj._bootstrap()

The rules of what a child is given and how its `__main__` is made are multiprocessing.spawn's, which does that work here
too. A memfd instead of its pipe: nothing can fill up, so a child that dies early cannot block its parent.
"""

import errno
import gc
import os
import signal
import sys
from _pickle import load  # package pickle's, without the parts in Python that a child does not need
from io import BytesIO, open_code

from . import _native
from ._common import start_methods, stdlib

deferred_imports: "ModuleType | None" = sys.modules.get("goproc._start.deferred_imports")  # in a spawned child
if deferred_imports is not None:
    deferred_imports.import_util()

from multiprocessing import context as _standard_context  # noqa: E402
from multiprocessing import spawn as _standard  # noqa: E402
from multiprocessing.spawn import old_main_modules  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from types import ModuleType
    from typing import Any, NoReturn

__all__ = [
    "freeze_support",
    "get_command_line",
    "get_executable",
    "get_preparation_data",
    "import_main_path",
    "set_executable",
]

_PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_VARIABLE = "GOPROC_PYTHON"

# Not multiprocessing's own flag, whose arguments are others: a frozen program may use both.
_FROZEN_FLAG = "--goproc-fork"

# The interpreter's command line set by set_executable(), and the value that multiprocessing.spawn was given with it:
# when that is another one, somebody has since called multiprocessing's own function, and the later call counts.
_command: "list[str | bytes] | None" = None
_command_executable: object = _standard.get_executable()


def set_executable(executable: "str | bytes | os.PathLike[str] | None") -> None:
    """Set the interpreter for children; see goproc.context.BaseContext.set_executable."""
    global _command, _command_executable
    command = None
    if isinstance(executable, str) and len(executable.split()) > 1 and not os.path.exists(executable):
        command = _split_command(executable, "set_executable()")
        executable = command[0]
    # The resource tracker is started by the standard library, with the interpreter that is set there.
    _standard.set_executable(executable)  # type: ignore[arg-type]  # for the standard library's stubs, it is a str
    _command = command
    _command_executable = _standard.get_executable()


def get_executable() -> "str | bytes":
    """Return the path of the interpreter for children; of a command line, the program.

    Raises TypeError if set_executable() was called with None. Source: multiprocessing.spawn.get_executable.
    """
    command = interpreter_command()
    return command[0]


def interpreter_command() -> "list[str | bytes]":
    """Return a child's interpreter: a program, and what of its command line precedes the interpreter's options."""
    current = _standard.get_executable()
    if current is _command_executable:
        if _command is not None:
            return list(_command)
        if current is _STARTING_EXECUTABLE and os.environ.get(_VARIABLE):
            return _split_command(os.environ[_VARIABLE], _VARIABLE)
    if current is None:
        raise TypeError("no interpreter is set for child processes: set_executable() was called with None")
    return [current]


_STARTING_EXECUTABLE = _command_executable


def _split_command(line, source):
    import shutil

    from ._common import calls

    try:
        words = calls.split_command(line)
    except ValueError as error:
        raise ValueError(f"{source}: {line!r} is not a command line: {error}") from None
    if not words:
        raise ValueError(f"{source}: the command line {line!r} names no program")
    return [shutil.which(words[0]) or words[0], *words[1:]]


def get_command_line(function: str, *numbers: int, flag: str = "--multiprocessing-fork") -> "list[str | bytes]":
    """Return the command line of a child interpreter that calls function, as "module:name", with the given ints.

    Each number is an argument of its own, and the engine may add another. flag stands before them: the child's
    sys.argv[1], as multiprocessing has it.
    """
    words = [str(int(number)) for number in numbers]
    if getattr(sys, "frozen", False):
        return [sys.executable, _FROZEN_FLAG, function, *words]
    module, _, name = function.partition(":")
    # The child must find this very goproc, which may be on this program's sys.path alone. The names are not to stay in
    # the child's `__main__`: a function of the program's that the child cannot import might have one of them.
    program = (
        f"import sys; p = {_PACKAGE_PARENT!r}; p in sys.path or sys.path.insert(0, p); "
        f"from {module} import {name} as f; f(*map(int, sys.argv[2:]))"
    )
    options = stdlib.interpreter_flags()
    return [*interpreter_command(), *options, "-c", f"exec({program!r}, {{}})", flag, *words]


def freeze_support() -> None:
    """In a frozen executable started to be a child or the fork server: be it, then exit. Else return."""
    if len(sys.argv) < 3 or sys.argv[1] != _FROZEN_FLAG:
        return _standard.freeze_support()
    module, _, function = sys.argv[2].partition(":")
    getattr(__import__(module, fromlist=[function]), function)(*map(int, sys.argv[3:]))
    sys.exit()


def get_preparation_data(name: str, daemon: bool = False) -> "dict[str, Any]":
    """Return what a child needs before it can unpickle its process object: multiprocessing's dict, and goproc's part.

    Raises RuntimeError when called while `__main__` is being imported in a child (no `if __name__ == "__main__"`).
    """
    standard_default = stdlib.default_context()
    settled = standard_default._actual_context
    data = _standard.get_preparation_data(name)
    # Until Python 3.13.12 and 3.14.3 this settles the default start method. The program may not have chosen it yet.
    standard_default._actual_context = settled
    data["goproc"] = {
        "installed": stdlib.is_installed(),
        "start_method": start_methods.default.get_start_method(allow_none=True),
        "daemon": bool(daemon),
    }
    return data


_MAIN_GUARD = (
    "goproc: this was raised while a child process imported the program's main module, as spawn and forkserver do. "
    'What starts processes must stand below `if __name__ == "__main__":`.'
)


def lacks_guard(error: BaseException) -> bool:
    """Whether the error is multiprocessing's own of a main module that starts processes while it is imported."""
    return isinstance(error, RuntimeError) and "bootstrapping phase" in str(error)


def prepare(data: "dict[str, Any]") -> None:
    """Make this process one that can unpickle the process object: sys.path, start method, `__main__` and the like."""
    own = data.get("goproc")
    if own is not None:
        if own["installed"]:
            stdlib.install_again()  # before `__main__` is imported: it may import multiprocessing
        start_methods.default.set_start_method(own["start_method"], force=True)
    main_path = data.pop("init_main_from_path", None)
    _standard.prepare(data)
    if main_path is not None:
        if sys.version_info >= (3, 15):
            _announce_to_linecache(main_path)
        try:
            import_main_path(main_path)
        except RuntimeError as error:
            # Of a pool's workers: what other processes raise is printed as multiprocessing prints it.
            if own is not None and own.get("worker") is not None and not lacks_guard(error):
                from ._pool.failures import add_note

                add_note(error, _MAIN_GUARD)
            raise


def _announce_to_linecache(main_path):
    """Let a traceback through the program's script be made without a warning, which `-W error` would have raised.

    From Python 3.15 on linecache warns of modules that have no `__spec__`, unless their `__name__` is `__main__`: here
    it is `__mp_main__`. It does not look at the module of a file that it has an entry for. This one stands for "not
    read".
    """
    import linecache  # has been imported by the interpreter's start

    linecache.cache.setdefault(main_path, (lambda: None,))


def import_main_path(main_path: str) -> None:
    """Make the program's script this process's `__main__`, run under the name `__mp_main__`, unless it is that already.

    Source: multiprocessing.spawn.import_main_path, which is left everything but an ordinary file: package runpy, which
    it uses, imports pkgutil and with it typing, longer than all the rest takes.
    """
    current = sys.modules["__main__"]
    is_file = main_path.endswith(".py") and os.path.isfile(main_path)
    if not is_file or getattr(current, "__file__", None) == main_path or os.path.basename(main_path) == "ipython.py":
        return stdlib.fix_main(main_path)
    old_main_modules.append(current)
    module = type(sys)("__mp_main__")
    module.__dict__.update(__file__=main_path, __package__="")
    if sys.version_info < (3, 15):
        module.__dict__["__cached__"] = None
    with open_code(main_path) as file:
        code = compile(file.read(), main_path, "exec", dont_inherit=True)
    before, argument = sys.modules.get("__mp_main__"), sys.argv[0]
    sys.modules["__mp_main__"] = module
    sys.argv[0] = main_path
    try:
        exec(code, module.__dict__)
    except BaseException:
        if before is None:
            del sys.modules["__mp_main__"]
        else:
            sys.modules["__mp_main__"] = before
        raise
    finally:
        sys.argv[0] = argument
    sys.modules["__main__"] = module


def dump(process_obj: "BaseProcess", popen: object) -> int:
    """Pickle the preparation data and process_obj into a new memfd, positioned at its start; return the descriptor.

    Where a file may not be as large as that is (RLIMIT_FSIZE), it is a pipe's.

    While that is done, popen is the spawning Popen, to which descriptors are handed by duplicate_for_child().
    """
    data = get_preparation_data(process_obj._name, process_obj.daemon)
    data["goproc"]["worker"] = start_methods.worker_end(process_obj)
    if _native.file_size_limit() < 1 << 62:
        buffer = BytesIO()
        _dump_to(buffer, data, process_obj, popen)
        return put("goproc-process", buffer)
    fd = open_unnamed("goproc-process")
    try:
        with open(fd, "wb", closefd=False) as file:
            _dump_to(file, data, process_obj, popen)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _dump_to(file, data, process_obj, popen):
    _standard_context.set_spawning_popen(popen)
    try:
        _standard_context.reduction.dump(data, file)
        _standard_context.reduction.dump(process_obj, file)
    finally:
        _standard_context.set_spawning_popen(None)


def put(name: str, buffer: BytesIO) -> int:
    """Return a descriptor from which the contents of a BytesIO can be read: of a memfd of that name, or of a pipe."""
    if len(buffer.getbuffer()) > _native.file_size_limit():
        return _fed_pipe(buffer)
    fd = open_unnamed(name)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(buffer.getbuffer())
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_unnamed(name: str) -> int:
    """Return a descriptor of an empty file without a name: a memfd, or where that is refused, a temporary file.

    name: for those who look at the process's descriptors. Raises OSError, which says that memfd_create failed.
    """
    try:
        return os.memfd_create(name)
    except OSError as reason:
        if reason.errno not in (errno.ENOSYS, errno.EPERM, errno.EACCES):
            raise
        refusal = reason
    import tempfile

    for folder in ("/dev/shm", None):
        try:
            with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
                return os.dup(file.fileno())
        except OSError:
            pass
    raise OSError(
        refusal.errno,
        f"memfd_create: {refusal.strerror}, and there is no folder for a temporary file either: goproc needs one to "
        "hand a new process what it is to do",
    )


def _fed_pipe(buffer):
    """Return the read end of a pipe into which a thread writes what a file may not hold (RLIMIT_FSIZE)."""
    from ._common.threads import OwnThread

    def feed():
        try:
            with open(write_fd, "wb", buffering=0) as pipe, buffer.getbuffer() as left:
                while left:
                    left = left[pipe.write(left) :]
        except BrokenPipeError:
            pass  # the child has ended

    read_fd, write_fd = os.pipe()
    try:
        OwnThread("goproc-feed", feed).start()
    except BaseException:
        os.close(read_fd)
        os.close(write_fd)
        raise
    return read_fd


#: The resource tracker as it was last seen: its pipe's descriptor and mark, and its pid, None if it is an ancestor's.
_tracker: "tuple[int | None, int, int | None] | None" = None


def tracker_fd() -> int:
    """Return resource_tracker.getfd(), which starts the tracker if need be.

    That function writes to whatever has the number of its pipe, and raises if it is closed. A program may have closed
    descriptors that are not its own: then another tracker is started.
    """
    global _tracker
    from multiprocessing import resource_tracker

    tracker = stdlib.tracker()
    fd = tracker._fd
    if fd is not None:
        seen = fd, _native.mark(fd), tracker._pid
        # multiprocessing, too, may have started another one since, whose pipe has the same number.
        if not seen[1] or (_tracker is not None and seen != _tracker and seen[::2] == _tracker[::2]):
            tracker._fd = tracker._pid = None  # the old one ends when nobody has its pipe
    fd = resource_tracker.getfd()
    assert fd is not None  # it has been started
    _tracker = fd, _native.mark(fd), tracker._pid
    return fd


class Rehearsal:
    """What a process that stands by does: what it will do with what it is sent, as far as that leaves no trace.

    What it writes to is copied then: reference counts are everywhere, so those are some hundred pages.
    """

    def __init__(self, process_type: "type[BaseProcess]") -> None:
        try:
            self._data_fd = dump(process_type(target=_nothing), self)
        except Exception:  # the working folder is gone, say: then there is none
            self._data_fd = open_unnamed("goproc-rehearsal")

    def __call__(self) -> None:
        try:
            with open(f"/proc/self/fd/{self._data_fd}", "rb") as file:
                data = load(file)
                del (
                    data["dir"],
                    data["log_to_stderr"],
                )  # the folder may be gone by now; one handler more would be a trace
                prepare(data)
                load(file).run()
        except Exception:
            pass
        stdlib.flush_streams()

    def close(self) -> None:
        os.close(self._data_fd)


def _nothing():
    """Do nothing."""


def spawn_main(data_fd: int, tracker_fd: int, lifeline_fd: int) -> "NoReturn":
    """Be a spawned child: the interpreter's main function in it. Does not return."""
    if deferred_imports is not None:
        deferred_imports.use_tracker(tracker_fd)
    else:
        stdlib.tracker()._fd = tracker_fd
    code = main(data_fd, lifeline_fd)
    gc.unfreeze()  # what the spawn server has frozen is to be taken down with all the rest, in the same order
    sys.exit(code)


def main(data_fd: int, lifeline_fd: int, interrupt_handler: "Any" = None) -> int:
    """Run the process object that data_fd holds and return its exit status. Both descriptors are inherited.

    interrupt_handler: what SIGINT shall do, if it is ignored so far; a pool's worker sees to that itself.
    """
    with os.fdopen(data_fd, "rb") as file:
        stdlib.is_inheriting(True)
        try:
            data = load(file)
            if interrupt_handler is not None:
                _handle_interrupts(interrupt_handler, data["goproc"].get("worker"))
            # Before anything that may take long: from here on a daemon ends with its parent.
            parent_sentinel = _native.open_lifeline(lifeline_fd, data["goproc"]["daemon"])
            try:
                if deferred_imports is not None:
                    deferred_imports.collect_garbage_again()
                prepare(data)
                process_obj = load(file)
            except BaseException as error:
                if (end := data["goproc"].get("worker")) is not None:
                    from ._pool import worker

                    worker.could_not_begin(end.open(), error, not lacks_guard(error))
                    return 1  # the pool says what it was: once, and not for each worker
                raise
        finally:
            stdlib.is_inheriting(False)
    start_methods.begin_child(process_obj)
    return process_obj._bootstrap(parent_sentinel)


def _handle_interrupts(handler, worker_end):
    if worker_end is not None and handler is signal.default_int_handler:
        from ._pool.worker import leave_interrupts

        handler = leave_interrupts
    signal.signal(signal.SIGINT, handler)
