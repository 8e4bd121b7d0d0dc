"""The objects in pool._pool that stand for the workers on other machines. Used by crew.py."""

import os
import signal
import threading

from ..errors import CancelledError

__all__ = ["Worker"]


class Worker:
    """Stands for one worker of a machine, in the place of its Process object. driver: the machine's. number: from 0."""

    daemon = True
    authkey = None

    def __init__(self, driver, number):
        self._driver, self._number = driver, number
        self._owner = os.getpid()
        self._end = threading.Event()
        self.name = f"PoolWorker-{number} of {driver.name}"
        self.exitcode: int | None = None

    @property
    def pid(self):
        """The process id on its machine, None if it is not known yet."""
        pids = self._driver.pids
        return pids[self._number] if self._number < len(pids) else None

    ident = pid

    def is_alive(self):
        """Return whether its machine's pool has not ended."""
        return self.exitcode is None

    def join(self, timeout=None):
        """Wait for the end of its machine's pool, for at most timeout seconds. Source: multiprocessing.Process.join."""
        assert self._owner == os.getpid(), "can only join a child process"
        self._end.wait(timeout)

    def terminate(self):
        """Raise CancelledError: only the pool as a whole can be terminated."""
        raise CancelledError("a worker on another machine cannot be ended alone: call the pool's terminate()")

    kill = terminate

    def has_ended(self, terminated=False):
        """Note that its machine's pool has ended. terminated: whether by a signal."""
        if self.exitcode is None:
            self.exitcode = -signal.SIGTERM if terminated else 0
            self._end.set()

    def __repr__(self):
        return f"<{self.name} pid={self.pid}>"
