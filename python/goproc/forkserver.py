"""The fork server: its client, and its main function. Mirrors multiprocessing/forkserver.py.

    this process                                   the server: a Python process with one thread and no Go
    ────────────                                   ────────────────────────────────────────────────────
                                                   main(): imports the preloaded modules, once
         engine        ◀── STANDBY, EXITED ─────── Server.serve() (prefork.py): fork ─▶ child
    connect_to_new_process()                                                              │
      └▶ engine (Go): ── descriptors ────────────────────────────────────────────────────▶ spawn.main()

Each engine has its own server, and talks to it over a private socket pair (SOCK_SEQPACKET). So there is no address that
another process could connect to. The server exits when the other end of its socket is closed, so it cannot outlive the
process that started it. A child is sent descriptors: first the process object's memfd, then the resource tracker's
pipe, then the descriptors in the pickled objects.
"""

import errno
import gc
import os
import pickle
import posix
import signal
import sys
from io import BytesIO

from . import _native, popen_fork, spawn
from ._common import calls, disabled, start_methods, stdlib
from ._start.prefork import Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

__all__ = ["connect_to_new_process", "ensure_running", "get_inherited_fds", "set_forkserver_preload"]

#: What tells the main module in the preparation data.
_MAIN = ("init_main_from_path", "init_main_from_name")

#: The most descriptors in one message: SCM_MAX_FD of the kernel.
MAXFDS_TO_SEND = 253


class ForkServer:
    """The client of the fork server. Source: multiprocessing.forkserver.ForkServer."""

    def __init__(self) -> None:
        self._inherited_fds: list[int] | None = None
        self._preload_modules = ["__main__"]
        self._preload_on_error = "ignore"
        self._user = os.geteuid()  # when the server was started

    @property
    def _forkserver_pid(self) -> "int | None":
        """The pid of this process's server, None if no server runs."""
        return calls.server_pid("forkserver")

    def _stop(self) -> None:
        """Stop the server, if it runs, and wait for its end. The next process that is started starts a new server."""
        calls.stop_server("forkserver")

    def set_forkserver_preload(
        self, modules_names: "list[str]", *, on_error: "Literal['ignore', 'warn', 'fail']" = "ignore"
    ) -> None:
        """Set the modules that the next server imports before it forks; see context.BaseContext.set_forkserver_preload.

        Raises TypeError unless all names are str, ValueError for an unknown on_error.
        """
        if not all(type(module) is str for module in modules_names):
            raise TypeError("module_names must be a list of strings")
        if on_error not in ("ignore", "warn", "fail"):
            raise ValueError(f"on_error must be 'ignore', 'warn', or 'fail', not {on_error!r}")
        self._preload_modules = modules_names
        self._preload_on_error = on_error

    def get_inherited_fds(self) -> "list[int] | None":
        """Return the descriptors that the parent sent to this process; None if no fork server started it."""
        return self._inherited_fds

    def ensure_running(self) -> None:
        """Start this process's server, unless it runs. Raises OSError if that fails."""
        tracker_fd = stdlib.tracker_pipe()
        if calls.server_pid("forkserver"):
            return
        own: list[int] = []
        try:
            with _native.held_signals:
                own.append(self._dump_preload_data())
                own.append(_native.duplicate_lifeline())
            numbers = own[0], tracker_fd, own[1]
            command = spawn.get_command_line("goproc.forkserver:main", *numbers, flag="--multiprocessing-forkserver")
            self._user = os.geteuid()
            calls.start_forkserver(command, numbers)
        finally:
            _native.close_all(own)

    def connect_to_new_process(self, fds: "Sequence[int]", data_fd: int) -> "tuple[int, int, int]":
        """Let the server fork a child that runs the process object in data_fd and inherits duplicates of fds.

        Returns the engine's id of the process, its pid and its sentinel. Raises ValueError for too many descriptors,
        OSError if the fork failed, EOFError if the server died before it answered. Raises PermissionError if this
        process has changed its user since the server was started, because the server's children still have its rights.
        """
        if len(fds) + 2 > MAXFDS_TO_SEND:
            raise ValueError("too many fds")
        sent = [data_fd, stdlib.tracker_pipe(), *fds]
        self.ensure_running()
        if (user := os.geteuid()) != self._user and user != 0:  # which may not use multiprocessing's server either
            raise PermissionError(
                errno.EACCES,
                f"the fork server was started by user {self._user}, and this process is user {user} now: start "
                "processes before the user is changed, or by fork or spawn",
            )
        try:
            process_id = calls.ask_forkserver(sent)
        except ProcessLookupError as error:
            ended = EOFError(f"the fork server ended before it had started the process: {error}")
            if self._preload_modules and self._preload_on_error == "fail":
                note = "Forkserver process may have crashed during module preloading. Check stderr."
                if hasattr(ended, "add_note"):
                    ended.add_note(note)
                else:
                    ended.args = (f"{ended}. {note}",)
            raise ended from None
        return process_id, calls.pid(process_id), calls.sentinel(process_id)

    def _dump_preload_data(self):
        # In any case: the server imports parts of multiprocessing, and must install goproc before.
        data = {"goproc": spawn.for_children()}
        if self._preload_modules:
            # Each child is sent everything else, which the server might not be able to unpickle.
            kept = ("sys_path", "sys_argv", "goproc", *(_MAIN if "__main__" in self._preload_modules else ()))
            data = {key: value for key, value in spawn.get_preparation_data("ForkServer").items() if key in kept}
        tracing = stdlib.is_tracing()
        contents = (tracing, data, list(self._preload_modules), self._preload_on_error, _parts_in_use())
        from ._start import data_files

        return data_files.put("goproc-forkserver", BytesIO(pickle.dumps(contents)))


def _parts_in_use():
    """Return the modules of multiprocessing and goproc that this program has imported: its children need them, too.

    The modules of the parent's side of a pool are left out: a worker needs only _pool.worker and what that imports.
    """
    return [
        name
        for name in sys.modules
        if name.startswith(("multiprocessing.", "goproc."))
        and name not in ("goproc._engine", "goproc.pool")
        and (not name.startswith("goproc._pool.") or name == "goproc._pool.worker")
    ]


def main(data_fd: int, tracker_fd: int, lifeline_fd: int, socket_fd: int) -> None:
    """The main function of the fork server's interpreter. All four descriptors are inherited. Does not return."""
    # Ctrl-C must not end the server; the server exits when its client does.
    interrupt_handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    _native.take_title(f"goproc: fork server of {os.getppid()}")
    tracker = stdlib.tracker()
    stdlib.inherit_tracker(tracker_fd)
    with open(data_fd, "rb") as file:
        traces, data, modules, on_error, parts = pickle.load(file)
    tell = None
    if traces:
        from ._common.log import teller

        tell = teller("fork server")
    _preload(data, modules, on_error, parts, tell)
    if sys.version_info >= (3, 13):  # a child runs exit functions, but none of preloaded modules
        stdlib.forget_exit_functions()
    # Each child is sent this pipe. The server must close it: the tracker ends when no process has the pipe open.
    posix.close(tracker_fd)
    tracker._fd = None
    stdlib.close_stdin()
    stdlib.flush_streams()

    set_by_preload = signal.signal(signal.SIGINT, signal.SIG_IGN)
    if set_by_preload not in (signal.SIG_IGN, None):
        interrupt_handler = set_by_preload
    # If SIGCHLD were ignored, as a program may set it, the kernel would drop the children's exit statuses. The children
    # get back the handler that was set.
    child_handler = signal.getsignal(signal.SIGCHLD)
    if child_handler is not None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Freeze all objects: otherwise the garbage collector of each child would visit them, and so copy their pages.
    gc.collect()
    gc.freeze()
    server_pid, code = os.getpid(), 1
    rehearse = lambda: spawn.Rehearsal(start_methods.concrete["forkserver"].Process)  # noqa: E731
    server = Server(socket_fd, False, rehearse, tell=tell)
    try:
        sent = server.serve()
        if sent is not None:
            if child_handler is not None:
                signal.signal(signal.SIGCHLD, child_handler)
            _, (data_fd, tracker_fd, *_forkserver._inherited_fds) = sent
            stdlib.inherit_tracker(tracker_fd)
            code = spawn.main(data_fd, lifeline_fd, interrupt_handler)
    except Exception:
        sys.excepthook(*sys.exc_info())
        stdlib.flush_streams()
    finally:
        if os.getpid() != server_pid:
            popen_fork.leave(code)
        # At once, because the server must not run the program's exit functions, nor wait for its threads.
        stdlib.run_finalizers()
        stdlib.flush_streams()
        posix._exit(0)


def _preload(data, modules, on_error, parts, tell=None):
    """Import the modules that the children need, `__main__` first. parts: modules whose errors are always ignored.

    on_error: "ignore": a module that fails is imported again by the children, which raise the error. "warn": also warn.
    "fail": raise the error here. tell: a function that logs; it takes a text and its % arguments.
    """
    main = {key: data.pop(key) for key in _MAIN if key in data}
    stdlib.is_inheriting(True)
    try:
        try:
            spawn.prepare(data)
            reason = _reason_to_leave_main(main, on_error) if main else None
            if reason is None:
                spawn.prepare(main)
            elif tell is not None:
                tell("each child imports the main module, because of %s", reason)
        except BaseException as error:
            if "__main__" in modules:
                _failed("__main__", error, on_error)
        for module in (*modules, *parts):
            if module != "__main__":
                try:
                    __import__(module)
                except BaseException as error:
                    if module in modules:
                        _failed(f"module {module!r}", error, on_error)
    finally:
        stdlib.is_inheriting(False)


def _reason_to_leave_main(main, on_error):
    """Return why each child is to import the main module; None if the server is. on_error: as for _preload.

    The server imports it where multiprocessing's server does, or if no child can notice. Python 3.15's argument
    on_error, other than "ignore", asks for the import on every version.
    """
    path = main.get("init_main_from_path")
    if path is not None and (stdlib.PRELOADS_MAIN or on_error != "ignore"):
        return None
    if "preloaded-main" in disabled:
        return "GOPROC_DISABLE"
    from ._start import inert

    return inert.reason_to_import_anew(path, main.get("init_main_from_name"))


def _handle_preload(preload, main_path=None, sys_path=None, sys_argv=None, on_error="ignore"):
    """Import the modules of preload. goproc does not call this; it is here because multiprocessing's module has it.

    Source: multiprocessing.forkserver._handle_preload of Python 3.15.
    """
    data = {"init_main_from_path": main_path, "sys_path": sys_path, "sys_argv": sys_argv}
    if "__main__" not in preload:
        del data["init_main_from_path"]
    _preload({key: value for key, value in data.items() if value is not None}, preload, on_error, ())


def _failed(what, error, on_error):
    if on_error == "fail":
        raise error
    if on_error == "warn":
        import warnings

        warnings.warn(f"Failed to preload {what}: {error}", ImportWarning, stacklevel=3)


_forkserver = ForkServer()
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
connect_to_new_process = _forkserver.connect_to_new_process
set_forkserver_preload = _forkserver.set_forkserver_preload


def __getattr__(name: str) -> "Any":
    return stdlib.other_name(__name__, stdlib.standard_module("forkserver"), name)
