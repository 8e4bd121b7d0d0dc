"""Shared by the spawn start method and the servers: a child's command line, its data, and its main function.

    parent: get_preparation_data() ─▶ pickled with the process object into a memfd ─▶ get_command_line() ─▶ the engine
    child:  python -c "...; from goproc.spawn import spawn_main ..." ─▶ main() ─▶ process_obj._bootstrap()

multiprocessing.spawn decides which data a child is sent, and how its `__main__` is made; its functions are called here.
multiprocessing sends the data through a pipe. goproc uses a memfd, which cannot fill up, so a child that dies early
cannot block its parent.
"""

import gc
import os
import posix
import signal
import sys
from _pickle import load  # pickle's load, without importing the parts in Python that a child does not need
from io import BytesIO

from . import _native
from ._common import picklers, start_methods, starters, stdlib
from ._start import companions
from ._start.main_module import announce_to_linecache, forget_preloaded_main, import_main_path, name_main

deferred_imports: "ModuleType | None" = sys.modules.get("goproc._start.deferred_imports")  # in a spawned child
if deferred_imports is not None:
    deferred_imports.import_util()

from multiprocessing import context as _standard_context  # noqa: E402
from multiprocessing import spawn as _standard  # noqa: E402
from multiprocessing.spawn import old_main_modules as old_main_modules  # noqa: E402

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

# A flag of goproc's own, because multiprocessing's flag has other arguments, and a frozen program may use both.
_FROZEN_FLAG = "--goproc-fork"

# The interpreter's command line set by set_executable(), and the executable that was then set in multiprocessing.spawn.
# If multiprocessing.spawn has another executable now, the program has called multiprocessing's own function since then,
# and that call counts.
_command: "list[str | bytes] | None" = None
_command_executable: object = _standard.get_executable()


def set_executable(executable: "str | bytes | os.PathLike[str] | None") -> None:
    """Set the interpreter for children; see goproc.context.BaseContext.set_executable."""
    global _command, _command_executable
    command = None
    if isinstance(executable, str) and len(executable.split()) > 1 and not os.path.exists(executable):
        command = _split_command(executable, "set_executable()")
        executable = command[0]
    # The standard library starts the resource tracker with this executable.
    _standard.set_executable(executable)  # type: ignore[arg-type]  # typeshed allows a str only
    _command = command
    _command_executable = _standard.get_executable()


def get_executable() -> "str | bytes":
    """Return the path of the interpreter for children. If a command line is set, return its program.

    Raises TypeError if set_executable() was called with None. Source: multiprocessing.spawn.get_executable.
    """
    command = interpreter_command()
    return command[0]


def interpreter_command() -> "list[str | bytes]":
    """Return the first words of a child's command line: the interpreter, and arguments that precede its options."""
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


def get_command_line(
    function: "str | None" = None, *numbers: int, flag: str = "--multiprocessing-fork", **keywords: int
) -> "list[str | bytes]":
    """Return the command line of a child interpreter that calls function(*numbers).

    function: "module:name"; None for multiprocessing's command line, with its keywords, for programs that execute
    children themselves. numbers: ints, each of which becomes one argument; the engine may add another. flag: the
    child's sys.argv[1], which precedes the numbers, as with multiprocessing.
    """
    if function is None:
        return _standard.get_command_line(**keywords)  # type: ignore[return-value]
    words = [str(int(number)) for number in numbers]
    if getattr(sys, "frozen", False):
        return [sys.executable, _FROZEN_FLAG, function, *words]
    module, _, name = function.partition(":")
    # The child must import this goproc, which may be only on this program's sys.path. exec() with a dict of its own
    # keeps the names p and f out of the child's `__main__`: a function of the program might have one of these names.
    program = (
        f"import sys; p = {_PACKAGE_PARENT!r}; p in sys.path or sys.path.insert(0, p); "
        f"from {module} import {name} as f; f(*map(int, sys.argv[2:]))"
    )
    options = stdlib.interpreter_flags()
    return [*interpreter_command(), *options, "-c", f"exec({program!r}, {{}})", flag, *words]


def freeze_support() -> None:
    """In a frozen executable that was started as a child or as the fork server: run it, then exit. Else return."""
    if len(sys.argv) < 3 or sys.argv[1] != _FROZEN_FLAG:
        return _standard.freeze_support()
    module, _, function = sys.argv[2].partition(":")
    getattr(__import__(module, fromlist=[function]), function)(*map(int, sys.argv[3:]))
    sys.exit()


def get_preparation_data(name: str, daemon: bool = False) -> "dict[str, Any]":
    """Return the data that a child needs before it can unpickle its process object.

    This is multiprocessing's dict, with goproc's part under "goproc". name: the process's name. daemon: whether it
    ends with its parent. Raises RuntimeError when called while a child imports `__main__` (no
    `if __name__ == "__main__"`). Source: multiprocessing.spawn.get_preparation_data.
    """
    standard_default = stdlib.default_context()
    settled = standard_default._actual_context
    data = _standard.get_preparation_data(name)
    name_main()
    # Until Python 3.13.12 and 3.14.3 this call fixes the default start method; the program may not have chosen it yet.
    standard_default._actual_context = settled
    if os.path.basename(data.get("init_main_from_path", "")) == "<stdin>":  # a child could not read it again
        del data["init_main_from_path"]
    data["goproc"] = {**for_children(), "daemon": bool(daemon)}
    return data


def for_children() -> "dict[str, Any]":
    """Return the part of the preparation data that each child and the fork server need, whatever they import."""
    return {
        "installed": stdlib.installed,
        "futures": stdlib.installed_futures,
        "start_method": start_methods.default.get_start_method(allow_none=True),
        "bound": start_methods.children_are_bound,
        "companions": companions.wanted(),
    }


class _ForChildren:
    """What is sent to a child that the program executes itself, with multiprocessing's preparation data.

    Such a child runs multiprocessing's main function. Unpickling this installs goproc there, so that the child knows
    the classes of goproc's locks and queues, which have multiprocessing's names.
    """

    def __reduce__(self):
        return _prepare_goproc, (for_children(),)


_standard_data = _standard.get_preparation_data


def _data_with_goproc(name):
    data = _standard_data(name)
    if stdlib.installed:
        data["goproc"] = _ForChildren()
    return data


_standard.get_preparation_data = _data_with_goproc


_MAIN_GUARD = (
    "goproc: this was raised while a child process imported the program's main module, as spawn and forkserver do. "
    'Code that starts processes must stand below `if __name__ == "__main__":`.'
)


def lacks_guard(error: BaseException) -> bool:
    """Whether the error is multiprocessing's RuntimeError for a main module that starts processes when imported."""
    return isinstance(error, RuntimeError) and "bootstrapping phase" in str(error)


def prepare(data: "dict[str, Any]") -> None:
    """Prepare this process for unpickling the process object: sys.path, start method, `__main__` and the like.

    data: from get_preparation_data(). Source: multiprocessing.spawn.prepare.
    """
    own = data.get("goproc")
    if own is not None:
        _prepare_goproc(own)
    main_path = data.pop("init_main_from_path", None)
    if main_path is None and "init_main_from_name" not in data:
        forget_preloaded_main()
    _standard.prepare(data)
    if main_path is not None:
        if sys.version_info >= (3, 15):
            announce_to_linecache(main_path)
        try:
            import_main_path(main_path)
        except RuntimeError as error:
            # Only for a pool's worker: the error of any other process is printed as with multiprocessing.
            if own is not None and own.get("worker") is not None and not lacks_guard(error):
                from ._pool.failures import add_note

                add_note(error, _MAIN_GUARD)
            raise


def _prepare_goproc(own):
    if own["installed"]:
        stdlib.install_again(futures=own["futures"])  # before `__main__` is imported: it may import multiprocessing
    companions.want(own["companions"])
    start_methods.children_are_bound = own["bound"]
    start_methods.default.set_start_method(own["start_method"], force=True)


def dump(
    process_obj: "BaseProcess",
    popen: object,
    own: "list[int]",
    lifeline_fd: "int | None" = None,
    tether_fd: "int | None" = None,
) -> int:
    """Pickle the preparation data and process_obj into a new memfd, positioned at its start; return its descriptor.

    If the data is larger than a file may be (RLIMIT_FSIZE), return the read end of a pipe instead. popen: the Popen
    whose duplicate_for_child() is called for each descriptor in the pickled objects. own: the descriptor is appended
    to it before a signal handler can raise; the caller closes it, also if dump() raises. lifeline_fd, tether_fd:
    the descriptors of the lifeline and of the child's tether, if the child inherits them under these numbers.
    """
    data = get_preparation_data(process_obj._name, start_methods.ends_with_parent(process_obj))
    data["goproc"].update(start_methods.sent_to_spawned(process_obj), lifeline=lifeline_fd, tether=tether_fd)
    if getattr(process_obj, "_without_main", False):  # _joblib/processes.py
        data = {key: value for key, value in data.items() if not key.startswith("init_main")}
    from ._start import data_files

    if _native.file_size_limit() < 1 << 62:
        buffer = BytesIO()
        _dump_to(buffer, data, process_obj, popen)
        with _native.held_signals:
            own.append(data_files.put("goproc-process", buffer))
        return own[-1]
    with _native.held_signals:
        own.append(data_files.open_unnamed("goproc-process"))
    with data_files.writer(own[-1]) as file:
        _dump_to(file, data, process_obj, popen)
    posix.lseek(own[-1], 0, os.SEEK_SET)
    return own[-1]


def _dump_to(file, data, process_obj, popen):
    _standard_context.set_spawning_popen(popen)
    try:
        _standard_context.reduction.dump(_Sent(data), file)
        picklers.dump_process(process_obj, _standard_context.reduction, file)
    finally:
        _standard_context.set_spawning_popen(None)


class _Sent:
    """The preparation data on its way to a child.

    Usually main() reads it there. If the program has replaced a function (_common/starters.py), multiprocessing's main
    function may read it, which knows nothing of goproc. Then unpickling takes the steps that main() takes.
    """

    def __init__(self, data):
        self._data = data

    def __reduce__(self):
        return _arrived, (self._data,)


_reading = False  # whether goproc's own function reads the data
_handed_on: "tuple[int, Any] | None" = None  # main()'s arguments, if it calls a main function of the program's


def _arrived(data):
    if not _reading:
        own = data["goproc"]
        lifeline_fd, interrupt_handler = _handed_on or (own["lifeline"], None)
        _handle_interrupts(interrupt_handler, own["worker"])
        parent_sentinel = _open_lifeline(lifeline_fd, own)
        if (relay := own["relay"]) is not None:
            relay.begin_early(data)
        _prepare_goproc(own)
        starters.take_next_bootstrap(lambda process_obj: _run(process_obj, parent_sentinel))
    return data


def _read(file):
    """Read the preparation data, and return it."""
    global _reading
    _reading = True
    try:
        return load(file)
    finally:
        _reading = False


class Rehearsal:
    """The rehearsal of a process that stands by: it runs a process object that does nothing, and leaves no trace.

    It takes the same steps as with the real process object. So the kernel copies the copy-on-write pages that these
    steps write to, some hundred because of reference counts, before the order comes.
    """

    def __init__(self, process_type: "type[BaseProcess]") -> None:
        self._own: list[int] = []
        try:
            dump(process_type(target=_nothing), self, self._own)
        except Exception:  # for instance, the working folder is gone: then the rehearsal fails, too
            pass

    def __call__(self) -> None:
        try:
            with open(f"/proc/self/fd/{self._own[0]}", "rb") as file:
                data = _read(file)
                del data["dir"]  # the folder may be gone by now
                del data["log_to_stderr"]  # a further log handler would be a trace
                prepare(data)
                load(file).run()
        except Exception:
            pass
        stdlib.flush_streams()

    def close(self) -> None:
        _native.close_all(self._own)


def _nothing():
    """Do nothing: the target of the rehearsed process."""


def spawn_main(data_fd: int, tracker_fd: int, lifeline_fd: int) -> "NoReturn":
    """The main function of a spawned child's interpreter. Does not return. All three descriptors are inherited."""
    if deferred_imports is not None:
        deferred_imports.use_tracker(tracker_fd)
    else:
        stdlib.inherit_tracker(tracker_fd)
    code = main(data_fd, lifeline_fd)
    gc.unfreeze()  # at exit, objects that the spawn server has frozen are to be collected with all others, in order
    sys.exit(code)


def main(data_fd: int, lifeline_fd: int, interrupt_handler: "Any" = None) -> int:
    """Run the process object that data_fd holds and return its exit status. Both descriptors are inherited.

    interrupt_handler: the handler to set for SIGINT; None to leave it as it is. A pool's worker gets ignore_interrupt
    instead of the default handler.
    """
    global _handed_on
    if (own_main := starters.main()) is not None:
        _handed_on = lifeline_fd, interrupt_handler
        return own_main(data_fd, lifeline_fd)
    with os.fdopen(data_fd, "rb") as file:
        stdlib.is_inheriting(True)
        try:
            data = _read(file)
            _handle_interrupts(interrupt_handler, data["goproc"]["worker"])
            # Before any step that may take long: from here on the kernel kills a daemon when its parent ends.
            parent_sentinel = _open_lifeline(lifeline_fd, data["goproc"])
            try:
                if deferred_imports is not None:
                    deferred_imports.collect_garbage_again()
                if (relay := data["goproc"]["relay"]) is not None:
                    relay.begin_early(data)
                prepare(data)
                if "multiprocessing.connection" in sys.modules:
                    _follow_pickler()
                process_obj = load(file)
            except BaseException as error:
                picklers.explain(error)
                if (end := data["goproc"]["worker"]) is not None:
                    from ._pool import worker

                    worker.could_not_begin(end.open(), error, not lacks_guard(error))
                    return 1  # the pool prints the error once, instead of each worker
                raise
        finally:
            stdlib.is_inheriting(False)
    return _run(process_obj, parent_sentinel)


def _open_lifeline(lifeline_fd, own):
    if own["tether"] is not None:
        _native.keep_tether(own["tether"])
    return _native.open_lifeline(lifeline_fd, own["daemon"])


def _run(process_obj, parent_sentinel):
    method = process_obj._start_method or start_methods.default.get_start_method(allow_none=True)
    return start_methods.run_spawned(process_obj, parent_sentinel, process_obj._name, method)


def _follow_pickler():
    from ._common import own_pickler

    own_pickler.follow()


def _handle_interrupts(handler, worker_end):
    if handler is None:
        return
    if worker_end is not None and handler is signal.default_int_handler:
        from ._pool.worker import ignore_interrupt

        handler = ignore_interrupt
    signal.signal(signal.SIGINT, handler)


def __getattr__(name: str) -> "Any":
    if name in ("get_start_method", "set_start_method"):
        return getattr(start_methods.default, name)
    return stdlib.other_name(__name__, _standard, name)
