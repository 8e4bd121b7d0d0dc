"""Works: the object behind one executor. It has the parts of an engine's pool, and adds and ends workers.

    executor.submit() ──▶ Works.submit ──▶ the pool's submitter ──▶ the engine
    shutdown(), the end of the program, or nobody holds the executor ──▶ Works.close
                          ──▶ the pool's own thread serves until no worker is left, and then ends the pool

Futures hold the Works, not the executor, so an executor that nobody holds is collected, and its calls still run.
docs/design/futures.md says why. Used by executor.py.
"""

import os
import weakref
from multiprocessing import util

from .. import _native
from .._common import calls, picklers, stdlib
from .._common.own_pickler import QUEUES
from .._common.start_methods import engines_context
from .._pool.blas_threads import for_workers
from .._pool.codec import CALL, by_name, outlined
from .._pool.describe import in_one_line
from .._pool.machinery import Machinery, form_of, quietly, run_again, terminate
from .._pool.worker import Plan
from .faults import BrokenProcessPool
from .inside import Count

__all__ = ["AFTER_EXIT", "AFTER_SHUTDOWN", "Works"]

AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"
AFTER_EXIT = "cannot schedule new futures after interpreter shutdown"


class Works:
    """The pool behind an executor.

    context: starts the workers; by fork it starts all of them at once, by another method only as many as have something
    to do. max_workers: the most workers. maxtasks: the number of calls after which a worker is replaced; None for
    never. pickler: of calls and results, None for the environment's. Raises NoEngine if there can be no such pool,
    RuntimeError if no thread can be started.
    """

    def __init__(self, context, max_workers, initializer, initargs, maxtasks, *, threads, nested, pickler, task_memory):
        self.results: dict = {}  # by job: the futures and maps that are not complete
        self.broken: str | bool = False  # the text that says why the executor cannot be used any more
        self.refusing = False  # whether further calls are refused
        self.submitted = Count()  # how many calls have been submitted
        self._owner = os.getpid()
        self._max_workers = max_workers
        self._workers: list = []
        self._served = False
        self._closing = False
        self.thread = None  # the pool's own thread
        self._unsent = 0  # how many calls could not be pickled; concurrent.futures starts workers for these, too
        context = engines_context(context)
        method = context.get_start_method()
        self.growing = method != "fork"  # whether more workers may have to be started
        pickler = picklers.chosen(pickler)
        plan = Plan(
            initializer=initializer,
            initargs=initargs,
            maxtasks=maxtasks,
            wrap_exception=True,
            task_memory=task_memory,
            threads=for_workers(threads, max_workers, method),
            nested=nested,
            for_executor=True,
            pickler=pickler,
        )
        form = form_of(pickler, context)
        first = 1 if self.growing else max_workers
        machinery = Machinery(context, _make_process, first, self._workers, self.results, plan, form, what="Executors")
        self._port, self.crew = machinery.port, machinery.crew
        self.one_by_one = task_memory is not None  # whether each task is sent by itself
        self.dispatch, self.submitter = machinery.dispatch, machinery.submitter
        self.submitter.watch = QUEUES  # concurrent.futures sends calls by a queue
        self.crew.give_up = self._break
        self._finalizer = util.Finalize(self, terminate, args=(self.crew, self.dispatch), exitpriority=15)
        try:
            self._start_thread(maxtasks if task_memory is None else 1)
        except BaseException:
            self._end()
            raise

    def _start_thread(self, maxtasks):
        if maxtasks is None and stdlib.are_threads_real():
            self.dispatch.watch()
        if self.dispatch.thread is None:
            self.serve()
        self.thread = self.dispatch.thread
        stdlib.wait_at_exit(self.thread, self)

    def watch_owner(self, executor):
        """Close when nobody holds the executor any more."""
        owner = _OwnerRef(executor, self._port.post)
        owner.works = self
        self._owner_ref = owner

    def serve(self):
        """Have the pool's own thread collect all results from now on. Raises RuntimeError if there can be no thread."""
        if not self._served:
            self.dispatch.serve()
            self._served = True

    # ---- calls

    def run_again(self):
        """Prepare for tasks that are run again by a RetryPolicy."""
        ref = weakref.ref(self)

        def on_idle():
            if (works := ref()) is not None and works._closing:
                quietly(works.crew.control.close)

        if self.dispatch.retrying is None:
            run_again(self.dispatch, self.submitter, lambda: None, on_idle)

    def submit(self, future, func, args, kwds, limit=None, retries=0, policy=None):
        """Submit func(*args, **kwds), whose result is delivered to the future. limit: in seconds, None for no limit.

        policy: the RetryPolicy, None for none.
        """
        if policy is not None:
            self.run_again()
            future._retry = policy
        self.results[future._job] = future
        try:
            if limit is not None:
                self.submitter.limit(future, 0, limit)
            if retries:
                self.crew.control.retry(future._job, 0, retries)
            self.submitter.submit(future, 0, (CALL, by_name(func, self.submitter.form), outlined(args), kwds))
        except BaseException as error:
            self.forget(future, retries)
            self.refuse(error)
            raise
        self.submitted.add()
        if self.growing:
            self._unsent += future._exception is not None
            self.grow()

    def refuse(self, error):
        """Raise concurrent.futures' error if the given one has been raised because the pool was closed meanwhile."""
        if self.broken:
            raise BrokenProcessPool(self.broken) from None
        if self.refusing and isinstance(error, (ValueError, calls.PoolGoneError)):
            raise RuntimeError(AFTER_SHUTDOWN) from None

    def forget(self, result, retries=0):
        """Drop a future or a map that nobody will get a result from, with its tasks that have not begun."""
        self.results.pop(result._job, None)
        if retries:
            quietly(self.crew.control.retry, result._job, 0, 0)
        self.withdraw_pending(result)
        self.dispatch.wake()

    def withdraw(self, result):
        """Withdraw a future's task, and end the worker that runs it; return whether it had not completed."""
        return self.submitter.cancel(result) > 0

    def withdraw_pending(self, result):
        """Withdraw the tasks of a future or a map that have not begun."""
        if result._retry is not None:
            self.dispatch.retrying.withdraw_paused(result)
        quietly(self.crew.control.withdraw, result._job)

    def has_begun(self, result):
        """Return whether a worker runs a task of the result."""
        return bool(quietly(self.crew.control.begun, result._job))

    @property
    def pending(self):
        """How many tasks are not done."""
        return quietly(self.crew.control.pending) or 0

    # ---- workers

    def grow(self, least=0):
        """Start workers until each task that is not done has one, or there are max_workers. least: start that many."""
        self.dispatch.poll()
        wanted = min(max(self.pending + self._unsent, least), self._max_workers)
        if wanted > len(self._workers) and not self._closing:
            try:
                self.crew.grow(wanted)
            except OSError as error:
                if not self._workers:
                    raise
                util.info("an executor goes on with %d workers: %s", len(self._workers), error)
        self.growing = len(self._workers) < self._max_workers

    # ---- the end

    def _break(self, error):
        """Fail all calls, and refuse further ones: a worker could not begin. Called by the collector."""
        if self.broken:
            return
        self.broken = f"a worker could not begin ({in_one_line(error)}): the executor is not usable anymore"
        self.refusing = True
        broken = BrokenProcessPool(
            f"a worker could not begin ({in_one_line(error)}), while the future was running or pending"
        )
        broken.__cause__ = error
        self.crew.replacing = False
        self.crew.withdraw()
        self.dispatch.fail_all(broken)
        self.close()
        for process in list(self._workers):
            process.terminate()

    def close(self, cancel=False):
        """Refuse further calls, and end when all are done. cancel: withdraw those that have not begun."""
        self.refusing = True
        if os.getpid() != self._owner:
            return  # a forked child: the workers are its parent's
        if cancel:
            quietly(self.crew.control.withdraw_all)
            if self.dispatch.retrying is not None:
                self.dispatch.retrying.end()
        # A signal handler must not raise between these steps: the next call would skip the rest, and wait for ever.
        with _native.held_signals:
            if not self._closing:
                self._closing = True
                self.crew.closing = True
                if self.dispatch.retrying is None or self.dispatch.retrying.done:
                    quietly(self.crew.control.close)
                self.dispatch.serve_until(self.crew, self._end)

    wakeup = close  # concurrent.futures calls it at the end of the program, and then waits for the thread

    def stop_replacing(self):
        """Start no further worker in the place of one that has ended."""
        self.crew.replacing = False

    def _end(self):
        terminate(self.crew, self.dispatch)
        self._finalizer.cancel()
        if self.thread is not None:  # else it could not be started
            stdlib.forget_at_exit(self.thread)
        self.thread = None  # this object waits for the garbage collector; the thread should not
        self._workers.clear()  # each has a descriptor, and a program may hold futures for long


class _OwnerRef(weakref.ref):
    """The weak reference to an executor. When nobody holds the executor, the thread that collects calls Works.close().

    Its callback is the port's post(), in C, as that of an imap's iterator (_pool/iteration.py).
    """

    __slots__ = ("works",)

    def __iter__(self):
        return iter((None, None, None, self.works.close))


def _make_process(context, *args, **kwds):
    return context.Process(*args, **kwds)
