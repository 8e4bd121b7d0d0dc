"""The fork server: its client, and the server's own main loop. Mirrors multiprocessing/forkserver.py.

    this process                                   the server: a Python process with one thread and no Go
    ────────────                                   ────────────────────────────────────────────────────
                                                   main(): imports the preloaded modules, once
         engine        ◀── STANDBY, EXITED ─────── Server.serve() (server.py): fork ──▶ child
    connect_to_new_process()                                                              │
      └▶ engine (Go): ── descriptors ────────────────────────────────────────────────────▶ spawn.main()

Each engine has a server of its own, and talks to it over a private socket pair (SOCK_SEQPACKET): there is no address
that another process could connect to. The server ends when the other end of its socket is closed, so it cannot outlive
the process that started it. A child is sent descriptors: first the process object's memfd, then the resource tracker's
pipe, then those that belong to the pickled objects.
"""

import gc
import os
import pickle
import signal
import sys
from io import BytesIO

from . import _native, popen_fork, spawn
from ._common import calls, start_methods, stdlib
from ._start.prefork import Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

__all__ = ["connect_to_new_process", "ensure_running", "get_inherited_fds", "set_forkserver_preload"]

#: What one message can carry: SCM_MAX_FD.
MAXFDS_TO_SEND = 253


class ForkServer:
    """The client's side. Source: multiprocessing.forkserver.ForkServer."""

    def __init__(self) -> None:
        self._inherited_fds: list[int] | None = None
        self._preload_modules = ["__main__"]
        self._preload_on_error = "ignore"

    @property
    def _forkserver_pid(self) -> "int | None":
        """The server's pid, None if this process has none running."""
        return calls.server_pid("forkserver")

    def _stop(self) -> None:
        """Stop the server, if one runs, and wait for its end. The next process starts another."""
        calls.stop_server("forkserver")

    def set_forkserver_preload(
        self, modules_names: "list[str]", *, on_error: "Literal['ignore', 'warn', 'fail']" = "ignore"
    ) -> None:
        """Set the names of the modules that a server started from now on imports first; `__main__` is the program's.

        on_error: what it does when one cannot be imported: "ignore", "warn" or "fail". Raises TypeError unless all
        names are str, ValueError for another on_error.
        """
        if on_error not in ("ignore", "warn", "fail"):
            raise ValueError(f"on_error must be 'ignore', 'warn', or 'fail', not {on_error!r}")
        if not all(type(module) is str for module in modules_names):
            raise TypeError("module_names must be a list of strings")
        self._preload_modules = modules_names
        self._preload_on_error = on_error

    def get_inherited_fds(self) -> "list[int] | None":
        """Return the descriptors that this process was sent by its parent; None if no fork server started it."""
        return self._inherited_fds

    def ensure_running(self) -> None:
        """Start this process's server unless it runs. Raises OSError if that fails."""
        tracker_fd = spawn.tracker_fd()
        if calls.server_pid("forkserver"):
            return
        own = [self._dump_preload_data()]
        try:
            own.append(_native.duplicate_lifeline())
            numbers = own[0], tracker_fd, own[1]
            command = spawn.get_command_line("goproc.forkserver:main", *numbers, flag="--multiprocessing-forkserver")
            calls.start_forkserver(command, numbers)
        finally:
            for fd in own:
                os.close(fd)

    def connect_to_new_process(self, fds: "Sequence[int]", data_fd: int) -> "tuple[int, int, int]":
        """Let the server fork a child that runs the process object in data_fd and inherits duplicates of fds.

        Returns the engine's id of the process, its pid and its sentinel. Raises ValueError for too many descriptors,
        OSError if the fork failed, EOFError if the server died before it answered.
        """
        if len(fds) + 2 > MAXFDS_TO_SEND:
            raise ValueError("too many fds")
        sent = [data_fd, spawn.tracker_fd(), *fds]
        self.ensure_running()
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
        data = {}
        if self._preload_modules:
            data = spawn.get_preparation_data("ForkServer")
            # These belong to the children, who are sent them themselves.
            for key in ("name", "authkey", "log_to_stderr", "log_level"):
                data.pop(key, None)
            if "__main__" not in self._preload_modules:
                data.pop("init_main_from_name", None)
                data.pop("init_main_from_path", None)
        tracing = stdlib.is_tracing()
        contents = (tracing, data, list(self._preload_modules), self._preload_on_error, _parts_in_use())
        return spawn.put("goproc-forkserver", BytesIO(pickle.dumps(contents)))


def _parts_in_use():
    """The parts of multiprocessing and goproc that this program has imported: its children will need them, too.

    Not those of a pool's own side: its workers need the module worker, and what that imports.
    """
    return [
        name
        for name in sys.modules
        if name.startswith(("multiprocessing.", "goproc."))
        and name not in ("goproc._engine", "goproc.pool")
        and (not name.startswith("goproc._pool.") or name == "goproc._pool.worker")
    ]


def main(data_fd: int, tracker_fd: int, lifeline_fd: int, socket_fd: int) -> None:
    """Run the fork server: its interpreter's main function. All four descriptors are inherited. Does not return."""
    # A Ctrl-C is for the programs in the foreground; the server ends when its client does.
    interrupt_handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    _native.take_title(f"goproc: fork server of {os.getppid()}")
    tracker = stdlib.tracker()
    tracker._fd = tracker_fd
    with open(data_fd, "rb") as file:
        traces, data, *modules = pickle.load(file)
    tell = None
    if traces:
        from ._common.log import teller

        tell = teller("fork server")
    # From 3.13 on a child runs exit functions: until 3.13.1 those of `__main__`, too, which multiprocessing failed to
    # preload, so that a child imported it; then none of what has been preloaded.
    if (3, 13) <= sys.version_info < (3, 13, 2):
        stdlib.forget_exit_functions()
    _preload(data, *modules)
    if sys.version_info >= (3, 13, 2):
        stdlib.forget_exit_functions()
    # Each child is sent this pipe. The tracker ends with its last writer, and the server would be one for ever.
    os.close(tracker_fd)
    tracker._fd = None
    stdlib.close_stdin()
    stdlib.flush_streams()

    set_by_preload = signal.signal(signal.SIGINT, signal.SIG_IGN)
    if set_by_preload not in (signal.SIG_IGN, None):
        interrupt_handler = set_by_preload
    # Ignored, as by the program, the kernel would tell nobody how children have ended. They get back what was set.
    child_handler = signal.getsignal(signal.SIGCHLD)
    if child_handler is not None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # What is imported stays: the children need not look through it, which would copy its pages.
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
            _, (data_fd, tracker._fd, *_forkserver._inherited_fds) = sent
            code = spawn.main(data_fd, lifeline_fd, interrupt_handler)
    except Exception:
        sys.excepthook(*sys.exc_info())
        stdlib.flush_streams()
    finally:
        if os.getpid() != server_pid:
            popen_fork.leave(code)
        # Not through the interpreter's exit: preloaded threads and exit functions are the program's business.
        stdlib.run_finalizers()
        stdlib.flush_streams()
        os._exit(0)


def _preload(data, modules, on_error, parts):
    """Import what the children need, `__main__` first.

    What fails to import is left to them, unless on_error says otherwise: they raise the error.
    """
    stdlib.is_inheriting(True)
    try:
        try:
            spawn.prepare(data)
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


def _handle_preload(preload, main_path=None, sys_path=None, sys_argv=None, on_error="ignore"):
    """Import the modules of preload. Source: multiprocessing.forkserver._handle_preload of Python 3.15."""
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
