"""Many of a pool's workers from one fork of the main program. Used by crew.py.

    Nursery.fork() ──fork──▶ template (C, no Python) ──clone──▶ worker 0, worker 1, ...: run_child(processes[number])
    process.start() ──▶ popen_fork.Popen ──▶ Nursery.take(): the clone that is this process

The C part, capi/native/clone/nursery.c, says how; docs/design/clones.md, when, and what follows for a program.
"""

import os
from _signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_sigmask
from collections import deque
from multiprocessing import util

from .. import _native
from .._common import calls, disabled, start_methods, stdlib
from ..popen_fork import keeping_tracker, run_child

__all__ = ["Nurseries"]

#: From how many missing workers on cloning them from one fork is faster than forking each; and how many are cloned at
#: most, for a clone needs a seat.
TOGETHER, _MOST_TOGETHER = 4, 1000

#: The time of a fork matters where a worker lasts for fewer seconds, and runs no more tasks, than these.
_BRISK, _FEW_TASKS = 0.1, 1000

#: How many replacements make cloning from one fork pay, and how many are prepared at most.
_LEAST_AHEAD, _MOST_AHEAD = 3, 32


def _can_clone(process):
    """Whether the process is an ordinary one: what is not is started in its own way."""
    return type(process) is start_methods.concrete["fork"].Process


_said = False


def _say_once():
    global _said
    if not _said:
        _said = True
        util.info("workers are forked one by one: a forked process cannot be cloned here (sibling.c)")


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
    rights: _native.rights() before the fork.
    """

    def __init__(self, processes, since=0, rights=None):
        self._processes = processes
        self._left = deque(processes)
        self._clones = _native.Nursery(len(processes))
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
        start_methods.clone_from(process, self)
        return process

    def take(self, process, record):
        """Take on the clone that is the process; return whether there is one. record: as of _native.start()."""
        taken = self._clones.take(record, start_methods.worker_end(process).slot if self._standing_by else None)
        if not taken:
            self._left.clear()  # the template has ended, or there is no room for processes that it makes
            util.debug("no clone of a forked worker is to be had: workers are forked one by one")
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
        stdlib.flush_streams()
        # As in crew.py: Ctrl-C is not for workers that are about to come up.
        blocked = pthread_sigmask(SIG_BLOCK, (SIGINT,))
        for process in self._processes:
            start_methods.worker_end(process).interruptible = SIGINT not in blocked
        number: int | None = -1
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
        end = start_methods.worker_end(process)
        end.clones = self._clones
        if self._standing_by:
            end.slot = None
        run_child(process, self._clones.lifeline)


class Nurseries:
    """A pool's nurseries: the one from which its workers were last started, and the one from which they are replaced.

    number: the engine's pool. maxtasks: after how many tasks a worker is replaced, None for never.
    """

    def __init__(self, number, maxtasks):
        self._number = number
        self._maxtasks = maxtasks
        self._starting: Nursery | None = None  # from which workers were last started together
        self._ahead: Nursery | None = None  # the one from which workers are replaced, while there is one
        self._brisk = False  # whether the worker that has ended last had done its tasks fast

    @property
    def has_ahead(self):
        """Whether there are workers that were forked ahead."""
        return self._ahead is not None

    def note_life(self, seconds):
        """Note for how long the worker that has ended last had lived."""
        self._brisk = seconds < _BRISK

    def to_start(self, make, slots, processes):
        """Return a Nursery from which the workers of the slots are cloned, None if each is to be forked by itself.

        make: returns the Process of a worker for a slot, which has not been started. processes: how many workers the
        pool has when all have been started.
        """
        if "clones" in disabled:
            return None
        return self._replacing(make, slots, processes) or self._starting_together(make, slots)

    def _starting_together(self, make, slots):
        if len(slots) < TOGETHER:
            return None
        processes = [make(slot) for slot in slots[:_MOST_TOGETHER]]
        if not all(map(_can_clone, processes)):
            return None
        nursery = Nursery(processes)
        if not nursery.fork_all():
            return None
        self._starting = nursery
        return nursery

    def _replacing(self, make, slots, processes):
        """Return a Nursery with workers that were forked ahead to replace those that end, None if there are none.

        All that they will run must have been submitted before the fork. So they see all that the program had done
        before it submitted that, as if they were forked now. They must also have this thread's rights.
        """
        maxtasks = self._maxtasks
        if maxtasks is None or maxtasks > _FEW_TASKS:
            return None
        if self._ahead is not None:
            least = len(slots) * maxtasks
            queued, _ = calls.pool_backlog(self._number, self._ahead.since, least)
            if self._ahead.left >= len(slots) and queued >= least and self._ahead.rights == _native.rights():
                return self._ahead
            self.close_ahead()
        if not self._brisk:
            return None
        queued, since = calls.pool_backlog(self._number, -1, _MOST_AHEAD * maxtasks)
        count = queued // maxtasks
        if count < max(_LEAST_AHEAD, len(slots)):
            return None
        made = [make(None) for _ in range(count)]
        if not all(map(_can_clone, made)):
            return None
        rights = _native.rights()
        if rights is None:
            return None
        nursery = Nursery(made, since, rights)
        if not nursery.fork_ahead(processes):
            return None
        self._ahead = nursery
        return nursery

    def settle(self, nursery):
        """No more workers will be started from the nursery."""
        nursery.settle()
        if nursery is self._ahead:
            self._ahead = None

    def close_ahead(self):
        """Give up the workers that were forked ahead."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def close(self):
        """Give up all workers that have not been taken."""
        self.close_ahead()
        if self._starting is not None:
            self._starting.close()
            self._starting = None
