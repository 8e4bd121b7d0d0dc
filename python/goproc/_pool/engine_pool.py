"""Pool: the API of multiprocessing.pool on the engine's scheduler.

    Pool.apply_async(f, args) ──▶ pickle ──▶ port.submit ──▶ the engine: a worker's ring, or its queue
    AsyncResult.get()         ──▶ dispatch.wait ──▶ port.collect ──▶ unpickle ──▶ result._set

No helper thread and no lock between processes takes part. The classes of results derive from the standard library's,
and wait in another way. ThreadPool is the standard library's own.
"""

import os
from multiprocessing import util

from .. import _native
from .._common import calls
from .._common.cpus import usable_cpu_count
from .._common.start_methods import engines_context
from . import maps, parts
from .blas_threads import for_workers
from .codec import CALL, ITEM, MAP, STREAM, by_name, outlined
from .inputs import COLLECTIONS, Chunks, checked_limit, one_prefetch, refuse_unknown, whole
from .machinery import Machinery, NoEngine, quietly, terminate
from .options import Options
from .parts import Parts, replaced
from .parts import standard_pool as _standard
from .results import ApplyResult, IMapIterator, IMapUnorderedIterator, Items
from .submitter import batch_size
from .worker import Plan

__all__ = ["Pool"]

INIT, RUN, CLOSE, TERMINATE = _standard.INIT, _standard.RUN, _standard.CLOSE, _standard.TERMINATE
mapstar, starmapstar = _standard.mapstar, _standard.starmapstar

_LEFT_BLOCK = (
    "the pool was terminated before the task was done: leaving a `with Pool()` block terminates the pool. "
    "Call get() inside the block, or close() and join() at its end"
)


class Pool(Parts, _standard.Pool):
    """A pool of worker processes.

    processes: the number of workers; None for goproc.usable_cpu_count(). initializer, initargs: each worker calls
    initializer(*initargs) when it starts. maxtasksperchild: the number of tasks after which a worker is replaced; None
    for never. context: the context that starts the workers; None for the current default context.

    The further arguments are goproc's own. retries: how often a task is run again whose worker was lost.
    max_memory_per_child: a number of bytes; a worker whose private resident memory is larger after a task is replaced;
    None for never. threads: how many threads BLAS and OpenMP libraries may use in each worker; None for as many as they
    choose; "auto" for the number of usable CPUs divided by the number of workers, at least 1, unless the environment
    says otherwise, or install() or `python -m goproc` has replaced multiprocessing. nested: whether tasks may start
    processes and pools; these end with their worker, in whatever way that ends.

    Raises ValueError if processes < 1, if maxtasksperchild, max_memory_per_child or threads is not a positive int, or
    if retries is not an int of at least 0; TypeError if initializer cannot be called; ImportError if threads needs
    threadpoolctl, and that is not installed; AssertionError in a daemonic process, which may not have children.
    Source: multiprocessing.pool.Pool.
    """

    _state = INIT  # for __del__, if __init__ fails early
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
        **unknown,
    ):
        if unknown:
            refuse_unknown("Pool", unknown, "processes", "initializer", "maxtasksperchild", *Options.DEFAULTS)
        own = retries, max_memory_per_child, threads, nested
        if replaced(type(self)):
            _drive_by_queues(self, processes, initializer, initargs, maxtasksperchild, context, own)
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
        options = Options(*own)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._feeders = set()  # the objects that still read the input of an imap or a map

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
            queue_pool = parts.queue_pool()
            queue_pool.take_over(self)
            queue_pool.QueuePool.__init__(self, processes, initializer, initargs, maxtasksperchild, context)

    def _start(self, options, usable):
        """Make the engine's pool, and start the workers. Return None, or the exception if there can be no such pool.

        usable: usable_cpu_count(), if it is known.
        """
        plan = Plan(
            initializer=self._initializer,
            initargs=self._initargs,
            maxtasks=self._maxtasksperchild,
            wrap_exception=self._wrap_exception,
            max_memory=options.max_memory_per_child,
            threads=for_workers(options.threads, self._processes, self._ctx.get_start_method(), usable),
            nested=options.nested,
        )
        try:
            machinery = Machinery(
                self._ctx, self.Process, self._processes, self._pool, self._results, plan, retries=options.retries
            )
        except NoEngine as refusal:
            return refusal.reason
        self._port, self._crew = machinery.port, machinery.crew
        self._dispatch, self._submitter = machinery.dispatch, machinery.submitter
        self._terminate = util.Finalize(self, terminate, args=(self._crew, self._dispatch), exitpriority=15)
        self._state = RUN
        if self._maxtasksperchild is not None or options.max_memory_per_child is not None:
            self._dispatch.serve()
        return None

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if cls._engine_driven and replaced(cls):
            QueuePool = parts.queue_pool().QueuePool
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
        if type(self).apply_async is Pool.apply_async and not unknown:
            return self._apply(func, args, kwds, None, None, timeout).get()
        if timeout is not None:
            unknown["timeout"] = timeout
        return self.apply_async(func, args, kwds, **unknown).get()  # a subclass's own apply_async may have no timeout

    def apply_async(self, func, args=(), kwds={}, callback=None, error_callback=None, *, timeout=None, **unknown):
        """Submit func(*args, **kwds) to the workers; return an AsyncResult at once.

        callback is called with the result, error_callback with the exception; both in the pool's own thread. If the
        call cannot be pickled, get() raises that error. timeout: how long the call may run, in seconds; the time before
        a worker begins it does not count. After timeout seconds the worker is ended, and get() raises TaskTimeoutError.

        Raises ValueError when the pool is closed or timeout is not above 0, TypeError when timeout is not a number.
        Source: multiprocessing.pool.Pool.apply_async.
        """
        self._check_running()
        if unknown:
            refuse_unknown("apply_async", unknown, "timeout")
        self._dispatch.watch()
        return self._apply(func, args, kwds, callback, error_callback, timeout)

    def _apply(self, func, args, kwds, callback, error_callback, timeout):
        self._check_running()
        limit = None if timeout is None else checked_limit("timeout", timeout)
        result = ApplyResult(self, callback, error_callback, func)
        try:
            self._results[result._job] = result
            if limit is not None:
                self._submitter.limit(result, 0, limit)
            self._submitter.submit(result, 0, (CALL, by_name(func), outlined(args), kwds))
        except BaseException as error:
            if self._crew.terminated and result.done and isinstance(error, ValueError):
                return result  # a signal handler has terminated the pool meanwhile, which cancelled this result
            self._submitter.forget(result)
            raise
        return result

    def map(self, func, iterable, chunksize=None, *, task_timeout=None, return_exceptions=False, **unknown):
        """Return the list of func(item) for each item of iterable, or raise the exception of the first failing task.

        chunksize: the number of items in one task; None to let the pool choose it, and with a task_timeout, 1.
        task_timeout: how long each task may run, in seconds. After that the worker is ended, and the task fails with
        TaskTimeoutError.

        return_exceptions: if true, an item that fails raises nothing; its exception takes its place in the list. An
        exception that ends a whole chunk, such as the loss of its worker, takes the place of each item of the chunk.

        Raises ValueError when the pool is closed, chunksize < 1, or task_timeout is not above 0; TypeError when
        task_timeout is not a number. Source: multiprocessing.pool.Pool.map.
        """
        if unknown:
            refuse_unknown("map", unknown, "task_timeout", "return_exceptions")
        return self._mapped((func, iterable, mapstar, chunksize), task_timeout, return_exceptions).get()

    def starmap(self, func, iterable, chunksize=None, *, task_timeout=None, return_exceptions=False, **unknown):
        """Like map, but call func(*item): each item is an iterable of arguments.

        Source: multiprocessing.pool.Pool.starmap.
        """
        if unknown:
            refuse_unknown("starmap", unknown, "task_timeout", "return_exceptions")
        return self._mapped((func, iterable, starmapstar, chunksize), task_timeout, return_exceptions).get()

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

    def _mapped_async(self, method, arguments, task_timeout, return_exceptions, unknown):
        self._check_running()
        self._dispatch.watch()
        if unknown:
            refuse_unknown(method, unknown, "task_timeout", "return_exceptions")
        return self._mapped(arguments, task_timeout, return_exceptions, True)

    def _mapped(self, arguments, task_timeout, return_exceptions, in_thread=False):
        """Call _map_async. A subclass's own takes multiprocessing's arguments only: pass goproc's only when needed."""
        others = {}
        if task_timeout is not None:
            others["task_timeout"] = task_timeout
        if return_exceptions:
            others["return_exceptions"] = True
        if in_thread and getattr(self._map_async, "__func__", None) is Pool._map_async:
            others["in_thread"] = True
        return self._map_async(*arguments, **others)

    def _map_async(
        self,
        func,
        iterable,
        mapper,
        chunksize=None,
        callback=None,
        error_callback=None,
        task_timeout=None,
        return_exceptions=False,
        in_thread=False,
    ):
        """Submit a map; return its MapResult. in_thread: whether a thread reads an iterable that may block."""
        if mapper is not mapstar and mapper is not starmapstar:
            return parts.inside().map_by(self, func, iterable, mapper, chunksize, callback, error_callback)
        self._check_running()
        limit = checked_limit("task_timeout", task_timeout)
        kind = maps.Kind(func, mapper is starmapstar, chunksize, limit, return_exceptions)
        return maps.submit(self, kind, iterable, callback, error_callback, in_thread)

    def imap(self, func, iterable, chunksize=1, buffersize=None, *, prefetch=None, task_timeout=None, **unknown):
        """Return an iterator over func(item) for each item of iterable, in order.

        chunksize: the number of items in one task. prefetch: how many tasks the iterable is read ahead of the results
        that next() has returned; so an endless iterable needs constant memory. None for as many as keep the workers
        busy, and fewer for large arguments. buffersize: Python 3.16's name of prefetch. task_timeout: how long each
        task may run, in seconds; see map.

        A thread reads the iterable, unless it is a list or another built-in collection. When the program drops the
        iterator, the rest of the iterable is run, as with multiprocessing, and its results are dropped.

        next() raises the exception of a task at the task's turn, and the iteration can go on after it. imap itself
        raises ValueError when the pool is closed, or when chunksize, prefetch or buffersize is below 1; TypeError when
        prefetch and buffersize are both given, or are not ints. Source: multiprocessing.pool.Pool.imap.
        """
        if unknown:
            refuse_unknown("imap", unknown, "prefetch", "buffersize", "task_timeout")
        prefetch = one_prefetch(prefetch, buffersize)
        return self._imap(IMapIterator, func, iterable, chunksize, prefetch, task_timeout)

    def imap_unordered(
        self, func, iterable, chunksize=1, buffersize=None, *, prefetch=None, task_timeout=None, **unknown
    ):
        """Like imap, but return the results in the order in which they arrive.

        Source: multiprocessing.pool.Pool.imap_unordered.
        """
        if unknown:
            refuse_unknown("imap_unordered", unknown, "prefetch", "buffersize", "task_timeout")
        prefetch = one_prefetch(prefetch, buffersize)
        return self._imap(IMapUnorderedIterator, func, iterable, chunksize, prefetch, task_timeout)

    def stream(self, func, iterable, *, prefetch=None, task_timeout=None, **unknown):
        """Call func(item) for each item of iterable; return an iterator over what these calls yield, as it is yielded.

        func is a generator function, or returns any iterable. The iterator returns pairs: the index of the item, and a
        value. The values of one item are in order; those of items that run at the same time alternate. A worker that
        is 128 values ahead of the program waits; see docs/guide/pools.md. prefetch: how many items the iterable is read
        ahead of the items whose values have all been taken; None for 4 for each worker. task_timeout: how long each
        call may run, in seconds; the time in which it waits for the program does not count.

        When func(item) raises, next() raises the exception after the values of this item, and the iteration can go on
        with those of the others. When the program drops the iterator, or calls its close() or cancel(), the calls that
        run are ended together with their workers.

        Raises ValueError when the pool is closed, when prefetch is below 1, or task_timeout not above 0; TypeError when
        prefetch is not an int, task_timeout not a number, or when the pool is one of threads, or one with parts of its
        own.
        """
        if not self._engine_driven:
            raise TypeError(
                f"stream() is not for this {type(self).__name__}, which is multiprocessing's own pool: it has threads, "
                "or it replaces private parts of Pool, or it could not have the engine"
            )
        self._check_running()
        if unknown:
            refuse_unknown("stream", unknown, "prefetch", "task_timeout")
        from .streams import StreamIterator

        limit = checked_limit("task_timeout", task_timeout)
        prefetch = StreamIterator.ITEMS_AHEAD * self._processes if prefetch is None else one_prefetch(prefetch, None)
        if prefetch < 1:
            raise ValueError(f"prefetch must be at least 1, not {prefetch!r}")
        self._dispatch.watch()
        return StreamIterator(self, func, iterable, prefetch, STREAM, 1, limit, type(iterable) not in COLLECTIONS)

    def _imap(self, kind, func, iterable, chunksize, prefetch, task_timeout):
        self._check_running()
        if chunksize < 1:
            raise ValueError("Chunksize must be 1+, not {0:n}".format(chunksize))
        limit = checked_limit("task_timeout", task_timeout)
        if prefetch is not None and prefetch < 1:
            raise ValueError(f"prefetch must be at least 1, not {prefetch!r}")
        size = batch_size(iterable, chunksize) if limit is None else 1
        may_block = type(iterable) not in COLLECTIONS
        self._dispatch.watch()
        if chunksize == 1:
            return kind(self, func, iterable, prefetch, ITEM, size, limit, may_block)
        return Items(kind(self, func, Chunks(iterable, chunksize), prefetch, MAP, size, limit, may_block, chunksize))

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

    def _close_when_fed(self):
        if not self._feeders and self._state == CLOSE:
            self._crew.closing = True
            quietly(calls.pool_close, self._crew.number)


def _drive_by_queues(self, processes, initializer, initargs, maxtasksperchild, context, own):
    """Initialize a Pool as a queue-driven pool. own: the arguments that are goproc's own."""
    self._pool, self._state = [], INIT  # for __del__, if this fails
    if given := Options(*own).given():
        names = ", ".join(replaced(type(self)))
        raise TypeError(f"{', '.join(given)}: not for pools with parts of their own, as this one: {names}")
    queue_pool = parts.queue_pool()
    queue_pool.take_over(self)
    queue_pool.QueuePool.__init__(self, processes, initializer, initargs, maxtasksperchild, context)


Pool.__module__ = "goproc.pool"  # its public module
