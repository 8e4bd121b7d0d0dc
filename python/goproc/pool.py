"""Pool: the API of multiprocessing.pool on the engine's scheduler.

    Pool.apply_async(f, args) ──▶ pickle ──▶ port.submit ──▶ the engine: a worker's ring, or its queue
    AsyncResult.get()         ──▶ dispatch.wait ──▶ port.collect ──▶ unpickle ──▶ result._set

Neither a thread nor a lock shared between processes stands between the two. The results' classes are the standard
library's, with another way to wait; ThreadPool is the standard library's own.
"""

import errno
import itertools
import operator
import os
import sys
from collections.abc import Generator, Iterator
from multiprocessing import util
from multiprocessing.context import BaseContext

from . import _transport, engine
from . import context as _context
from .crew import Crew
from .describe import explain_pickling
from .dispatch import Dispatch, interrupts
from .errors import CancelledError, EngineError
from .install import standard_module
from .iteration import COLLECTIONS, Chunks, Iteration, MapReader, UnorderedIteration, call
from .worker import ITEM, MAP, STARMAP, by_name, called, encode, outlined, returning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than loading the engine

__all__ = ["Pool", "ThreadPool"]  # noqa: F822  (see __getattr__)

_standard: "Any" = standard_module("pool")

# Other names of the standard library's module, which pickles and users' code look for here.
INIT, RUN, CLOSE, TERMINATE = _standard.INIT, _standard.RUN, _standard.CLOSE, _standard.TERMINATE
mapstar, starmapstar = _standard.mapstar, _standard.starmapstar
ExceptionWithTraceback, RemoteTraceback = _standard.ExceptionWithTraceback, _standard.RemoteTraceback
rebuild_exc = _standard.rebuild_exc
MaybeEncodingError = _standard.MaybeEncodingError
_helper_reraises_exception = _standard._helper_reraises_exception
TimeoutError = _standard.TimeoutError
worker = _standard.worker  # for programs' own workers, with queues; the engine's is in worker.py

job_counter = itertools.count()

#: Longer, or more, than anything lasts; in Go still far from an overflow.
_FOR_EVER = 1 << 50

#: After how many submissions the submitting thread looks for results, so that they do not pile up.
_LOOK_EVERY = 64

#: How many items a batch has at most, and how many bytes its pickle. Several workers may copy and unpickle it.
_BATCH_ITEMS, _BATCH_BYTES = 32, 4096

#: The same for a chunk of a map that may be divided.
_CHUNK_ITEMS, _CHUNK_BYTES = 4096, 16384

_TEXTS = frozenset({str, bytes})
_PLAIN = _TEXTS | {int, float, bool, type(None), tuple}

_LEFT_BLOCK = (
    "the pool was terminated before the task was done: leaving a `with Pool()` block terminates the pool. "
    "Call get() inside the block, or close() and join() at its end"
)

_cpu_count = getattr(os, "process_cpu_count", os.cpu_count)

#: The methods of multiprocessing's Pool that the engine replaces. A class that overrides one, or a program that puts
#: its own into Pool, gets the queue-driven pool, which calls them as multiprocessing does (queue_pool.py).
_REPLACEABLE = (
    "_setup_queues",
    "_repopulate_pool",
    "_repopulate_pool_static",
    "_maintain_pool",
    "_join_exited_workers",
    "_handle_workers",
    "_handle_tasks",
    "_handle_results",
    "_get_sentinels",
    "_get_worker_sentinels",
    "_wait_for_updates",
    "_guarded_task_generation",
    "_get_tasks",
    "_help_stuff_finish",
    "_terminate_pool",
)

_BY_HAND: "Any" = object()  # marks a result that a program makes itself


def __getattr__(name):
    """Return other names of multiprocessing's module: programs that derive from Pool use its imports, too."""
    if name == "ThreadPool":
        from . import queue_pool

        return queue_pool.ThreadPool
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_standard, name)


class _StandIn:
    """A private attribute of multiprocessing's Pool, made by inside.py; an attribute of the instance hides it."""

    def __set_name__(self, owner, name):
        self._name = name

    def __get__(self, instance, owner=None):
        if instance is None:
            raise AttributeError(f"type object {owner.__name__!r} has no attribute {self._name!r}")
        from . import inside

        return inside.stand_in(instance, self._name)


class Pool(_standard.Pool):
    """A pool of worker processes.

    processes: how many, the number of usable CPUs if None. initializer, initargs: called in each worker when it
    starts. maxtasksperchild: after how many tasks a worker is replaced, never if None. context: what starts the
    processes, the current default context if None. Beyond multiprocessing: retries: how often a task that is lost with
    its worker is run again. max_memory_per_child: a worker that has more memory of its own than this, in bytes,
    after a task is replaced; never if None.

    Raises ValueError if processes < 1, if maxtasksperchild or max_memory_per_child is not a positive int, or if retries
    is not an int of at least 0; TypeError if initializer cannot be called; AssertionError in a daemonic process, which
    may not have children. Source: multiprocessing.pool.Pool.
    """

    _state = INIT  # until __init__ sets it; __del__ looks at it

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
        **unknown,
    ):
        if unknown:
            _refuse("Pool", unknown, "processes", "initializer", "maxtasksperchild", "retries", "max_memory_per_child")
        if _replaced(type(self)):
            _drive_by_queues(
                self, processes, initializer, initargs, maxtasksperchild, context, retries, max_memory_per_child
            )
            return
        self._pool: list = []
        self._state = INIT
        self._ctx = _engines_context(context)
        self._results: dict = {}  # those that are not complete, by job
        self._maxtasksperchild = maxtasksperchild
        self._initializer = initializer
        self._initargs = initargs
        processes = (_cpu_count() or 1) if processes is None else _whole("processes", processes)
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None:
            if not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0:
                raise ValueError("maxtasksperchild must be a positive int or None")
        if max_memory_per_child is not None:
            if not isinstance(max_memory_per_child, int) or max_memory_per_child <= 0:
                raise ValueError("max_memory_per_child must be a positive int or None")
        if not isinstance(retries, int) or retries < 0:
            raise ValueError("retries must be a non-negative int")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._unlooked = 0  # how many tasks have been submitted since this pool looked for results
        self._feeders = set()  # imap iterators that have not read all of their input

        try:
            with _transport.held_signals:  # so that something ends what is made here
                refusal = self._start(retries, max_memory_per_child)
        except BaseException:
            if self._state == RUN:
                Pool.terminate(self)
            raise
        if refusal is not None:
            if retries or max_memory_per_child is not None:
                raise refusal  # only a pool of the engine has that
            from . import queue_pool

            queue_pool.take_over(self)
            queue_pool.QueuePool.__init__(self, processes, initializer, initargs, maxtasksperchild, context)

    def _start(self, retries, max_memory_per_child):
        """Make the engine's pool, and start the workers. Return None, or an exception: why there can be no pool."""
        refusal = engine.refusal()
        if refusal is not None:
            return refusal
        try:
            number = engine.call("PoolNew", min(retries, _FOR_EVER))
        except OSError as reason:
            if reason.errno == errno.EFBIG:
                why = f"RLIMIT_FSIZE, the limit of the size of files, leaves pools no shared memory: {reason}"
            elif reason.errno in (errno.ENOSYS, errno.EPERM, errno.EACCES):
                why = f"this system refuses what a pool needs: {reason}"
            else:
                raise
            engine.warn_once(f"{why}. Pools")
            return reason
        try:
            memory_fd = os.dup(engine.call("PoolMemoryFD", number))
            try:
                self._port = _transport.Port(number, memory_fd)
            except BaseException:
                os.close(memory_fd)
                raise
            self._crew = Crew(
                self._ctx,
                self.Process,
                number,
                self._processes,
                self._pool,
                self._results,
                self._initializer,
                self._initargs,
                self._maxtasksperchild,
                self._wrap_exception,
                max_memory_per_child,
            )
            self._dispatch = Dispatch(self._port, self._results, self._crew)
            try:
                self._crew.repopulate(all_or_none=True)
            except BaseException:
                self._crew.terminate()
                self._port.close()
                raise
        except BaseException:
            _quietly("PoolDestroy", number)
            raise
        self._terminate = util.Finalize(self, _terminate_pool, args=(self._crew, self._dispatch), exitpriority=15)
        self._state = RUN
        if self._maxtasksperchild is not None or max_memory_per_child is not None:
            self._dispatch.serve()
        return None

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if cls._engine_driven and _replaced(cls):
            from .queue_pool import QueuePool

            bases = [QueuePool if base is Pool else base for base in cls.__bases__]
            cls.__bases__ = tuple(bases if QueuePool in bases else [*bases, QueuePool])

    def __del__(self, *args, **kwargs):
        self._change_notifier = None
        super().__del__(*args, **kwargs)

    # What programs find inside: see inside.py.
    _engine_driven = True
    _cache, _taskqueue, _change_notifier = _StandIn(), _StandIn(), _StandIn()
    _inqueue, _outqueue, _quick_put, _quick_get = _StandIn(), _StandIn(), _StandIn(), _StandIn()
    _worker_handler, _task_handler, _result_handler = _StandIn(), _StandIn(), _StandIn()
    Process = _standard.Pool.__dict__["Process"]  # programs put one of their own here, and this one back

    def _repopulate_pool(self):
        if not self._engine_driven:
            return _original("_repopulate_pool")(self)
        self._dispatch.poll()
        self._crew.grow(self._processes)

    @staticmethod
    def _repopulate_pool_static(ctx, Process, processes, pool, inqueue, *others):
        if owner := _owner_of(inqueue):
            return owner._repopulate_pool()
        return _original("_repopulate_pool_static")(ctx, Process, processes, pool, inqueue, *others)

    @staticmethod
    def _maintain_pool(ctx, Process, processes, pool, inqueue, *others):
        if owner := _owner_of(inqueue):
            return owner._repopulate_pool()
        return _original("_maintain_pool")(ctx, Process, processes, pool, inqueue, *others)

    @staticmethod
    def _help_stuff_finish(inqueue, *others):
        if not _owner_of(inqueue):
            _original("_help_stuff_finish")(inqueue, *others)

    @classmethod
    def _terminate_pool(cls, taskqueue, *others):
        if owner := _owner_of(taskqueue):
            return owner._end()
        return _original("_terminate_pool")(cls, taskqueue, *others)

    def _setup_queues(self):
        if self._engine_driven:  # called by a class whose __init__ does not call Pool's
            from . import queue_pool

            queue_pool.take_over(self)
        return _original("_setup_queues")(self)

    def apply(self, func, args=(), kwds={}, *, timeout=None, **unknown):
        """Call func(*args, **kwds) in a worker; return its result, or raise what it raised.

        timeout: how long it may run, in seconds; see apply_async.
        """
        if type(self).apply_async is Pool.apply_async and not unknown:
            return self._apply(func, args, kwds, None, None, timeout).get()
        if timeout is not None:
            unknown["timeout"] = timeout
        return self.apply_async(func, args, kwds, **unknown).get()  # also what takes its place, and has no timeout

    def apply_async(self, func, args=(), kwds={}, callback=None, error_callback=None, *, timeout=None, **unknown):
        """Have func(*args, **kwds) called in a worker; return an AsyncResult at once.

        callback is called with the result, error_callback with the exception, in a thread of the pool's own. If the
        call cannot be pickled, get() raises that error. timeout: how many seconds the call may run. The time in which
        it waits for a worker does not count. After that its worker is ended, and get() raises TaskTimeoutError.

        Raises ValueError when the pool is closed or timeout is not above 0, TypeError when it is no number.
        """
        self._check_running()
        if unknown:
            _refuse("apply_async", unknown, "timeout")
        self._dispatch.watch()
        return self._apply(func, args, kwds, callback, error_callback, timeout)

    def _apply(self, func, args, kwds, callback, error_callback, timeout):
        self._check_running()
        limit = None if timeout is None else _checked_limit("timeout", timeout)
        result = ApplyResult(self, callback, error_callback, func)
        if type(kwds) is not dict and (kwds is None or type(kwds) is bool):  # which mean a map's task (worker.py)
            func, args, kwds = called, (func, args, kwds), {}
        try:
            self._results[result._job] = result
            if limit is not None:
                self._limit(result, 0, limit)
            self._submit(result, 0, (by_name(func), outlined(args), kwds))
        except BaseException as error:
            if self._crew.terminated and result.done and isinstance(error, ValueError):
                return result  # a signal handler has terminated the pool meanwhile, and cancelled it
            self._forget(result)
            raise
        return result

    def map(self, func, iterable, chunksize=None, *, task_timeout=None, return_exceptions=False, **unknown):
        """Return the list of func(item) for each item of iterable, or raise what the first failing task raised.

        task_timeout: how long each task may run, in seconds. A task is a chunk of chunksize items; with a task_timeout,
        chunksize is 1 unless it is given. See apply_async for what happens when the time is over.

        return_exceptions: raise nothing for an item that fails, but put the exception in its place in the list. What
        ends a whole chunk, such as the loss of its worker, is in the place of each of its items.
        """
        if unknown:
            _refuse("map", unknown, "task_timeout", "return_exceptions")
        return self._mapped((func, iterable, mapstar, chunksize), task_timeout, return_exceptions).get()

    def starmap(self, func, iterable, chunksize=None, *, task_timeout=None, return_exceptions=False, **unknown):
        """Like map, with items that are iterables themselves and hold the arguments of one call."""
        if unknown:
            _refuse("starmap", unknown, "task_timeout", "return_exceptions")
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
        """Like map, but return a MapResult at once. callback and error_callback are as for apply_async."""
        self._check_running()
        self._dispatch.watch()
        if unknown:
            _refuse("map_async", unknown, "task_timeout", "return_exceptions")
        arguments = (func, iterable, mapstar, chunksize, callback, error_callback)
        return self._mapped(arguments, task_timeout, return_exceptions, True)

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
        """Like starmap, but return a MapResult at once. callback and error_callback are as for apply_async."""
        self._check_running()
        self._dispatch.watch()
        if unknown:
            _refuse("starmap_async", unknown, "task_timeout", "return_exceptions")
        arguments = (func, iterable, starmapstar, chunksize, callback, error_callback)
        return self._mapped(arguments, task_timeout, return_exceptions, True)

    def _mapped(self, arguments, task_timeout, return_exceptions, apart=False):
        """Call _map_async. A program's own has multiprocessing's arguments: so others are given only if need be."""
        others = {}
        if task_timeout is not None:
            others["task_timeout"] = task_timeout
        if return_exceptions:
            others["return_exceptions"] = True
        if apart and getattr(self._map_async, "__func__", None) is Pool._map_async:
            others["apart"] = True
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
        apart=False,
    ):
        """apart: if the iterable may block, have a thread read it."""
        if mapper is not mapstar and mapper is not starmapstar:
            from . import inside

            return inside.map_by(self, func, iterable, mapper, chunksize, callback, error_callback)
        self._check_running()
        limit = _checked_limit("task_timeout", task_timeout)
        if limit is not None and chunksize is None:
            chunksize = 1
        if not hasattr(iterable, "__len__"):
            iterable = list(iterable)
        length, items = len(iterable), None
        if chunksize is None:
            chunksize, extra = divmod(length, self._processes * 4)
            if extra:
                chunksize += 1
            items = self._divisible(func, iterable, chunksize)
        else:
            chunksize = operator.index(chunksize)
            if chunksize < 1 and length:
                raise ValueError("Chunksize must be 1+, not {0:n}".format(chunksize))
        if length == 0:
            chunksize = 0
        result = MapResult(self, chunksize if items is None else 1, length, callback, error_callback, func)
        result._returning = return_exceptions
        name = returning(func) if return_exceptions else by_name(func)
        how = STARMAP if mapper is starmapstar else MAP
        chunks: Any = (chunk for _, chunk in self._get_tasks(func, iterable, chunksize)) if chunksize else ()
        chunks = itertools.islice(chunks, result._chunks)  # its iterator may give more than its length
        size = _batch_size(iterable, chunksize) if limit is None else 1
        if result.done:
            return result
        apart = apart and type(iterable) not in COLLECTIONS

        def submit():
            index = 0
            try:
                self._results[result._job] = result
                if items is not None:
                    while index < length:
                        chunk = items[index : index + chunksize]
                        self._submit_batch(result, index, name, chunk, how, True)
                        index += len(chunk)
                elif size == 1:
                    for chunk in chunks:
                        if apart and result.done:  # it has been cancelled
                            self._cancel(result)
                            return
                        if limit is not None:
                            self._limit(result, index, limit)
                        self._submit(result, index, call(name, chunk, how))
                        index += 1
                else:
                    while batch := list(itertools.islice(chunks, size)):
                        self._submit_batch(result, index, name, batch, how)
                        index += len(batch)
            except BaseException as reason:
                if interrupts(reason) and not apart:
                    self._forget(result)
                    raise
                error = reason
                self._dispatch.run(lambda: result._cut(index, error))
            else:
                if index < result._chunks:
                    error = ValueError(f"the iterable gave fewer than the {length} items of its length")
                    self._dispatch.run(lambda: result._cut(index, error))
            result._reading = False

        if apart:
            with _transport.held_signals:
                self._results[result._job] = result
                result._reading = True
                try:
                    MapReader(self, submit).start()
                except RuntimeError as error:
                    util.info("the input of a map is read by its caller: %s", error)
                    apart = result._reading = False
        if not apart:
            submit()
        return result

    def _divisible(self, func, iterable, chunksize):
        """Return the items of a map as a list if its chunks, whose size nobody has given, may be divided; else None.

        Then idle workers take over a part of what a slow one has not begun.
        """
        if type(iterable) not in COLLECTIONS or not 1 < chunksize <= _CHUNK_ITEMS:
            return None
        if self._maxtasksperchild is not None or type(by_name(func)) is not str:
            return None  # the number of tasks, or how often func is pickled, would show
        items = list(iterable)
        for some in items[:8], items:  # most inputs are refused by the first few
            size = _plain_size(some, len(some))
            if size is None or size * chunksize > _CHUNK_BYTES * len(some):
                return None
        return items

    def imap(self, func, iterable, chunksize=1, buffersize=None, *, prefetch=None, task_timeout=None, **unknown):
        """Return an iterator over func(item) for each item of iterable, in order.

        The iterable is read at most prefetch tasks ahead of what next() has returned, so an endless one runs in
        constant memory. The default keeps the workers busy, and is smaller for large arguments. A thread reads the
        iterable, unless it is a list or another built-in collection. When nobody holds the iterator any more, the rest
        of the iterable is run, as with multiprocessing, and no results are kept. chunksize: how many items make a task.
        task_timeout: how long each task may run, in seconds; see apply_async. buffersize: Python 3.16's name of
        prefetch.

        What a task raises is raised at its turn, and the iteration can go on after it. Raises ValueError when the pool
        is closed, chunksize < 1, or prefetch or buffersize < 1; TypeError when both are given, or when buffersize is
        no int. Source: multiprocessing.pool.Pool.imap.
        """
        if unknown:
            _refuse("imap", unknown, "prefetch", "buffersize", "task_timeout")
        prefetch = _one_prefetch(prefetch, buffersize)
        return self._imap(IMapIterator, func, iterable, chunksize, prefetch, task_timeout)

    def imap_unordered(
        self, func, iterable, chunksize=1, buffersize=None, *, prefetch=None, task_timeout=None, **unknown
    ):
        """Like imap, but with the results in the order in which they come."""
        if unknown:
            _refuse("imap_unordered", unknown, "prefetch", "buffersize", "task_timeout")
        prefetch = _one_prefetch(prefetch, buffersize)
        return self._imap(IMapUnorderedIterator, func, iterable, chunksize, prefetch, task_timeout)

    def _imap(self, kind, func, iterable, chunksize, prefetch, task_timeout):
        self._check_running()
        if chunksize < 1:
            raise ValueError("Chunksize must be 1+, not {0:n}".format(chunksize))
        limit = _checked_limit("task_timeout", task_timeout)
        if prefetch is not None and prefetch < 1:
            raise ValueError(f"prefetch must be at least 1, not {prefetch!r}")
        size = _batch_size(iterable, chunksize) if limit is None else 1
        waits = type(iterable) not in COLLECTIONS
        self._dispatch.watch()
        if chunksize == 1:
            return kind(self, func, iterable, prefetch, ITEM, size, limit, waits)
        return _Items(kind(self, func, Chunks(iterable, chunksize), prefetch, MAP, size, limit, waits, chunksize))

    def close(self):
        """Refuse further tasks. Workers end when all that was submitted is done."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            self._close_when_fed()

    def __exit__(self, exc_type, exc_val, exc_tb):
        if self._state == RUN:
            self._dispatch.why_terminated = _LEFT_BLOCK
        super().__exit__(exc_type, exc_val, exc_tb)

    def terminate(self):
        """End the workers at once. Results that have not come raise CancelledError."""
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
            process.join()  # returns at once; in a forked child, raises that the pool is not its own

    def _end(self):
        """Do what the finalizer does. It stays active until all is done: so the next call ends what is interrupted."""
        finalizer = self._terminate
        if finalizer.still_active() and finalizer._pid == os.getpid():
            _terminate_pool(self._crew, self._dispatch)
            finalizer.cancel()

    def _close_when_fed(self):
        if not self._feeders and self._state == CLOSE:
            self._crew.closing = True
            _quietly("PoolClose", self._crew.number)

    def _submit(self, result, index, call):
        """Submit one task of a result. It fails if it cannot be pickled, or if no worker can begin."""
        error = self._crew.broken
        if error is not None:
            error = self._try_again()
        if error is None:
            try:
                stream, buffers = encode(call)
            except BaseException as reason:
                if interrupts(reason):
                    raise
                error = reason
                explain_pickling(error)
        if error is not None:
            if result._limit is not None:
                engine.call("PoolLimit", self._crew.number, result._job, index, 0)
            self._dispatch.run(lambda: result._set(index, (False, error)))
            return
        if result._note is not None:
            result._note(index, stream, buffers)
        urgent = self._port.submit(result._job, index, stream, buffers)
        self._unlooked += _LOOK_EVERY if urgent else 1
        if self._unlooked >= _LOOK_EVERY:
            self._unlooked = 0
            self._dispatch.poll()

    def _try_again(self):
        """Have a worker tried again, as none could begin. Return None, or why a task cannot be submitted."""
        error = self._crew.try_again()
        self._dispatch.see_to_workers()
        return error

    def _submit_batch(self, result, index, func, items, how, together=False):
        """Submit the tasks (func, item, how) of a result: in one payload, if they are few bytes.

        Their items must be of the simplest immutable types for that: the tasks of a payload may share objects, and
        several workers may unpickle it. Each task is scheduled, and answered, by itself. If together is true, a worker
        answers it together with the tasks that follow, for about a millisecond.
        """
        most = _CHUNK_BYTES if together else _BATCH_BYTES
        size = None
        if len(items) > 1 and type(func) is str and self._crew.broken is None:
            size = 0 if together else _plain_size(items, _BATCH_ITEMS)
        if size is not None:
            stream = encode((func, items, how, together))[0] if size <= most else None
            if type(stream) is bytes and len(stream) <= most:
                urgent = self._port.submit(result._job, index, stream, None, len(items))
                self._unlooked += _LOOK_EVERY if urgent else len(items)
            else:
                half = len(items) // 2
                self._submit_batch(result, index, func, items[:half], how, together)
                self._submit_batch(result, index + half, func, items[half:], how, together)
        else:
            for item in items:
                self._submit(result, index, call(func, (item,) if together else item, how))
                index += 1
        if self._unlooked >= _LOOK_EVERY:
            self._unlooked = 0
            self._dispatch.poll()

    def _forget(self, result):
        """Drop a result that nobody gets, since a signal handler, or the end of the pool, has interrupted making it."""
        self._results.pop(result._job, None)
        self._cancel(result)

    def _limit(self, result, index, seconds):
        """Limit how long a task that is about to be submitted may run."""
        result._limit = seconds
        microseconds = int(min(seconds * 1e6, _FOR_EVER)) or 1
        engine.call("PoolLimit", self._crew.number, result._job, index, microseconds)

    def _cancel(self, result):
        """Withdraw all tasks of a result; return how many of them will not complete by themselves."""
        try:
            left = engine.call("PoolCancel", self._crew.number, result._job)
            self._crew.replace_by_forks()
            return left
        except (ValueError, EngineError):
            return 0  # the pool has been terminated, or the engine is closed, which cancels what is left


class ApplyResult(_standard.ApplyResult):
    """What apply_async returns. Source: multiprocessing.pool.AsyncResult."""

    done = False  # whether the result is there; who waits for it collects
    _completing = False  # its callback may terminate the pool, which fails all results that have not come
    _callback = _error_callback = None
    _limit = None  # how long its tasks may run, in seconds
    _note = None  # is told of each task before it is submitted
    _reading = False  # whether a thread still reads its input

    def __init__(self, pool, callback, error_callback, func=_BY_HAND):
        if func is _BY_HAND:
            return _make_by_hand(self, "ApplyResult", pool, callback, error_callback)
        self._pool = pool
        self._dispatch = pool._dispatch
        self._func = func
        self._cache = pool._results
        self._job = next(job_counter)
        if callback or error_callback:
            self._callback, self._error_callback = _guarded(callback), _guarded(error_callback)
            pool._dispatch.serve()

    def ready(self):
        """Whether the result is there."""
        if not self.done:
            self._dispatch.poll()
        return self.done

    def wait(self, timeout=None):
        """Wait until the result is there, at most timeout seconds; for ever when it is None."""
        if not self.done:
            self._dispatch.wait(self, timeout)

    def get(self, timeout=None):
        """Return the result, or raise what the task raised; TimeoutError if it has not come in timeout seconds."""
        if not self.done:
            self._dispatch.wait(self, timeout)
            if not self.done:
                raise TimeoutError
        if self._success:
            return self._value
        raise self._value

    @property
    def _event(self):
        return _Arrival(self)

    # A signal handler may raise anywhere in here. Then all is done again, from the beginning (dispatch.py). No handler
    # is called between two stores that have no call or jump between them.

    def _set(self, i, obj):
        self._success, self._value = obj
        self._complete()

    def _complete(self):
        callback = self._callback if self._success else self._error_callback
        if callback is not None and not self._completing:  # in the pool's thread, where no signal handler is called
            self._completing = True
            callback(self._value)
        self.done = True
        self._cache.pop(self._job, None)
        self._pool = None

    def _fail(self, error):
        if not self._completing:
            self._set(0, (False, error))

    def cancel(self):
        """Withdraw all that is not done, so that get() raises CancelledError.

        Tasks that wait do not begin. A worker that runs one is ended, and replaced: it is sent SIGTERM, and SIGKILL if
        it has not ended after two seconds. Returns True; False if the result was complete, which then stays.
        """
        pool = self._pool
        if self.ready() or pool is None or not (pool._cancel(self) or self._reading):
            return False
        pool._dispatch.run(lambda: self._fail(CancelledError("the task was cancelled")))
        return True


class _Arrival:
    """Stands in for the threading.Event of the standard library's results."""

    def __init__(self, result):
        self._result = result

    def set(self):
        self._result.done = True

    def is_set(self):
        return self._result.ready()

    _flag = property(is_set)  # programs look at it

    def wait(self, timeout=None):
        self._result.wait(timeout)
        return self._result.done


AsyncResult = ApplyResult


class MapResult(ApplyResult, _standard.MapResult):
    """What map_async returns. Source: multiprocessing.pool.MapResult."""

    _returning = False  # return_exceptions: whether exceptions stand in the list, in the place of their items

    def __init__(self, pool, chunksize, length, callback, error_callback, func=_BY_HAND):
        if func is _BY_HAND:
            return _make_by_hand(self, "MapResult", pool, chunksize, length, callback, error_callback)
        ApplyResult.__init__(self, pool, callback, error_callback, func)
        self._success = True
        self._input_length = length
        self._value = [None] * length
        self._chunksize = chunksize
        self._left = self._chunks = -(-length // chunksize) if chunksize else 0
        self._handed = bytearray(self._chunks)  # which of them have come
        self.done = not self._chunks

    @property
    def _number_left(self):
        """How many tasks are not complete: programs look at it to show progress."""
        self.ready()
        return self._left

    def _set(self, i, success_result):
        i, count = i if type(i) is tuple else (i, 1)  # of a divided chunk, several tasks are answered together
        if not self._handed[i]:
            success, value = success_result
            if not success and self._returning:
                first = i * self._chunksize
                value = [value] * (min(first + count * self._chunksize, self._input_length) - first)
                success = True
            if not success:
                if self._success:  # only the first exception is kept
                    self._success, self._value = False, value
            elif self._success:
                self._value[i * self._chunksize : (i + count) * self._chunksize] = value
            self._handed[i : i + count] = b"\1" * count
            self._left -= count
        if not self._left:
            self._complete()

    def _cut(self, chunks, error):
        """Fail: the iterable gave no more than the first chunks."""
        self._returning = False
        for i in range(chunks, self._chunks):
            self._set(i, (False, error))

    def _fail(self, error):
        if self._completing:
            return
        if self._left:
            self._value = error
            self._success = False
            self._left = 0
        self._complete()


class IMapIterator(_standard.IMapIterator):
    """What imap returns. Source: multiprocessing.pool.IMapIterator.

    Only the user holds it. All work is done by its Iteration (iteration.py).
    """

    _kind = Iteration

    def __init__(
        self, pool, func=_BY_HAND, iterable=None, prefetch=None, how=ITEM, batch=1, limit=None, waits=True, chunksize=1
    ):
        if func is _BY_HAND:
            kind = "IMapUnorderedIterator" if isinstance(self, IMapUnorderedIterator) else "IMapIterator"
            return _make_by_hand(self, kind, pool)
        self._iteration = self._kind()
        self._iteration._chunksize = chunksize
        self._iteration.start(self, pool, next(job_counter), func, iterable, waits, prefetch, how, batch, limit)

    def __getattr__(self, name):
        iteration = self.__dict__.get("_iteration")
        if iteration is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(iteration, "_owner" if name == "_pool" else name)

    @property
    def done(self):
        """Whether next() has something to return or to raise."""
        return self._iteration.done

    def next(self, timeout=None):
        """Return the next result, or raise what its task raised; TimeoutError if it has not come in timeout seconds."""
        return self._iteration.next(timeout)

    __next__ = next

    def cancel(self):
        """Read no more of the input, and withdraw what has not been done.

        What has come can still be taken; then next() raises CancelledError, once, and the iteration is over. Workers
        that run one of its tasks are ended, as by AsyncResult.cancel. Returns False if everything had come already.
        """
        return self._iteration.cancel()


class IMapUnorderedIterator(IMapIterator):
    """What imap_unordered returns. Source: multiprocessing.pool.IMapUnorderedIterator."""

    _kind = UnorderedIteration


class _Items(Generator):
    """What imap returns for a chunksize above 1: the items of its chunks, one by one.

    After an exception, which stands for a whole chunk, it goes on, unlike multiprocessing's generator.
    """

    def __init__(self, chunks):
        self._chunks = chunks
        self._items: Iterator = iter(())

    def next(self, timeout=None):
        """Return the next item, or raise what its chunk raised; TimeoutError if it has not come in timeout seconds."""
        for item in self._items:
            return item
        if self._chunks is None:
            raise StopIteration
        self._items = iter(self._chunks.next(timeout))
        return next(self._items)

    __next__ = next

    def send(self, value):
        """Return the next item, as a generator does that makes no use of the value."""
        return self.next()

    def throw(self, kind, value=None, traceback=None):
        """Close, and raise the exception."""
        self.close()
        return super().throw(kind, value, traceback)

    def close(self):
        """Let go of what has not been taken; it is run all the same, as when nobody holds the iterator any more."""
        self._chunks, self._items = None, iter(())

    def cancel(self):
        """Read no more of the input, and withdraw what has not been done; see IMapIterator.cancel."""
        return self._chunks is not None and self._chunks.cancel()


def _batch_size(iterable, chunksize):
    """How many chunks of the iterable may be read before they are submitted."""
    return max(1, _BATCH_ITEMS // chunksize) if chunksize and type(iterable) in COLLECTIONS else 1


def _plain_size(items, most):
    """Return how many bytes and characters are in items. None if not all are numbers, texts, bytes, or tuples of these.

    None, too, if there are more than 16 * most of them.
    """
    size = 0
    while len(items) <= 16 * most:
        types = set(map(type, items))
        if not types <= _PLAIN:
            return None
        if not types.isdisjoint(_TEXTS):
            size += sum(len(item) for item in items if type(item) in _TEXTS)
        if tuple not in types:
            return size
        items = [part for item in items if type(item) is tuple for part in item]
    return None


def _refuse(method, unknown, *known):
    """Raise the TypeError for keyword arguments that a method does not take, and suggest what may be meant."""
    from difflib import get_close_matches

    name = next(iter(unknown))
    text = f"{method}() got an unexpected keyword argument {name!r}"
    if name == "timeout":  # of a map
        text += ": task_timeout= limits each task; get(timeout) of a result limits how long you wait"
    elif close := get_close_matches(name, known, 1):
        text += f": did you mean {close[0]!r}?"
    raise TypeError(text)


def _whole(name, value):
    """Return value as an int. Raises TypeError, as multiprocessing does, but says what is wrong."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, not {value!r}") from None


def _one_prefetch(prefetch, buffersize):
    """Return prefetch, which multiprocessing calls buffersize."""
    if buffersize is None:
        return None if prefetch is None else _whole("prefetch", prefetch)
    if prefetch is not None:
        raise TypeError("prefetch and buffersize are two names of one argument: give one of them")
    if not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
    return buffersize


def _checked_limit(name, seconds):
    """Return a time limit in seconds as a float, None for none."""
    if seconds is None:
        return None
    try:
        positive = seconds > 0
    except TypeError:
        raise TypeError(f"{name} must be a number of seconds, not {seconds!r}") from None
    if not positive:
        raise ValueError(f"{name} must be above 0, not {seconds!r}")
    return float(seconds)


def _guarded(callback):
    """Return a callback that reports what it raises, and does not keep other results from being delivered."""
    if not callback:
        return None

    def call(value):
        try:
            callback(value)
        except BaseException:  # SystemExit, too, would end the thread that delivers everybody's results
            sys.excepthook(*sys.exc_info())

    return call


def _engines_context(context):
    """Return the goproc context that starts the workers: the default, or the namesake of multiprocessing's."""
    if context is None:
        return _context._default_context.get_context()
    if isinstance(context, BaseContext) and not isinstance(context, _context.BaseContext):
        return _context._concrete_contexts[context.get_start_method()]
    return context


_own_classes = {Pool, _standard.Pool}
_originals = {name: vars(Pool).get(name) for name in _REPLACEABLE}
_original_globals = {
    name: globals()[name]
    for name in (
        "worker",
        "mapstar",
        "starmapstar",
        "ApplyResult",
        "MapResult",
        "IMapIterator",
        "IMapUnorderedIterator",
    )
}


def _replaced(cls):
    """Return what a class, or the program in this module, has replaced that needs the queue-driven pool."""
    names = [name for name, original in _original_globals.items() if globals()[name] is not original]
    own, derived = vars(Pool), list(itertools.takewhile(lambda base: base not in _own_classes, cls.__mro__))
    for name in _REPLACEABLE:
        if own.get(name) is not _originals[name] or derived and any(name in vars(base) for base in derived):
            names.append(name)
    return names


def _drive_by_queues(self, processes, initializer, initargs, maxtasksperchild, context, retries, max_memory):
    """Initialize a Pool that is to be a queue-driven one."""
    from . import queue_pool

    self._pool, self._state = [], INIT  # for __del__
    if retries or max_memory is not None:
        names = ", ".join(_replaced(type(self)))
        raise TypeError(f"retries and max_memory_per_child are not for pools with parts of their own: {names}")
    queue_pool.take_over(self)
    queue_pool.QueuePool.__init__(self, processes, initializer, initargs, maxtasksperchild, context)


def _original(name):
    from . import queue_pool

    return queue_pool.original(name)


def _owner_of(part):
    from . import inside

    return inside.of_engine(part)


def _make_by_hand(result, kind, pool, *arguments):
    from . import inside, queue_pool

    inside.make_result(result, getattr(queue_pool, kind), pool, *arguments)


def _terminate_pool(crew, dispatch):
    """End the workers, and then the pool. It may be called again if it was interrupted."""
    util.debug("finalizing pool")
    crew.terminated = True
    idle = (_quietly("PoolIdle", crew.number) or "").split()
    _quietly("PoolTerminate", crew.number)
    crew.terminate({int(pid) for pid in idle})
    dispatch.finish()
    _quietly("PoolDestroy", crew.number)


def _quietly(*call):
    """Call the engine, and return what it returns; None if it is poisoned or closed, or the pool is gone."""
    try:
        return engine.call(*call)
    except (EngineError, ValueError):
        return None
