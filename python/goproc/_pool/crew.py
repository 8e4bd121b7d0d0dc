"""Starts a pool's workers, replaces workers that end, and ends them all. Used by engine_pool.py and dispatch.py.

Workers are ordinary daemonic processes. The pool's context starts them, on any Python thread that is in a call of the
pool. The engine decides which worker runs which task; see core/pool.
"""

import itertools
import posix
import sys
import threading
from _signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_sigmask
from collections import deque
from functools import partial
from multiprocessing import util

from .. import _native, connection
from .._common import calls, stdlib
from .._common.log import warn
from .._common.start_methods import be_worker, worker_end
from ..errors import EngineError, WorkerLostError
from .describe import in_one_line
from .nursery import Nurseries
from .worker import ChannelEnd, worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than loading the engine

__all__ = ["Crew"]

#: Seconds that a terminated worker has to end by itself before it is killed.
GRACE = 5.0

#: Seconds that workers without a task have to run their exit functions when the pool is terminated.
_LEAVING = 0.2

#: Seconds, for workers that cannot begin: the first pause before another worker is started; the longest pause, as each
#: pause is twice as long as the one before; and the time after which all pending tasks fail.
_FIRST_PAUSE, _LONGEST_PAUSE, _PATIENCE = 0.05, 0.5, 5.0


class Crew:
    """The workers of one pool.

    context: starts the workers. make_process: Pool.Process, which makes a Process object of that context. number: the
    engine's pool. processes: the number of workers. pool: the list of the workers' Process objects, which this class
    updates. cache: the results that are not complete, by job. plan: the Plan of each worker. control: the Control.
    """

    def __init__(self, context, make_process, number, processes, pool, cache, plan, control):
        self._context = context
        self._make_process = make_process
        self.number = number
        self.control = control
        self._processes = processes
        self._pool = pool
        self._cache = cache
        self._plan = plan
        self._by_pid = {}  # by pid, not by slot: a slot may be reused before the end of its former worker is noted
        self._populating = threading.RLock()
        self._serials = itertools.count(1)
        self._nurseries = Nurseries(number, plan.maxtasks)
        self._stillborn = 0  # how many workers in a row ended without having taken a task
        self._reason = None  # the exception of the last worker that could not begin, if it has sent one
        self.give_up: Any = None  # called with such an exception when its worker has ended; None to try other workers
        self._could_not_begin: dict = {}  # by pid: such exceptions, until their workers have ended
        self.closing = False  # no further tasks will come
        self.replacing = True  # whether workers that end are replaced
        self.terminated = False
        self.broken = None  # the exception that all pending tasks have failed with, as no worker can begin
        # The attempts to start a worker when workers cannot begin. All times are by _native.monotonic().
        self.retry_at = None  # the time of the next attempt; None when no attempt is scheduled
        self._pause = 0.0  # the seconds before the last attempt; 0 when workers begin
        self._failing_since = 0.0  # the time since which no worker could begin
        self._attempting = False  # whether a single worker has been started, and it is not known whether it can begin
        self._next_attempt = 0.0  # once broken: the time from which a submitted task causes an attempt

    @property
    def task_memory(self):
        """How many bytes of memory a task may take; None for no limit."""
        return self._plan.task_memory

    @property
    def done(self):
        """Whether no worker is left, and none will be started."""
        return not self._by_pid and self.retry_at is None

    @property
    def processes(self):
        """By pid, the Process objects of the workers. A new one is noted when it has been started."""
        return self._by_pid

    def grow(self, processes):
        """Raise the number of workers to processes, if it is lower."""
        self._processes = max(self._processes, processes)
        self.repopulate()

    def repopulate(self, all_or_none=False, most=None):
        """Start the missing workers, at most `most` if given. Signal handlers are called afterwards.

        all_or_none: if a worker cannot be started, give the others no work; the caller must then call terminate().
        """
        with self._populating, _native.held_signals:
            started = []
            nursery = blocked = None
            complete = False
            fds: list[int] = []
            slots: list[int] = []
            try:
                if len(self._pool) < self._processes:
                    # A duplicate, because the engine's own descriptor is closed in a forked child.
                    fds.append(_native.above_streams(posix.dup(calls.pool_memory_fd(self.number))))
                    # All slots at once. A call of the engine between two forks would wake threads of the engine, which
                    # would write to copy-on-write pages.
                    missing = self._processes - len(self._pool)
                    missing = missing if most is None else min(missing, most)
                    slots += calls.pool_slots(self.number, missing)
                    if self._context.get_start_method() == "fork":
                        nursery = self._nurseries.to_start(partial(self._make, fds), slots, self._processes)
                    else:
                        stdlib.tracker_pipe()  # now: until 3.12, the start of the tracker unblocks SIGINT
                    # Before the first fork: after it, memory is copy-on-write.
                    made = deque(self._make(fds, slot) for slot in ([] if nursery else slots))
                    # Ctrl-C must not kill a worker before it can handle SIGINT. A worker inherits this signal mask.
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
                    posix.close(fd)
                for slot in slots:
                    _ignoring_poison(calls.pool_drop, self.number, slot)
                if self.terminated:
                    self.terminate()  # another thread, or a signal handler, terminated the pool meanwhile
                elif complete or not all_or_none:
                    for slot, process in started:
                        self._by_pid[process.pid] = process
                        calls.pool_add(self.number, slot, process._popen._id, self._plan.maxtasks)
                if nursery is not None and not (complete and nursery.left):
                    self._nurseries.settle(nursery)

    def serial(self, pid):
        """Return the serial of the worker with that pid; None if its end has been noted."""
        process = self._by_pid.get(pid)
        return None if process is None else worker_end(process).serial

    def exited(self, pid, exitcode, served):
        """Note that a worker has ended, and replace it, unless the pool is closed and all tasks are done.

        served: whether it had taken a task. Returns None, or the exception that all pending tasks must fail with. May
        be called again for the same worker, if a signal handler raised in the first call.
        """
        process = self._by_pid.get(pid)
        if process is None or self.terminated:
            return None
        process.join()
        self._nurseries.note_life(_native.monotonic() - worker_end(process).started)
        if pid in self._could_not_begin:
            self.give_up(self._could_not_begin[pid])
        if process in self._pool:
            # A worker that ends after the last task of a closed pool stays in the list, as with multiprocessing:
            # programs look at exit codes.
            if not self.closing or self._cache:
                self._pool.remove(process)
            util.debug("cleaning up worker %d" % pid)
            if exitcode:
                how = f"exited with status {exitcode}" if exitcode > 0 else f"was killed by signal {-exitcode}"
                warn(f"pool: worker {pid} {how}{'' if self.closing else '; another one takes its place'}")
        stillborn = 0 if served else self._stillborn + 1
        if served:
            self._recovered()
        if stillborn > 2 + self._processes:
            reason = self._reason
            shown = None if reason is None else in_one_line(reason)
            error = WorkerLostError(pid, exitcode, births=stillborn, reason=shown)
            error.__cause__ = reason
            self._retry_later(error, _is_lasting(reason))
        elif not self.replacing:
            if not self._pool:  # no worker is left for the pending tasks
                self.broken = WorkerLostError(pid, exitcode)
        elif not self.closing or self._cache:
            try:
                self.repopulate()
            except Exception as error:
                if not self._pool and not self.terminated:  # else ignore it: workers are left, or none is needed
                    self._retry_later(error, not isinstance(error, OSError))
        else:
            self.replace_by_forks()
        # Remove the worker only after it has been replaced: `done` must not be true in between. No signal handler is
        # called between these two statements.
        mine = self._by_pid.get(pid) is process
        self._stillborn = stillborn
        if mine:
            del self._by_pid[pid]
        return self.broken

    # docs/design/births.md describes what follows: when workers cannot begin, they are tried one by one, after pauses.

    def _retry_later(self, error, lasting):
        """No worker can begin: schedule the next attempt, or, after _PATIENCE seconds, fail all pending tasks.

        error: what the tasks fail with. lasting: whether the cause does not pass with time; then they fail now.
        """
        now = _native.monotonic()
        self.replace_by_forks()
        if not self._pause:
            self._failing_since = now
        elif not self._attempting and self.retry_at is not None and now < self.retry_at and not lasting:
            return  # several workers have ended together: the attempt is scheduled already
        self._attempting = False
        self._pause = min(2 * self._pause or _FIRST_PAUSE, _LONGEST_PAUSE)
        if (lasting or now - self._failing_since >= _PATIENCE) and not self._workers_up():
            self.broken = error
            self._failing_since = now - _PATIENCE  # so one failed attempt is enough the next time
            self._next_attempt, self.retry_at = now + self._pause, None
        elif self.closing and not self._cache:
            self.retry_at = None
        else:
            self.retry_at = now + self._pause

    def _workers_up(self):
        try:
            return calls.pool_up(self.number)
        except (EngineError, calls.PoolGoneError):
            return 0

    def _recovered(self):
        self._stillborn, self._pause, self._attempting = 0, 0.0, False
        self.broken = self.retry_at = self._reason = None

    def retry_if_due(self):
        """Try a worker if the time has come. Returns None, or the exception that all pending tasks must fail with."""
        with self._populating, _native.held_signals:
            if self.terminated or self.retry_at is None or _native.monotonic() < self.retry_at:
                return None
            if self.closing and not self._cache:
                self.retry_at = None
                return None
            if self._attempting and self._workers_up() < len(self._pool):
                self.retry_at = _native.monotonic() + self._pause  # the worker is still starting
                return None
            recovered = self._attempting
            if recovered:
                self._recovered()
            try:
                self._attempting = not recovered
                self.repopulate(most=None if recovered else 1)
                if not recovered:
                    self.retry_at = _native.monotonic() + self._pause
            except Exception as error:
                self._retry_later(error, not isinstance(error, OSError))
            return self.broken

    def try_again(self):
        """Try a worker for a task that is to be submitted; return None, or what the task must fail with."""
        with self._populating, _native.held_signals:
            error = self.broken
            if error is None or self.terminated:
                return error
            if self._workers_up():  # a worker that started slowly
                self._attempting = True
            elif _native.monotonic() < self._next_attempt:
                return error
            self.broken, self.retry_at = None, _native.monotonic()
            return self.retry_if_due()

    def withdraw(self):
        """Withdraw all tasks that have been submitted so far."""
        _ignoring_poison(self.control.cancel_all)

    def could_not_begin(self, error, pid):
        """Note the exception of a worker that could not begin."""
        if self.give_up is not None:
            self._could_not_begin[pid] = error  # the worker may still have log records to send
            return
        if self._reason is None:
            # The traceback comes later, with the exception of the tasks. This line tells the user now.
            print(f"goproc: a worker of a pool could not begin: {in_one_line(error)}", file=sys.stderr, flush=True)
        self._reason = error
        warn(f"pool: a worker could not begin: {error!r}")

    def replace_by_forks(self):
        """Give up the workers that were forked ahead: the tasks that they were forked for may be withdrawn."""
        if self._nurseries.has_ahead:
            with self._populating:
                self._nurseries.close_ahead()

    def terminate(self, idle=()):
        """End all workers: send SIGTERM, and SIGKILL to those that have not ended after GRACE seconds.

        idle: the process ids of workers without a task, which the engine tells to exit. They exit by themselves within
        a few milliseconds, and run their exit functions; with multiprocessing they mostly have the time for that, too.

        If a signal handler interrupts it, it can be called again.
        """
        self.terminated = True  # repopulate() stops when it sees this
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
        """Return the Process object of a worker for the slot, not started yet."""
        (memory_fd,) = fds
        end = ChannelEnd(memory_fd, slot, next(self._serials), self._plan.threads)
        process = self._make_process(self._context, target=worker, args=(end, *self._plan.arguments))
        process._goproc_pickler = self._plan.pickler
        be_worker(process, end)
        if not self._plan.for_executor:
            process.name = process.name.replace("Process", "PoolWorker")
        process.daemon = True
        return process

    def _start(self, process, fds, slot, interruptible):
        """Start the worker in the slot. interruptible: whether the worker unblocks SIGINT once it can handle it."""
        end = worker_end(process)
        (end.memory_fd,) = fds
        end.slot = slot
        end.interruptible = interruptible
        end.started = _native.monotonic()
        _start(process, end)
        self._pool.append(process)
        return slot, process


def _wait_for(processes, seconds):
    """Wait until the processes have ended, for at most that many seconds; return those that still run.

    A process without a sentinel is left out. A user's own context may make such processes, because multiprocessing's
    pool needs no sentinel.
    """
    deadline = _native.monotonic() + seconds
    while running := [p for p in processes if p.exitcode is None and hasattr(p, "sentinel")]:
        if (left := deadline - _native.monotonic()) <= 0:
            break
        try:
            connection.wait([process.sentinel for process in running], left)
        except OSError:  # the program has closed a sentinel
            running[0].join(min(left, 0.01))
    return running


def _is_lasting(reason):
    """Whether the cause that keeps workers from beginning cannot pass with time.

    An error of an initializer may pass: a service or a file that it needs may be there a moment later.
    """
    from ..spawn import lacks_guard

    if isinstance(reason, RuntimeError) and str(reason) == "context has already been set":
        return True  # set_start_method() in a main module, which a worker imports anew
    return isinstance(reason, EngineError) or lacks_guard(reason)


def _start(process, end):
    """Start the process. If the fork server dies meanwhile, try again with a new server, at most twice."""
    for _ in range(2):
        try:
            return process.start()
        except EOFError:
            end.sent = False  # no worker has received it
    process.start()


def _ignoring_poison(call, *arguments):
    try:
        call(*arguments)
    except EngineError:
        pass  # the state of a poisoned engine no longer matters
