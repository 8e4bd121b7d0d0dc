"""ProcessPoolExecutor: concurrent.futures' executor on the engine's pool. Its public module is goproc.futures.

    submit() ──▶ Future (future.py) ──▶ Works.submit (works.py) ──▶ the engine
    Future.result() ──▶ the pool's results are collected by the thread that waits (../_pool/dispatch.py)

The class derives from concurrent.futures', and has the private names that programs use. In two cases an executor is
wholly concurrent.futures' own: if there is no engine, and if a subclass overrides one of METHODS, which the engine's
pool does not call, or has a submit() or shutdown() that works with the inner parts of concurrent.futures'.
"""

import itertools
import operator
import os
from concurrent.futures import Executor
from concurrent.futures import process as _futures_process
from concurrent.futures.process import ProcessPoolExecutor as _Standard
from multiprocessing import util
from threading import Lock
from typing import Any

from .. import _native
from .._common import clusters, picklers, start_methods, stdlib
from .._common.cpus import usable_cpu_count
from .._common.monkeypatches import is_replaced
from .._pool.blas_threads import checked_threads
from .._pool.inputs import checked_limit, flag
from .._pool.machinery import NoEngine
from .._pool.options import checked_retries, positive, retry_policy
from . import mapping
from .faults import BrokenProcessPool
from .future import Future, WatchedFuture
from .inside import WorkQueue, pending_items
from .works import AFTER_EXIT, AFTER_SHUTDOWN, Works

__all__ = ["METHODS", "LimitedExecutor", "ProcessPoolExecutor"]

#: The methods of concurrent.futures' executor that start workers.
METHODS = ("_start_executor_manager_thread", "_adjust_process_count", "_launch_processes", "_spawn_process")

#: Parts of concurrent.futures' executor that only its own methods, and copies of them, work with.
_INNER_PARTS = {"_executor_manager_thread_wakeup", "_idle_worker_semaphore", "_work_ids"}


class ProcessPoolExecutor(_Standard):
    """An executor that runs calls in worker processes.

    max_workers: the most workers; None for goproc.usable_cpu_count(). mp_context: the context that starts the workers;
    None for goproc's default context, or, with max_tasks_per_child, for that of spawn. initializer, initargs: each
    worker calls initializer(*initargs) when it starts; if that fails, the executor is broken. max_tasks_per_child: the
    number of calls after which a worker is replaced; None for never. It cannot be given together with fork. pickler:
    "cloudpickle", which also sends functions that a worker does not find by name, such as lambdas, and functions of a
    notebook; "pickle"; None for that of mp_context, else of GOPROC_PICKLER, else "pickle".

    The further arguments are goproc's own. threads: how many threads BLAS and OpenMP libraries may use in each worker,
    as for Pool. nested: whether the processes that calls start always end with their worker; calls may start processes
    in any case. max_memory_per_task: a number of bytes; if a worker's private resident memory grows by more than this
    during a call, the worker is killed, and the call raises MemoryLimitError; None for no limit.

    With fork, all workers are started by the first call; with other start methods, only as many as have something to
    do. Raises ValueError for a max_workers or max_tasks_per_child below 1, and for max_tasks_per_child with fork;
    TypeError if initializer cannot be called, or max_tasks_per_child is not an int. A threads or max_memory_per_task
    that is no positive int raises ValueError. The first call raises ImportError if threads needs threadpoolctl, and
    that is not installed.
    Source: concurrent.futures.ProcessPoolExecutor of Python 3.15.
    """

    # Names of concurrent.futures that programs use. The values have other types there.
    _executor_manager_thread: Any
    _processes: Any
    _call_queue: Any
    _result_queue: Any
    _work_ids: Any

    _works = None  # the Works of this executor, from the first call on
    _is_standard = False  # whether this is concurrent.futures' own executor, whole

    def __new__(cls, *args, **kwds):
        """Return a new object: of a class on the cluster, if the program's pools are there.

        The class that install(futures=True) gives concurrent.futures' class has another __new__.
        """
        return object.__new__(clusters.executor_class(cls))

    def __init__(
        self,
        max_workers=None,
        mp_context=None,
        initializer=None,
        initargs=(),
        *,
        max_tasks_per_child=None,
        threads="auto",
        nested=False,
        pickler=None,
        max_memory_per_task=None,
    ):
        if max_workers is None:
            max_workers = usable_cpu_count()
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        else:
            max_workers = operator.index(max_workers)
        if mp_context is None:
            mp_context = start_methods.default.get_context(None if max_tasks_per_child is None else "spawn")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        forks = mp_context.get_start_method(allow_none=False) == "fork"
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
            if forks:
                raise ValueError(
                    "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method; supply a "
                    "different mp_context."
                )
        self._threads = checked_threads(threads)
        self._nested = flag("nested", nested)
        self._pickler = picklers.for_context(pickler, mp_context)
        self._task_memory = positive("max_memory_per_task", max_memory_per_task)
        self._max_workers = max_workers
        self._mp_context = mp_context
        self._initializer = initializer
        self._initargs = initargs
        self._max_tasks_per_child = max_tasks_per_child
        self._safe_to_dynamically_spawn_children = not forks
        self._owner = os.getpid()
        self._executor_manager_thread = None
        self._processes = {}
        self._shutdown_thread = False
        self._shutdown_lock = Lock()
        self._force_shutting_down = False
        self._call_queue = WorkQueue(self, lambda works: 0)
        self._result_queue = WorkQueue(self, lambda works: 0)
        self._work_ids = WorkQueue(self, lambda works: max(0, works.pending - max_workers))
        if overridden := _overridden(type(self)):
            if self._pickler == "cloudpickle":
                raise TypeError(f"pickler is not for executors with parts of their own: {', '.join(overridden)}")
            util.info("an executor is concurrent.futures' own: the program overrides %s", ", ".join(overridden))
            self._become_standard()

    # ---- calls

    def submit(self, fn, /, *args, **kwargs):
        """Submit fn(*args, **kwargs) to the workers; return a Future at once.

        If the call cannot be pickled, the future has that error. Raises RuntimeError after shutdown(), and when the
        program ends; BrokenProcessPool when the executor is broken. Source: concurrent.futures.Executor.submit.
        """
        works = self._works
        if works is None or works.refusing:  # it refuses calls from the end of the program on, too
            works = self._ready()
            if works is None:
                return super().submit(fn, *args, **kwargs)
        future = Future(works, fn)
        works.submit(future, fn, args, kwargs)
        return future

    def _submit_watched(self, watch, on_done, fn, *args):
        """Submit fn(*args); return its future. watch: called with the future before it is submitted.

        on_done: called with the future when it is done or cancelled.
        """
        works = self._works
        if works is None or works.refusing:
            works = self._ready()
            if works is None:
                future = super().submit(fn, *args)
                watch(future)
                future.add_done_callback(on_done)
                return future
        future = WatchedFuture(works, fn, on_done)
        watch(future)
        works.submit(future, fn, args, {})
        return future

    def map(self, fn, *iterables, timeout=None, chunksize=1, buffersize=None, progress=None):
        """Return an iterator over fn(*items), for each tuple of items that the iterables have in parallel, in order.

        timeout: after that many seconds, counted from this call, the iterator raises TimeoutError; None for never.
        chunksize: the number of calls in one task. buffersize: how many tasks are submitted ahead of the results that
        were taken; None to submit all of them at once. progress: how to show how many results were taken; see
        goproc.pool.Pool.map. When the iterator is closed, or raises an exception, the tasks that have not begun are
        withdrawn.

        Raises ValueError when chunksize or buffersize is below 1, TypeError when buffersize is not an int, and what
        submit() raises. Source: concurrent.futures.Executor.map of Python 3.15.
        """
        return self._map(fn, iterables, timeout, chunksize, buffersize, None, progress)

    def _map(self, fn, iterables, timeout, chunksize, buffersize, limits, progress=None):
        mapping.checked(chunksize, buffersize)
        report = None if progress is None else mapping.report(progress, iterables)
        submit = self.submit if limits is None else limits.submit
        own = getattr(submit, "__func__", None) in _SUBMITS
        if not own or buffersize is not None or (works := self._ready()) is None:
            owner = self if limits is None else limits
            results = mapping.by_submit(owner, submit, fn, iterables, timeout, chunksize, buffersize)
            return results if report is None else mapping.counted(results, report)
        limit, retries, policy = (None, 0, None) if limits is None else limits._of_a_task()
        return mapping.start(works, fn, iterables, timeout, chunksize, limit, retries, policy, report)

    def with_options(self, *, timeout=None, retries=0, retry_on=None, retry_delay=None):
        """Return an executor that gives its calls to this one, with limits.

        timeout: how long each call may run, in seconds; None for no limit. After that its worker is ended, and the
        future raises TaskTimeoutError. retries: how often a call is run again if its worker is lost. retry_on: the type
        of an exception, or a tuple of types; a call that raises one is run again, too. retry_delay: how many seconds to
        wait before the second attempt, and twice as long before each further one; or a function that returns the
        seconds, given the number of attempts so far.

        The result has submit() and map(), and can be used as an executor. All arguments of its submit() belong to the
        function, so these names cannot clash with the function's own.

        Raises ValueError when timeout is not above 0, retries is not an int of at least 0, or it is 0 though retry_on
        or retry_delay is given; TypeError when timeout is not a number, or retry_on or retry_delay has a wrong type.
        """
        return LimitedExecutor(self, timeout, retries, retry_on, retry_delay)

    def _submit_limited(self, fn, args, kwargs, limits):
        works = self._ready()
        if works is None:
            raise NotImplementedError(
                "timeout and retries are not for an executor that is concurrent.futures' own; the log says why it is"
            )
        future = Future(works, fn)
        works.submit(future, fn, args, kwargs, *limits._of_a_task())
        return future

    def _ready(self):
        """Return the Works, which the first call makes; None if this is concurrent.futures' own executor.

        Raises the exception for which no call can be submitted.
        """
        if self._is_standard:
            return None
        if os.getpid() != self._owner:  # a worker that the first call forks inherits the lock as taken
            raise RuntimeError("this executor belongs to the parent process: a forked child must make its own")
        with self._shutdown_lock:
            if self._broken:
                raise BrokenProcessPool(self._broken)
            if self._shutdown_thread:
                raise RuntimeError(AFTER_SHUTDOWN)
            if stdlib.is_after_exit():
                raise RuntimeError(AFTER_EXIT)
            if self._works is None:
                self._start()
            return self._works

    def _start(self):
        try:
            with _native.held_signals:  # a signal handler must not raise before self owns the workers
                self._works = works = Works(
                    self._mp_context,
                    self._max_workers,
                    self._initializer,
                    self._initargs,
                    self._max_tasks_per_child,
                    threads=self._threads,
                    nested=self._nested,
                    pickler=self._pickler,
                    task_memory=self._task_memory,
                )
                works.watch_owner(self)
                self._processes, self._executor_manager_thread = works.crew.processes, works.thread
        except NoEngine as refusal:
            if self._pickler == "cloudpickle":
                raise refusal.reason from None  # concurrent.futures' executor does not have this argument
            self._become_standard()

    def _become_standard(self):
        """Be concurrent.futures' own executor from now on, before any call was submitted."""
        own = {"threads": type(self._threads) is int, "nested": self._nested, "max_memory_per_task": self._task_memory}
        if given := [name for name, value in own.items() if value]:
            names = ", ".join(given)
            raise NotImplementedError(f"{names}: not for an executor that is concurrent.futures' own; the log says why")
        options = {}
        if self._max_tasks_per_child is not None:
            options["max_tasks_per_child"] = self._max_tasks_per_child
        self._is_standard = True
        super().__init__(self._max_workers, self._mp_context, self._initializer, self._initargs, **options)

    # ---- the end

    def shutdown(self, wait=True, *, cancel_futures=False):
        """Refuse further calls, and end the workers when all calls are done.

        wait: whether to wait until then. cancel_futures: whether to withdraw the calls that have not begun.
        Source: concurrent.futures.Executor.shutdown.
        """
        if self._is_standard:
            return super().shutdown(wait, cancel_futures=cancel_futures)
        if os.getpid() != self._owner:
            return  # a forked child: the workers are its parent's
        with self._shutdown_lock:
            self._shutdown_thread = True
            thread = self._executor_manager_thread
        if self._works is not None:
            self._works.close(cancel_futures)
        if wait and thread is not None:
            thread.join()
        self._executor_manager_thread = self._processes = self._call_queue = None

    def terminate_workers(self):
        """End the executor at once: withdraw the calls that have not begun, and send SIGTERM to the workers.

        Source: concurrent.futures.ProcessPoolExecutor.terminate_workers of Python 3.14.
        """
        return self._force_shutdown(operation="terminate")

    def kill_workers(self):
        """End the executor at once: withdraw the calls that have not begun, and send SIGKILL to the workers.

        Source: concurrent.futures.ProcessPoolExecutor.kill_workers of Python 3.14.
        """
        return self._force_shutdown(operation="kill")

    def _force_shutdown(self, operation):
        if operation not in ("terminate", "kill"):
            raise ValueError(f"Unsupported operation: {operation!r}")
        with self._shutdown_lock:
            self._force_shutting_down = True
        processes = list((self._processes or {}).values())
        if self._works is not None:
            self._works.stop_replacing()
        self.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            try:
                if process.is_alive():
                    process.terminate() if operation == "terminate" else process.kill()
            except (ValueError, ProcessLookupError):
                pass  # it has been closed, or has just ended

    # ---- names of concurrent.futures that programs use

    @property
    def _broken(self):
        """Why the executor cannot be used any more; False while it can."""
        own = self.__dict__.get("_said_broken", False)
        return own or (False if self._works is None else self._works.broken)

    @_broken.setter
    def _broken(self, text):
        self.__dict__["_said_broken"] = text
        if self._works is not None:
            self._works.refusing = True

    @property
    def _pending_work_items(self):
        """A new dict of the work items of the calls that are not done. Programs read its length, and cancel futures."""
        own = self.__dict__.get("_said_pending")
        if own is not None:
            return own
        return {} if self._works is None else pending_items(self._works)

    @_pending_work_items.setter
    def _pending_work_items(self, items):
        self.__dict__["_said_pending"] = items

    @property
    def _queue_count(self):
        """How many calls have been submitted."""
        own = self.__dict__.get("_said_count")
        if own is not None:
            return own
        return 0 if self._works is None else self._works.submitted.value()

    @_queue_count.setter
    def _queue_count(self, count):
        self.__dict__["_said_count"] = count

    def _start_executor_manager_thread(self):
        if self._is_standard:
            return super()._start_executor_manager_thread()
        self._ready()

    def _adjust_process_count(self):
        if self._is_standard:
            return super()._adjust_process_count()
        self._spawn_process()

    def _launch_processes(self):
        if self._is_standard:
            return super()._launch_processes()  # type: ignore[misc]
        self._add_workers(self._max_workers)

    def _spawn_process(self):
        if self._is_standard:
            return super()._spawn_process()  # type: ignore[misc]
        self._add_workers(0 if self._works is None else len(self._processes) + 1)

    def _add_workers(self, least):
        works = self._ready()
        if works is not None:
            works.grow(least)


class LimitedExecutor(Executor):
    """An executor that gives its calls to another one, with limits. Made by ProcessPoolExecutor.with_options.

    timeout, retries, retry_on, retry_delay: see there.
    """

    def __init__(self, executor, timeout, retries, retry_on=None, retry_delay=None):
        self.timeout = checked_limit("timeout", timeout)
        self.retries = checked_retries(retries)
        self._policy = retry_policy(self.retries, retry_on, retry_delay)
        self._executor = executor

    def _of_a_task(self):
        """Return the last arguments of Works.submit: a time limit, the engine's retries, and a RetryPolicy or None."""
        return self.timeout, 0 if self._policy is not None else self.retries, self._policy

    def submit(self, fn, /, *args, **kwargs):
        """Submit fn(*args, **kwargs) with the limits; return a Future. See ProcessPoolExecutor.submit."""
        return self._executor._submit_limited(fn, args, kwargs, self)

    def map(self, fn, *iterables, timeout=None, chunksize=1, buffersize=None, progress=None):
        """Like ProcessPoolExecutor.map, with the limits for each task. timeout: for the iterator as a whole."""
        return self._executor._map(fn, iterables, timeout, chunksize, buffersize, self, progress)

    def shutdown(self, wait=True, *, cancel_futures=False):
        """Shut the other executor down, too."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)


def _overridden(cls):
    """Return which methods of a class derived from the executor need concurrent.futures' own executor.

    Also the workers' function, if the program has replaced it.
    """
    derived = itertools.takewhile(lambda base: base is not ProcessPoolExecutor, cls.__mro__)
    names = sorted({name for base in derived for name in METHODS if name in vars(base)})
    for name in ("submit", "shutdown"):
        code = getattr(getattr(cls, name), "__code__", None)
        if code is not None and not _INNER_PARTS.isdisjoint(code.co_names):
            names.append(name)
    if is_replaced(_futures_process, stdlib.WORKER_OF_FUTURES):
        names.append(stdlib.WORKER_OF_FUTURES)
    return names


for _class in ProcessPoolExecutor, LimitedExecutor:
    _class.__module__ = "goproc.futures"  # their public module

#: The classes' own submit(). A subclass may override it, and a program may replace it in one of the classes.
_SUBMITS = ProcessPoolExecutor.submit, LimitedExecutor.submit
