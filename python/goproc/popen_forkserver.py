"""Starts a process by asking the fork server. Mirrors multiprocessing/popen_forkserver.py.

Popen._launch:  spawn.dump() ─▶ memfd ─▶ forkserver.connect_to_new_process() ─▶ the server forks ─▶ pid and pidfd

Called by context.py.
"""

import os

from . import _native, forkserver, popen_fork, spawn
from ._common import engine, starters, stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from typing import Any

__all__ = ["Popen"]

#: Seconds that the server has to send the exit status of a process that has ended.
_PATIENCE = 1


class _DupFd:
    """Stands for a descriptor in the pickled process object. ind: its index in the list of sent descriptors."""

    def __init__(self, ind: int) -> None:
        self.ind = ind

    def detach(self) -> int:
        fds = forkserver.get_inherited_fds()
        assert fds is not None  # this is the fork server's child
        return fds[self.ind]


class Popen(popen_fork.Popen):
    """A child forked by the fork server. Source: multiprocessing.popen_forkserver.Popen."""

    method: str = "forkserver"
    DupFd = _DupFd

    def __new__(cls, process_obj: "BaseProcess | None" = None) -> "popen_fork.Popen":  # type: ignore[misc]
        """Return a Popen. Without a server it executes an interpreter: no engine, or the program starts processes.

        process_obj: None for an object that is unpickled, with a Process object that has been started.
        """
        if process_obj is None:
            return super().__new__(cls)
        if starters.executor(cls.method) is not None or engine.refusal() is not None:
            from .popen_spawn_posix import Popen as Executing

            return Executing(process_obj, cls.method)
        return super().__new__(cls)

    def __init__(self, process_obj: "BaseProcess") -> None:
        self._fds: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Send the child a duplicate of fd; return its index in the list of descriptors that are sent."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def poll(self, flag: int = os.WNOHANG) -> "int | None":
        """Return the return code, or None while the process runs. With flag 0, wait for its end first.

        The sentinel is readable as soon as the process ends. The exit status comes a moment later, from the server,
        which reaps the process. If the sentinel is readable, poll() waits for the status: at most a second, because the
        server may have been stopped.
        """
        code = super().poll(flag)
        if code is None and self._owner == os.getpid() and self._has_sentinel():
            if _native.wait_readable(self.sentinel, 0):
                code = self.wait(_PATIENCE)
        return code

    def _launch(self, process_obj):
        own: list[int] = []
        try:
            data_fd = spawn.dump(process_obj, self, own)
            with _native.held_signals:
                self._watch(*forkserver.connect_to_new_process(self._fds, data_fd))
                process_obj._popen = self
        finally:
            _native.close_all(own)


def __getattr__(name: str) -> "Any":
    return stdlib.other_name(__name__, stdlib.standard_module("popen_forkserver"), name)
