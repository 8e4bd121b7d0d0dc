"""Starts a process as a new interpreter. Mirrors multiprocessing/popen_spawn_posix.py.

Popen._launch:  spawn.dump() ─▶ memfd ─▶ SpawnRequest (Go) ─▶ the spawn server (spawn_server.py) forks the child ──┐
                                 └─ if it cannot ─▶ Spawn (Go) executes an interpreter ─▶ spawn.spawn_main() there ◀──┘

multiprocessing's util.spawnv_passfds() executes the interpreter if there can be no engine, or if the program has
replaced this function or the like (_common/starters.py). Called by context.py.
"""

import errno
import os
import sys
from multiprocessing import util

from . import _native, popen_fork, spawn
from ._common import calls, disabled, engine, starters, stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from typing import Any

__all__ = ["Popen", "stop_server"]


class _DupFd:
    """Stands for a descriptor in the pickled process object: the child inherits it under its own number."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def detach(self) -> int:
        return self.fd


class Popen(popen_fork.Popen):
    """A child that is a new interpreter. Source: multiprocessing.popen_spawn_posix.Popen."""

    method: str = "spawn"
    DupFd = _DupFd

    def __init__(self, process_obj: "BaseProcess", method: str = "spawn") -> None:
        self._fds: list[int] = []
        self.method = method  # "forkserver" when this is used because there is no fork server
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Let the child inherit fd under the same number; return fd."""
        self._fds.append(fd)
        return fd

    def _launch(self, process_obj):
        tracker_fd = stdlib.tracker_pipe()
        if starters.executor(self.method) is not None or engine.refusal() is not None:
            self._launch_without_engine(process_obj, tracker_fd)
            return
        own: list[int] = []
        try:
            with _native.held_signals:
                own.append(_native.duplicate_lifeline())
            data_fd = spawn.dump(process_obj, self, own, own[0])
            fds = [data_fd, tracker_fd, own[0], *self._fds]
            with _native.held_signals:
                process_id = _ask_server(fds)
                if process_id is None:
                    command = spawn.get_command_line("goproc.spawn:spawn_main", *fds[:3])
                    process_id = calls.spawn(command, fds)
                self._watch(process_id, calls.pid(process_id), calls.sentinel(process_id))
                process_obj._popen = self
        finally:
            _native.close_all(own)

    def _launch_without_engine(self, process_obj, tracker_fd):
        own: list[int] = []
        try:
            with _native.held_signals:
                own.append(_native.duplicate_lifeline())
                own.extend(_native.make_tether() or ())
            lifeline_fd, *tether = own
            data_fd = spawn.dump(process_obj, self, own, lifeline_fd, *tether[1:])
            fds = [data_fd, tracker_fd, lifeline_fd, *self._fds, *tether[1:]]
            with _native.held_signals:
                pid = _execute(fds, self.method)
                del own[1 : len(tether)]  # the read end of the tether, which the seat owns from now on
                self._watch(*_native.take_on(pid, *tether[:1]))
                process_obj._popen = self
        finally:
            _native.close_all(own)
        calls.count_executed(self.method)


_spawned_before = False  # whether a process has been spawned: starting the server pays off from the second process on
_server_refuses = False  # whether the server has answered that its interpreter cannot be cloned


def stop_server() -> None:
    """Stop the spawn server, if it runs, and wait for its end. The next process that is spawned starts a new server."""
    calls.stop_server("spawn")


def _ask_server(fds):
    """Return the engine's id of a process that the spawn server has forked, None if an interpreter must be executed.

    Raises nothing when the server fails: if the cause also prevents the execution, the execution raises the error.
    """
    global _spawned_before, _server_refuses
    if "spawn-server" in disabled:
        return None
    if not _spawned_before:
        _spawned_before = True
        return None
    interpreter = [os.fsencode(word) for word in spawn.interpreter_command()]
    if _server_refuses or getattr(sys, "frozen", False) or interpreter != [os.fsencode(sys.executable)]:
        return None  # the program has set a command line of its own: it must be executed for each process
    if max(fds) >= os.sysconf("SC_OPEN_MAX"):
        util.info(
            "an interpreter is executed: a descriptor has a number above RLIMIT_NOFILE, which cannot be given anew"
        )
        return None
    command = spawn.get_command_line("goproc._start.spawn_server:main", stdlib.is_tracing())
    for _ in range(2):
        try:
            return calls.ask_spawn_server(command, fds)
        except ProcessLookupError:
            pass  # the server has ended: the next attempt starts a new one
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None) == errno.ENOSYS:
                _server_refuses = True
                util.info("from now on an interpreter is executed for each spawned process: %s", error)
                stop_server()
            break
    return None


def _execute(fds, method):
    """Execute an interpreter without the engine; return its pid. fds: those of the child, first its data's."""
    make_command = starters.command_line() if method == "spawn" else None
    if make_command is not None:
        command = make_command(tracker_fd=fds[1], pipe_handle=fds[0])
    else:
        command = spawn.get_command_line("goproc.spawn:spawn_main", *fds[:3])
    return util.spawnv_passfds(os.fsencode(spawn.get_executable()), command, fds)


def __getattr__(name: str) -> "Any":
    return stdlib.other_name(__name__, stdlib.standard_module("popen_spawn_posix"), name)
