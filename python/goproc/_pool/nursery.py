"""Starts many of a pool's workers from one fork of the main program. Used by crew.py.

    Nursery.fork() ──fork──▶ template (C, no Python) ──clone──▶ worker 0, worker 1, ...: run_child(processes[number])
    process.start() ──▶ popen_fork.Popen ──▶ Nursery.take(): the clone for this Process object

capi/native/clone/nursery.c says how. docs/design/clones.md says when, and what a program can notice.
"""

import os
import posix
from _signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_sigmask
from collections import deque
from multiprocessing import util

from .. import _native
from .._common import calls, disabled, start_methods, starters, stdlib
from ..popen_fork import run_child

__all__ = ["Nurseries"]

#: The least number of missing workers for which clones are faster than a fork for each; and the most clones of one
#: fork, because each clone needs a seat.
TOGETHER, _MOST_TOGETHER = 4, 1000

#: Workers are forked ahead only if a worker lives for less than _BRISK seconds and runs at most _FEW_TASKS tasks: only
#: then does the time of a fork matter.
_BRISK, _FEW_TASKS = 0.1, 1000

#: The least number of replacements for which clones are faster, and the most that are forked ahead.
_LEAST_AHEAD, _MOST_AHEAD = 3, 32


def _can_clone(process):
    """Whether the process is of goproc's own class. A program's own class may start its processes in another way."""
    return type(process) is start_methods.concrete["fork"].Process


_logged = False


def _log_once():
    global _logged
    if not _logged:
        _logged = True
        util.info("workers are forked one by one: a forked process cannot be cloned here (sibling.c)")


def _usable_cpus():
    """Return the number of usable CPUs, which is how many clones can start at a time without slowing each other."""
    try:
        return len(os.sched_getaffinity(0))
    except OSError:  # a sandbox refuses the system call
        return os.cpu_count() or 1


def _rights():
    """Return what a worker forked now would get from this thread: rights and relay; None if that is not known."""
    rights = _native.rights()
    return None if rights is None else (rights, start_methods.relay)


class Nursery:
    """A fork of this process, the template, and its clones.

    processes: Process objects of workers that have not been started. The caller gets them from next(), and must start
    each at once: start() takes its clone, or forks if there is none. since: how many tasks had been submitted before
    the fork. rights: _rights() before the fork.
    """

    def __init__(self, processes, since=0, rights=None):
        self._processes = processes
        self._left = deque(processes)
        self._clones = _native.Nursery(len(processes))
        self._standing_by = False
        self.since = since
        self.rights = rights

    def fork_all(self):
        """Fork the template, and clone all processes. The clones start running Python one after the other: settle().

        Returns whether this process could be forked.
        """
        return self._fork(len(self._processes), 0)

    def fork_ahead(self, most):
        """Fork the template, and clone a few processes ahead, at most `most` at a time.

        The clones stand by until they are taken, each for any slot. Returns whether this process could be forked.
        """
        self._standing_by = True
        return self._fork(min(_usable_cpus(), most, len(self._processes)), len(self._processes))

    @property
    def left(self):
        """How many processes next() has not returned."""
        return len(self._left)

    def next(self):
        """Return the next process to be started; None if none is left."""
        if not self._left:
            return None
        process = self._left.popleft()
        start_methods.clone_from(process, self)
        return process

    def take(self, process, record):
        """Give the process its clone; return whether there is one. record: filled in as by _native.start()."""
        taken = self._clones.take(record, start_methods.worker_end(process).slot if self._standing_by else None)
        if not taken:
            self._left.clear()  # the template or the clone has ended, or no seat is left
            util.debug("there is no clone for this worker: workers are forked one by one")
        elif self._standing_by:
            self._clones.order()
        return taken

    def settle(self):
        """End the template: no more processes will be started. Clones that were taken go on.

        The clones of fork_all() wait for their turn: if all started at once, none would be ready for a task before
        nearly all are. Now one turn for each further CPU is passed on, since the template and this thread no longer
        need a CPU.
        """
        self._clones.retire()
        self._processes = ()
        if not self._standing_by:
            for _ in range(max(_usable_cpus() - 1, 1)):
                self._clones.pass_on()

    def close(self):
        """End the template, and all clones that have not begun to run Python, or have not been taken."""
        self._clones.close()

    def _fork(self, count, turns):
        """Fork the template; return whether that is possible here. Does not return in a clone. Raises OSError."""
        stdlib.flush_streams()
        # As in crew.py: Ctrl-C must not kill a worker before it can handle SIGINT.
        blocked = pthread_sigmask(SIG_BLOCK, (SIGINT,))
        for process in self._processes:
            start_methods.worker_end(process).interruptible = SIGINT not in blocked
        number: int | None = -1
        try:
            with starters.keeping_tracker:
                number = self._clones.fork(count, turns)
            if number is None:
                _log_once()
            if number is not None and number >= 0:
                self._run_clone(self._processes[number])
            return number is not None
        finally:
            if number is not None and number >= 0:
                posix._exit(1)  # a clone must not go on as its parent
            pthread_sigmask(SIG_SETMASK, blocked)

    def _run_clone(self, process):
        end = start_methods.worker_end(process)
        end.clones = self._clones
        if self._standing_by:
            end.slot = None
        run_child(process, self._clones.lifeline, None, process._name)


class Nurseries:
    """A pool's nurseries: one for starting workers together, and one for replacing workers.

    number: the engine's pool. maxtasks: the number of tasks after which a worker is replaced, None for never.
    """

    def __init__(self, number, maxtasks):
        self._number = number
        self._maxtasks = maxtasks
        self._starting: Nursery | None = None  # the nursery from which workers were last started together
        self._ahead: Nursery | None = None  # the nursery whose clones stand by to replace workers
        self._brisk = False  # whether the worker that has ended last had lived for less than _BRISK seconds

    @property
    def has_ahead(self):
        """Whether there are workers that were forked ahead."""
        return self._ahead is not None

    def note_life(self, seconds):
        """Note for how many seconds the worker that has ended last had lived."""
        self._brisk = seconds < _BRISK

    def to_start(self, make, slots, processes):
        """Return a Nursery with clones for the slots, None if each worker is to be forked by itself.

        make: returns the Process object of a worker for a slot, not started yet. processes: how many workers the pool
        has when all have been started.
        """
        if "clones" in disabled or starters.fork() is not None:
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
        """Return a Nursery with workers that were forked ahead to replace workers, None if there is none.

        A worker that is forked now would see all that the program has done until now. A worker that was forked ahead
        must see all that its tasks can need: so all its tasks must have been submitted before the fork. It must also
        have this thread's rights (docs/design/rights.md).
        """
        maxtasks = self._maxtasks
        if maxtasks is None or maxtasks > _FEW_TASKS:
            return None
        if self._ahead is not None:
            least = len(slots) * maxtasks
            queued, _ = calls.pool_backlog(self._number, self._ahead.since, least)
            if self._ahead.left >= len(slots) and queued >= least and self._ahead.rights == _rights():
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
        rights = _rights()
        if rights is None:
            return None
        nursery = Nursery(made, since, rights)
        if not nursery.fork_ahead(processes):
            return None
        self._ahead = nursery
        return nursery

    def settle(self, nursery):
        """Call nursery.settle(): no more workers will be started from it."""
        nursery.settle()
        if nursery is self._ahead:
            self._ahead = None

    def close_ahead(self):
        """Give up the workers that were forked ahead."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def close(self):
        """Give up all clones that have not been taken."""
        self.close_ahead()
        if self._starting is not None:
            self._starting.close()
            self._starting = None
