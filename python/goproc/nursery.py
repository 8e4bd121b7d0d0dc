"""Many of a pool's workers from one fork of the main program. Used by crew.py.

    Nursery.fork() ──fork──▶ template (C, no Python) ──clone──▶ worker 0, worker 1, ...: run_child(processes[number])
    process.start() ──▶ popen_fork.Popen ──▶ Nursery.take(): the clone that is this process

The C part, capi/transport/nursery.c, says how; docs/architecture.md, when, and what follows for a program.
"""

import os
from _signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_sigmask
from collections import deque
from multiprocessing import util

from . import _transport
from .context import ForkProcess
from .popen_fork import keeping_tracker, run_child

__all__ = ["Nursery", "can_clone"]


def can_clone(process):
    """Whether the process is an ordinary one: what is not is started in its own way."""
    return type(process) is ForkProcess


_said = False


def _say_once():
    global _said
    if not _said:
        _said = True
        util.info("goproc: workers are forked one by one: a forked process cannot be cloned here (sibling.c)")


def _width():
    """Return how many clones can come up at a time without being in each other's way."""
    try:
        return len(os.sched_getaffinity(0))
    except OSError:  # a sandbox refuses it
        return os.cpu_count() or 1


class Nursery:
    """A fork of this process, and its clones.

    processes: Process objects of workers that have not been started. Starting one that next() has given takes its clone
    on, or forks it if there is none; it must follow at once. since: how many tasks had been submitted before the fork.
    rights: _transport.rights() before the fork.
    """

    def __init__(self, processes, since=0, rights=None):
        self._processes = processes
        self._left = deque(processes)
        self._clones = _transport.Nursery(len(processes))
        self._standing_by = False
        self.since = since
        self.rights = rights

    def fork_all(self):
        """Fork, and clone all processes. They come up one after the other: see settle()."""
        return self._fork(len(self._processes), 0)

    def fork_ahead(self, most):
        """Fork, and clone a few processes ahead, at most that many at a time.

        They come up, and stand by until they are taken, for any slot.
        """
        self._standing_by = True
        return self._fork(min(_width(), most, len(self._processes)), len(self._processes))

    @property
    def left(self):
        """How many of the processes next() has not given."""
        return len(self._left)

    def next(self):
        """Return the next of the processes, which is to be started; None if there is none left."""
        if not self._left:
            return None
        process = self._left.popleft()
        process._goproc_nursery = self
        return process

    def take(self, process, record):
        """Take on the clone that is the process; return whether there is one. record: as of _transport.start()."""
        taken = self._clones.take(record, process._goproc_worker.slot if self._standing_by else None)
        if not taken:
            self._left.clear()  # the template has ended, or there is no room for processes that it makes
            util.debug("goproc: no clone of a forked worker is to be had: workers are forked one by one")
        elif self._standing_by:
            self._clones.order()
        return taken

    def settle(self):
        """No more of the processes will be started: end the template. Clones that were taken go on to come up.

        Those of fork_all() do so one after the other: all at once, none would be ready to work before nearly all are.
        Until now the template and this thread have needed a processor, too.
        """
        self._clones.retire()
        self._processes = ()
        if not self._standing_by:
            for _ in range(max(_width() - 1, 1)):
                self._clones.pass_on()

    def close(self):
        """End the template, and all clones that have not begun to come up, or have not been taken."""
        self._clones.close()

    def _fork(self, count, turns):
        """Return whether this process could be forked for clones. Does not return in a clone. Raises what fork does."""
        util._flush_std_streams()
        # As in crew.py: Ctrl-C is not for workers that are about to come up.
        blocked = pthread_sigmask(SIG_BLOCK, (SIGINT,))
        for process in self._processes:
            process._goproc_worker.interruptible = SIGINT not in blocked
        number = -1
        try:
            with keeping_tracker:
                number = self._clones.fork(count, turns)
            if number is None:
                _say_once()
            if number is not None and number >= 0:
                self._be(self._processes[number])
            return number is not None
        finally:
            if number is not None and number >= 0:
                os._exit(1)  # it must not go on as its parent
            pthread_sigmask(SIG_SETMASK, blocked)

    def _be(self, process):
        end = process._goproc_worker
        end.clones = self._clones
        if self._standing_by:
            end.slot = None
        run_child(process, self._clones.lifeline)
