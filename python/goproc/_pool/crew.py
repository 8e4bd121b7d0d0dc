"""A pool's workers: starts them, replaces those that end, and ends them all. Used by engine_pool.py and dispatch.py.

Workers are ordinary daemonic processes, started by the pool's context on whatever Python thread is in a call of the
pool. The engine decides what they do; see core/pool.
"""

import itertools
import os
import sys
import threading
import time
from _signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_sigmask
from collections import deque
from functools import partial
from multiprocessing import util

from .. import _native, connection
from .._common import calls
from .._common.start_methods import be_worker, worker_end
from ..errors import EngineError, WorkerLostError
from .nursery import Nurseries
from .worker import ChannelEnd, worker

__all__ = ["Crew"]

#: Seconds that a terminated worker has to end by itself before it is killed.
GRACE = 5.0

#: Seconds that workers without a task have for their exit functions when the pool is terminated.
_LEAVING = 0.2

#: Seconds to wait before another worker is started when none can begin: the first pause, and the longest, as each is
#: twice as long as the one before. The third is when what is pending fails.
_FIRST_PAUSE, _LONGEST_PAUSE, _PATIENCE = 0.05, 0.5, 5.0


class Crew:
    """The workers of one pool.

    context, make_process: what starts them. number: the engine's pool. processes: how many there shall be. pool: the
    list of their Process objects, which this object keeps up to date. cache: the results that are not complete. plan:
    the Plan of each worker.
    """

    def __init__(self, context, make_process, number, processes, pool, cache, plan):
        self._context = context
        self._make_process = make_process
        self.number = number
        self._processes = processes
        self._pool = pool
        self._cache = cache
        self._plan = plan
        self._by_pid = {}  # a slot may be used again before its former worker's end has been noted
        self._populating = threading.RLock()
        self._serials = itertools.count(1)
        self._nurseries = Nurseries(number, plan.maxtasks)
        self._stillborn = 0  # how many workers in a row ended without having taken a task
        self._reason = None  # what kept the last of them from it, as far as it could tell
        self.closing = False  # no further tasks will come
        self.replacing = True  # whether workers that end are replaced
        self.terminated = False
        self.broken = None  # why no worker can begin: what is pending has failed with it
        self.due = None  # when to see to workers that could not begin, by time.monotonic(); None when all is well
        self._pause = 0.0  # the last one before a worker was started, 0 when all is well
        self._since = 0.0  # since when no worker could begin
        self._attempting = False  # whether a single worker has been started, which may begin
        self._next_attempt = 0.0  # when a task that is submitted has another one started, if no worker could begin

    @property
    def done(self):
        """Whether no worker is left, and none is to be started."""
        return not self._by_pid and self.due is None

    def grow(self, processes):
        """Have that many workers from now on, if that is more than before."""
        self._processes = max(self._processes, processes)
        self.repopulate()

    def repopulate(self, all_or_none=False, most=None):
        """Start the missing workers, at most that many if most is given. Signal handlers are called afterwards.

        all_or_none: if one cannot be started, give the others no work; the caller is to terminate() them.
        """
        with self._populating, _native.held_signals:
            started = []
            nursery = blocked = None
            complete = False
            fds: list[int] = []
            slots: list[int] = []
            try:
                if len(self._pool) < self._processes:
                    # The engine's own descriptor is closed in a forked child.
                    fds.append(os.dup(calls.pool_memory_fd(self.number)))
                    # All at once: a call between two forks would wake threads of the engine, which then write to pages
                    # that the first fork has made copy-on-write.
                    missing = self._processes - len(self._pool)
                    missing = missing if most is None else min(missing, most)
                    slots += calls.pool_slots(self.number, missing)
                    if self._context.get_start_method() == "fork":
                        nursery = self._nurseries.to_start(partial(self._make, fds), slots, self._processes)
                    else:
                        from ..spawn import tracker_fd

                        tracker_fd()  # starting the tracker would unblock the signal
                    # Before the first fork, too: after it, memory is copy-on-write.
                    made = deque(self._make(fds, slot) for slot in ([] if nursery else slots))
                    # A worker that is coming up must not die of Ctrl-C. It inherits this thread's signal mask.
                    blocked = pthread_sigmask(SIG_BLOCK, (SIGINT,))
                    interruptible = SIGINT not in blocked
                while slots and not self.terminated:
                    process = nursery.next() if nursery else made.popleft()
                    if process is None:
                        process = self._make(fds, slots[0])
                    started.append(self._start(process, fds, slots[0], interruptible))
                    del slots[0]
                    util.debug("added worker")
                complete = True
            finally:
                if blocked is not None:
                    pthread_sigmask(SIG_SETMASK, blocked)
                for fd in fds:
                    os.close(fd)
                for slot in slots:
                    _ignoring_poison(calls.pool_drop, self.number, slot)
                if self.terminated:
                    self.terminate()  # meanwhile, by another thread or by a signal handler in this one
                elif complete or not all_or_none:
                    for slot, process in started:
                        self._by_pid[process.pid] = process
                        calls.pool_add(self.number, slot, process._popen._id, self._plan.maxtasks)
                if nursery is not None and not (complete and nursery.left):
                    self._nurseries.settle(nursery)

    def serial(self, pid):
        """Return the serial of the worker, None if its end has been noted."""
        process = self._by_pid.get(pid)
        return None if process is None else worker_end(process).serial

    def exited(self, pid, exitcode, served):
        """Note that a worker has ended, and replace it if there may be work for another.

        served: whether it had taken a task. Returns None, or the exception that all pending tasks must fail with. May
        be called again for the same worker, if a signal handler raised in the first call.
        """
        process = self._by_pid.get(pid)
        if process is None or self.terminated:
            return None
        process.join()
        self._nurseries.note_life(time.monotonic() - worker_end(process).started)
        if process in self._pool:
            if not self.closing or self._cache:  # else it stays, as with multiprocessing: programs look at exit codes
                self._pool.remove(process)
            util.debug("cleaning up worker %d" % pid)
            if exitcode:
                from .._common.log import warn

                how = f"exited with status {exitcode}" if exitcode > 0 else f"was killed by signal {-exitcode}"
                warn(f"pool: worker {pid} {how}{'' if self.closing else '; another one takes its place'}")
        stillborn = 0 if served else self._stillborn + 1
        if served:
            self._recovered()
        if stillborn > 2 + self._processes:
            from .describe import in_one_line

            reason = self._reason
            shown = None if reason is None else in_one_line(reason)
            error = WorkerLostError(pid, exitcode, births=stillborn, reason=shown)
            error.__cause__ = reason
            self._put_off(error, _is_lasting(reason))
        elif not self.replacing:
            if not self._pool:  # nobody is left for what is pending
                self.broken = WorkerLostError(pid, exitcode)
        elif not self.closing or self._cache:
            try:
                self.repopulate()
            except Exception as error:
                if not self._pool and not self.terminated:  # else the engine refuses to prepare any
                    self._put_off(error, not isinstance(error, OSError))
        else:
            self.replace_by_forks()
        # Now that it has been replaced, it is not the last one. No signal handler is called between these two.
        mine = self._by_pid.get(pid) is process
        self._stillborn = stillborn
        if mine:
            del self._by_pid[pid]
        return self.broken

    # When worker after worker ends before it has taken a task, the next ones are started one by one, after growing
    # pauses: what their initializer needs may be there a moment later. After a while all pending tasks fail, and no
    # more workers are started. A task that is submitted later has one tried again, unless one was tried just now.
    # As soon as one worker has come up, all others are started.

    def _put_off(self, error, lasting):
        """No worker can begin: start the next one later, or, after too long, fail what is pending."""
        now = time.monotonic()
        self.replace_by_forks()
        if not self._pause:
            self._since = now
        elif not self._attempting and self.due is not None and now < self.due and not lasting:
            return  # several have ended together
        self._attempting = False
        self._pause = min(2 * self._pause or _FIRST_PAUSE, _LONGEST_PAUSE)
        if (lasting or now - self._since >= _PATIENCE) and not self._up():
            self.broken = error
            self._since = now - _PATIENCE  # the next attempt is one
            self._next_attempt, self.due = now + self._pause, None
        elif self.closing and not self._cache:
            self.due = None
        else:
            self.due = now + self._pause

    def _up(self):
        try:
            return calls.pool_up(self.number)
        except (EngineError, calls.PoolGoneError):
            return 0

    def _recovered(self):
        self._stillborn, self._pause, self._attempting = 0, 0.0, False
        self.broken = self.due = self._reason = None

    def attend(self):
        """Do what is due. Returns None, or the exception that all pending tasks must fail with."""
        with self._populating, _native.held_signals:
            if self.terminated or self.due is None or time.monotonic() < self.due:
                return None
            if self.closing and not self._cache:
                self.due = None
                return None
            if self._attempting and self._up() < len(self._pool):
                self.due = time.monotonic() + self._pause  # it is coming up
                return None
            recovered = self._attempting
            if recovered:
                self._recovered()
            try:
                self._attempting = not recovered
                self.repopulate(most=None if recovered else 1)
                if not recovered:
                    self.due = time.monotonic() + self._pause
            except Exception as error:
                self._put_off(error, not isinstance(error, OSError))
            return self.broken

    def try_again(self):
        """Have a worker tried for a task that is to be submitted; return None, or what the task must fail with."""
        with self._populating, _native.held_signals:
            error = self.broken
            if error is None or self.terminated:
                return error
            if self._up():  # one that came up slowly
                self._attempting = True
            elif time.monotonic() < self._next_attempt:
                return error
            self.broken, self.due = None, time.monotonic()
            return self.attend()

    def withdraw(self):
        """Withdraw all tasks that have been submitted so far."""
        _ignoring_poison(calls.pool_cancel_all, self.number)

    def could_not_begin(self, error):
        """Note what a worker has raised before it could take a task."""
        if self._reason is None:
            from .describe import in_one_line

            # The exception of the tasks comes later, and has the traceback. Until then there is this line.
            print(f"goproc: a worker of a pool could not begin: {in_one_line(error)}", file=sys.stderr, flush=True)
        self._reason = error
        from .._common.log import warn

        warn(f"pool: a worker could not begin: {error!r}")

    def replace_by_forks(self):
        """Give up workers that were forked ahead, if there are any: the tasks that they were for may be gone."""
        if self._nurseries.has_ahead:
            with self._populating:
                self._nurseries.close_ahead()

    def terminate(self, idle=()):
        """End all workers: SIGTERM, and SIGKILL for those that have not ended after a grace period.

        idle: the process ids of workers without a task, which have been told to end. They do so by themselves within a
        few milliseconds, and call their exit functions; multiprocessing mostly gives them the time for that, too.

        If a signal handler interrupts it, it can be called again.
        """
        self.terminated = True  # whoever starts workers stops when it sees that
        util.debug("terminating workers")
        with self._populating, _native.held_signals:
            self._nurseries.close()
            workers = list(self._pool)
            leaving = [process for process in workers if idle and process.pid in idle]
            for process in workers:
                if process.exitcode is None and process not in leaving:
                    process.terminate()
            for process in _wait_for(leaving, _LEAVING):
                process.terminate()
            util.debug("joining pool workers")
            for process in _wait_for(workers, GRACE):
                process.kill()
            for process in workers:
                process.join()
            self._by_pid.clear()

    def _make(self, fds, slot):
        """Return the Process of a worker, which has not been started."""
        (memory_fd,) = fds
        end = ChannelEnd(memory_fd, slot, next(self._serials))
        process = self._make_process(self._context, target=worker, args=(end, *self._plan.arguments))
        be_worker(process, end)
        process.name = process.name.replace("Process", "PoolWorker")
        process.daemon = True
        return process

    def _start(self, process, fds, slot, interruptible):
        """Start the worker in the slot. interruptible: whether SIGINT is blocked only until it has come up."""
        end = worker_end(process)
        (end.memory_fd,) = fds
        end.slot = slot
        end.interruptible = interruptible
        end.started = time.monotonic()
        _start(process, end)
        self._pool.append(process)
        return slot, process


def _wait_for(processes, seconds):
    """Wait until the processes have ended, at most that long; return those that have not.

    Processes of a user's own context may lack a sentinel: multiprocessing's pool does not ask for one.
    """
    deadline = time.monotonic() + seconds
    while running := [p for p in processes if p.exitcode is None and hasattr(p, "sentinel")]:
        if (left := deadline - time.monotonic()) <= 0:
            break
        try:
            connection.wait([process.sentinel for process in running], left)
        except OSError:  # the program has closed one
            running[0].join(min(left, 0.01))
    return running


def _is_lasting(reason):
    """Whether what keeps workers from beginning does not pass with time.

    Any error of an initializer may: what it needs may be missing, or incomplete, for a moment.
    """
    from ..spawn import lacks_guard

    return isinstance(reason, EngineError) or lacks_guard(reason)


def _start(process, end):
    """Start the process. If the fork server dies meanwhile, ask the next one."""
    for _ in range(2):
        try:
            return process.start()
        except EOFError:
            end.sent = False  # not to a worker
    process.start()


def _ignoring_poison(call, *arguments):
    try:
        call(*arguments)
    except EngineError:
        pass  # its state no longer matters
