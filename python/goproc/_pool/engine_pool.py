"""Pool: the API of multiprocessing.pool on the engine's scheduler.

    Pool.apply_async(f, args) ──▶ pickle ──▶ port.submit ──▶ the engine: a worker's ring, or its queue
    AsyncResult.get()         ──▶ dispatch.wait ──▶ port.collect ──▶ unpickle ──▶ result._set

No helper thread and no lock between processes takes part. The classes of results derive from the standard library's,
and wait in another way. ThreadPool is the standard library's own.
"""

import os
from multiprocessing import util

from .. import _native
from .._common import picklers
from .._common.cpus import usable_cpu_count
from .._common.start_methods import engines_context
from . import parts
from .additions import Additions, drive_by_queues
from .blas_threads import for_workers
from .codec import CALL, by_name, outlined
from .inputs import checked_limit, one_prefetch, refuse_unknown, whole
from .machinery import Machinery, NoEngine, form_of, quietly, terminate
from .mapped import Mapped
from .options import Options
from .parts import Parts, replaced
from .parts import standard_pool as _standard
from .results import ApplyResult, IMapIterator, IMapUnorderedIterator
from .worker import Plan

__all__ = ["Pool"]

INIT, RUN, CLOSE, TERMINATE = _standard.INIT, _standard.RUN, _standard.CLOSE, _standard.TERMINATE
mapstar, starmapstar = _standard.mapstar, _standard.starmapstar

_LEFT_BLOCK = (
    "the pool was terminated before the task was done: leaving a `with Pool()` block terminates the pool. "
    "Call get() inside the block, or close() and join() at its end"
)


class Pool(Additions, Mapped, Parts, _standard.Pool):
    """A pool of worker processes.

    processes: the number of workers; None for goproc.usable_cpu_count(). initializer, initargs: each worker calls
    initializer(*initargs) when it starts. maxtasksperchild: the number of tasks after which a worker is replaced; None
    for never. context: the context that starts the workers; None for the current default context.

    The further arguments are goproc's own. retries: how often a task is run again if its worker is lost. retry_on: the
    type of an exception, or a tuple of types; a task that raises one is run again, too. retry_delay: how many seconds
    to wait before the second attempt, and twice as long before each further one; or a function that returns the
    seconds, given the number of attempts so far. All three may also be given to a single call. max_memory_per_child: a
    number of bytes; a worker whose private resident memory is larger after a task is replaced; None for never.
    max_memory_per_task: a number of bytes; if a worker's private resident memory grows by more than this during a task,
    the worker is killed, and the task raises MemoryLimitError; None for no limit. cancel_on_interrupt: whether Ctrl-C
    in a call that waits for a result cancels the tasks of that result. threads: how many threads BLAS and OpenMP
    libraries may use in each worker; None for as many as they choose; "auto" for the number of usable CPUs divided by
    the number of workers, at least 1, unless the environment says otherwise, or install() or `python -m goproc` has
    replaced multiprocessing. nested: whether tasks may start processes and pools, which always end with their worker.
    pickler: "cloudpickle", which also sends functions that a worker does not find by name, such as lambdas, and
    functions of a notebook; "pickle"; None for that of the context, else of GOPROC_PICKLER, else "pickle". log: whether
    this program's loggers handle the log records of the workers; see goproc.logging.

    Raises ValueError if processes < 1, if maxtasksperchild, max_memory_per_child, max_memory_per_task or threads is not
    a positive int, or if pickler is unknown. ValueError, too, if retries is not an int of at least 0, or is 0 though
    retry_on or retry_delay is given. TypeError if initializer cannot be called, or retry_on or retry_delay has a wrong
    type. ImportError if threads needs threadpoolctl, or pickler cloudpickle, and that is not installed. AssertionError
    in a daemonic process, which may not have children. Source: multiprocessing.pool.Pool.
    """

    _state = INIT  # for __del__, if __init__ fails early
    _cancel_on_interrupt = False
    Process = _standard.Pool.__dict__["Process"]  # programs replace it by a function of their own, and restore it

    def __init__(
        self,
        processes=None,
        initializer=None,
        initargs=(),
        maxtasksperchild=None,
        context=None,
        *,
        retries=0,
        max_memory_per_child=None,
        threads="auto",
        nested=False,
        pickler=None,
        max_memory_per_task=None,
        retry_on=None,
        retry_delay=None,
        cancel_on_interrupt=False,
        log=False,
        **unknown,
    ):
        if unknown:
            refuse_unknown("Pool", unknown, "processes", "initializer", "maxtasksperchild", *Options.DEFAULTS, "log")
        own = {
            "retries": retries,
            "max_memory_per_child": max_memory_per_child,
            "threads": threads,
            "nested": nested,
            "pickler": picklers.for_context(pickler, context),
            "max_memory_per_task": max_memory_per_task,
            "retry_on": retry_on,
            "retry_delay": retry_delay,
            "cancel_on_interrupt": cancel_on_interrupt,
        }
        if replaced(type(self)):
            self._relay_log(log)
            drive_by_queues(self, processes, initializer, initargs, maxtasksperchild, context, own)
            return
        self._pool: list = []
        self._state = INIT
        self._ctx = engines_context(context)
        self._results: dict = {}  # job: the result object, for all jobs that are not complete
        self._maxtasksperchild = maxtasksperchild
        self._initializer = initializer
        self._initargs = initargs
        usable = usable_cpu_count() if processes is None else None
        processes = whole("processes", processes) if usable is None else usable
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None:
            if not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0:
                raise ValueError("maxtasksperchild must be a positive int or None")
        options = Options(**own)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._again = options.retries, options.retry_on, options.retry_delay
        self._retry, self._cancel_on_interrupt = options.retry, options.cancel_on_interrupt
        self._one_by_one = options.max_memory_per_task is not None or options.retry is not None
        self._feeders = set()  # the objects that still read the input of an imap or a map, or run tasks again
        self._relay_log(log)

        try:
            with _native.held_signals:  # a signal handler must not raise before self owns what _start() makes
                refusal = self._start(options, usable)
        except BaseException:
            if self._state == RUN:
                Pool.terminate(self)
            raise
        if refusal is not None:
            if options.given():
                raise refusal  # a queue-driven pool does not have these arguments
            queue_pool = parts.queue_pool
            queue_pool.take_over(self)
            queue_pool.QueuePool.__init__(self, processes, initializer, initargs, maxtasksperchild, context)

    def _start(self, options, usable):
        """Make the engine's pool, and start the workers. Return None, or the exception if there can be no such pool.

        usable: usable_cpu_count(), if it is known.
        """
        pickler = picklers.chosen(options.pickler)
        plan = Plan(
            initializer=self._initializer,
            initargs=self._initargs,
            maxtasks=self._maxtasksperchild,
            wrap_exception=self._wrap_exception,
            max_memory=options.max_memory_per_child,
            task_memory=options.max_memory_per_task,
            threads=for_workers(options.threads, self._processes, self._ctx.get_start_method(), usable),
            nested=options.nested,
            pickler=pickler,
        )
        form, retries = form_of(pickler, self._ctx), options.engine_retries
        try:
            machinery = Machinery(
                self._ctx, self.Process, self._processes, self._pool, self._results, plan, form, retries=retries
            )
        except NoEngine as refusal:
            return refusal.reason
        self._port, self._crew = machinery.port, machinery.crew
        self._dispatch, self._submitter = machinery.dispatch, machinery.submitter
        self._terminate = util.Finalize(self, terminate, args=(self._crew, self._dispatch), exitpriority=15)
        self._state = RUN
        if options.retry is not None:
            self._run_again()
        if self._maxtasksperchild is not None or options.max_memory_per_child is not None or self._one_by_one:
            self._dispatch.serve()
        return None

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if cls._engine_driven and replaced(cls):
            QueuePool = parts.queue_pool.QueuePool
            bases = [QueuePool if base is Pool else base for base in cls.__bases__]
            cls.__bases__ = tuple(bases if QueuePool in bases else [*bases, QueuePool])

    def __del__(self, *args, **kwargs):
        self._change_notifier = None
        super().__del__(*args, **kwargs)

    def apply(self, func, args=(), kwds={}, *, timeout=None, **unknown):
        """Call func(*args, **kwds) in a worker; return its result, or raise the exception that it raised.

        timeout: how long the call may run, in seconds; None for no limit. Raises what apply_async raises, and
        TaskTimeoutError after timeout. Source: multiprocessing.pool.Pool.apply.
        """
        if type(self).apply_async is _APPLY_ASYNC:
            policy = self._policy("apply", unknown, "timeout")
            return self._apply(func, args, kwds, None, None, timeout, policy).get()
        if timeout is not None:
            unknown["timeout"] = timeout
        return self.apply_async(func, args, kwds, **unknown).get()  # a program's own apply_async may have no timeout

    def apply_async(self, func, args=(), kwds={}, callback=None, error_callback=None, *, timeout=None, **unknown):
        """Submit func(*args, **kwds) to the workers; return an AsyncResult at once.

        callback is called with the result, error_callback with the exception; both in the pool's own thread. If the
        call cannot be pickled, get() raises that error. timeout: how long the call may run, in seconds; the time before
        a worker begins it does not count. After timeout seconds the worker is ended, and get() raises TaskTimeoutError.

        Raises ValueError when the pool is closed or timeout is not above 0, TypeError when timeout is not a number.
        Source: multiprocessing.pool.Pool.apply_async.
        """
        self._check_running()
        policy = self._policy("apply_async", unknown, "timeout")
        self._dispatch.watch()
        return self._apply(func, args, kwds, callback, error_callback, timeout, policy)

    def _apply(self, func, args, kwds, callback, error_callback, timeout, policy):
        self._check_running()
        limit = None if timeout is None else checked_limit("timeout", timeout)
        result = ApplyResult(self, callback, error_callback, func)
        if policy is not None:
            result._retry = policy
        try:
            self._results[result._job] = result
            if limit is not None:
                self._submitter.limit(result, 0, limit)
            self._submitter.submit(result, 0, (CALL, by_name(func, self._submitter.form), outlined(args), kwds))
        except BaseException as error:
            if not self._cancelled_meanwhile(result, error):
                raise
        return result

    def _cancelled_meanwhile(self, result, error):
        """Say whether error is there because a signal handler has terminated the pool, which cancelled the result.

        Otherwise, forget the result. This is not in _apply, as CPython waits for ever there if no memory is left: an
        exception in the handler of another one needs memory for its place, if that is beyond the 256th instruction.
        """
        if self._crew.terminated and result.done and isinstance(error, ValueError):
            return True
        self._submitter.forget(result)
        return False

    def map(
        self,
        func,
        iterable,
        chunksize=None,
        *,
        task_timeout=None,
        return_exceptions=False,
        progress=None,
        **unknown,
    ):
        """Return the list of func(item) for each item of iterable, or raise the exception of the first failing task.

        chunksize: the number of items in one task; None to let the pool choose it, and with a task_timeout, 1.
        task_timeout: how long each task may run, in seconds. After that the worker is ended, and the task fails with
        TaskTimeoutError.

        return_exceptions: if true, an item that fails raises nothing; its exception takes its place in the list. An
        exception that ends a whole chunk, such as the loss of its worker, takes the place of each item of the chunk.

        progress: how to show how many items are done. True: a bar of tqdm or rich, if stderr is a terminal or this is a
        notebook. A str: a bar with this description, always. A function: it is called with (done, total) in this
        thread, at most 100 times a second and at the end; an exception that it raises is raised here, and the rest is
        cancelled.

        Raises ValueError when the pool is closed, chunksize < 1, or task_timeout is not above 0; TypeError when
        task_timeout is not a number. Source: multiprocessing.pool.Pool.map.
        """
        arguments = func, iterable, mapstar, chunksize
        return self._mapped_now("map", arguments, task_timeout, return_exceptions, progress, unknown)

    def starmap(
        self,
        func,
        iterable,
        chunksize=None,
        *,
        task_timeout=None,
        return_exceptions=False,
        progress=None,
        **unknown,
    ):
        """Like map, but call func(*item): each item is an iterable of arguments.

        Source: multiprocessing.pool.Pool.starmap.
        """
        arguments = func, iterable, starmapstar, chunksize
        return self._mapped_now("starmap", arguments, task_timeout, return_exceptions, progress, unknown)

    def map_async(
        self,
        func,
        iterable,
        chunksize=None,
        callback=None,
        error_callback=None,
        *,
        task_timeout=None,
        return_exceptions=False,
        **unknown,
    ):
        """Like map, but return a MapResult at once. callback and error_callback are as for apply_async.

        Source: multiprocessing.pool.Pool.map_async.
        """
        arguments = (func, iterable, mapstar, chunksize, callback, error_callback)
        return self._mapped_async("map_async", arguments, task_timeout, return_exceptions, unknown)

    def starmap_async(
        self,
        func,
        iterable,
        chunksize=None,
        callback=None,
        error_callback=None,
        *,
        task_timeout=None,
        return_exceptions=False,
        **unknown,
    ):
        """Like starmap, but return a MapResult at once. callback and error_callback are as for apply_async.

        Source: multiprocessing.pool.Pool.starmap_async.
        """
        arguments = (func, iterable, starmapstar, chunksize, callback, error_callback)
        return self._mapped_async("starmap_async", arguments, task_timeout, return_exceptions, unknown)

    def imap(
        self,
        func,
        iterable,
        chunksize=1,
        buffersize=None,
        *,
        prefetch=None,
        task_timeout=None,
        progress=None,
        **unknown,
    ):
        """Return an iterator over func(item) for each item of iterable, in order.

        chunksize: the number of items in one task. prefetch: how many tasks the iterable is read ahead of the results
        that next() has returned; so an endless iterable needs constant memory. None for as many as keep the workers
        busy, and fewer for large arguments. buffersize: Python 3.16's name of prefetch. task_timeout: how long each
        task may run, in seconds; see map.

        progress: as for map; it counts the results that next() has returned. total is None for an iterable without
        len().

        A thread reads the iterable, unless it is a list or another built-in collection. When the program drops the
        iterator, the rest of the iterable is run, as with multiprocessing, and its results are dropped.

        next() raises the exception of a task at the task's turn, and the iteration can go on after it. imap itself
        raises ValueError when the pool is closed, or when chunksize, prefetch or buffersize is below 1; TypeError when
        prefetch and buffersize are both given, or are not ints. Source: multiprocessing.pool.Pool.imap.
        """
        policy = self._policy("imap", unknown, "prefetch", "buffersize", "task_timeout", "progress")
        prefetch = one_prefetch(prefetch, buffersize)
        return self._imap(IMapIterator, func, iterable, chunksize, prefetch, task_timeout, policy, progress)

    def imap_unordered(
        self,
        func,
        iterable,
        chunksize=1,
        buffersize=None,
        *,
        prefetch=None,
        task_timeout=None,
        progress=None,
        **unknown,
    ):
        """Like imap, but return the results in the order in which they arrive.

        Source: multiprocessing.pool.Pool.imap_unordered.
        """
        policy = self._policy("imap_unordered", unknown, "prefetch", "buffersize", "task_timeout", "progress")
        prefetch = one_prefetch(prefetch, buffersize)
        return self._imap(IMapUnorderedIterator, func, iterable, chunksize, prefetch, task_timeout, policy, progress)

    def close(self):
        """Refuse further tasks. The workers exit when all submitted tasks are done."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            self._close_when_fed()

    def __exit__(self, exc_type, exc_val, exc_tb):
        if self._state == RUN:
            self._dispatch.why_terminated = _LEFT_BLOCK
        super().__exit__(exc_type, exc_val, exc_tb)

    def terminate(self):
        """End the workers at once. get() of a result that is not complete raises CancelledError."""
        util.debug("terminating pool")
        self._state = TERMINATE
        self._end()

    def join(self):
        """Wait until all workers have ended. Raises ValueError unless close() or terminate() has been called."""
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        elif self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        if self._terminate.still_active():
            if self._state == CLOSE:
                for feeder in list(self._feeders):
                    feeder._read_all()
                self._dispatch.wait(self._crew)
            self._end()
        for process in self._pool:
            process.join()  # returns at once; raises AssertionError in a forked child: the workers are not its own

    def _end(self):
        """Do what the finalizer does. It stays active until this is done, so an interrupted call can be repeated."""
        finalizer = self._terminate
        if finalizer.still_active() and finalizer._pid == os.getpid():
            terminate(self._crew, self._dispatch)
            finalizer.cancel()
        if self._lease is not None:
            self._lease.end()

    def _close_when_fed(self):
        if not self._feeders and self._state == CLOSE:
            self._crew.closing = True
            quietly(self._crew.control.close)


Pool.__module__ = "goproc.pool"  # its public module

_APPLY_ASYNC = Pool.apply_async  # a subclass may override it, and a program may replace it in Pool
