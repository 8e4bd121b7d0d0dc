"""Starts a process as a fresh interpreter. Mirrors multiprocessing/popen_spawn_posix.py.

Popen._launch:  spawn.dump() ─▶ memfd ─▶ Spawn (Go) execs the interpreter ─▶ spawn.spawn_main() in the child
"""

import os
from multiprocessing import resource_tracker

from . import _transport, engine, popen_fork, spawn

__all__ = ["Popen"]


class _DupFd:
    """Stands for a descriptor in the pickled process object: the child inherits it under its own number."""

    def __init__(self, fd):
        self.fd = fd

    def detach(self):
        return self.fd


class Popen(popen_fork.Popen):
    """A child that is a fresh interpreter. Source: multiprocessing.popen_spawn_posix.Popen."""

    method = "spawn"
    DupFd = _DupFd

    def __init__(self, process_obj):
        self._fds = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd):
        """Let the child inherit fd; return its number there."""
        self._fds.append(fd)
        return fd

    def _launch(self, process_obj):
        tracker_fd = resource_tracker.getfd()
        data_fd = spawn.dump(process_obj, self)
        try:
            lifeline_fd = _transport.lifeline_fd()
            command = spawn.get_command_line("goproc.spawn:spawn_main", data_fd, tracker_fd, lifeline_fd)
            self._fds += [data_fd, tracker_fd, lifeline_fd]
            process_id = engine.call(
                "Spawn", engine.encode_texts(command), engine.encode_environment(), engine.encode_numbers(self._fds)
            )
        finally:
            os.close(data_fd)
        self._watch(process_id, engine.call("Pid", process_id), engine.call("Sentinel", process_id))
