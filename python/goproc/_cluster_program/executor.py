"""ProcessPoolExecutor of a program whose pools are on a cluster: each call is an apply_async() of a Pool there.

_common/clusters.py asks for its class when an executor is made. Its futures are done by the pool's callbacks.
"""

import os
import weakref
from concurrent.futures import CancelledError
from concurrent.futures import Future as _Future

from .._common import stdlib
from .._futures.executor import METHODS, ProcessPoolExecutor
from .._futures.faults import BrokenProcessPool, of_executor
from .._futures.inside import Count, WorkItem
from . import connection
from .deriving import on_cluster
from .pool import ProgramPool

__all__ = ["ProgramExecutor", "class_for"]

_AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"
_AFTER_EXIT = "cannot schedule new futures after interpreter shutdown"
_InvalidState = stdlib.futures_base().InvalidStateError


class _ClusterFuture(_Future):
    """A future of a call on the cluster. Its task can be cancelled also while it runs."""

    _call = None  # the pool's AsyncResult
    _func = None  # the function that is called; None when the call is done
    _pool = None  # held, so that the calls of an executor that nobody holds still run

    def cancel(self):
        """Withdraw the call, and end it if it runs; return whether it had not been done."""
        call = self._call
        if not self.done() and call is not None:
            call.cancel()
        if super().cancel():
            self._notify()
            return True
        return self.cancelled()

    def _notify(self):
        self._func = None
        with self._condition:
            waits = self._state == "CANCELLED"
        if waits:
            self.set_running_or_notify_cancel()

    def _done(self, value):
        self._func = None
        try:
            self.set_result(value)
        except _InvalidState:
            pass  # it was cancelled meanwhile

    def _failed(self, error):
        self._func = None
        error = of_executor(error)
        if isinstance(error, CancelledError):
            if super().cancel():
                self._notify()
            return
        try:
            self.set_exception(error)
        except _InvalidState:
            pass


class _End:
    """Ends an executor's pool, at the program's end at the latest: concurrent.futures calls wakeup() and join()."""

    def __init__(self, pool):
        self.pool = pool
        self.futures: weakref.WeakSet[_ClusterFuture] = weakref.WeakSet()
        self.is_over = False

    def wakeup(self):
        self.pool.close()

    def join(self):
        if not self.is_over:
            self.pool.join()
            self.is_over = True

    def end(self):
        """End the pool now, with all that runs."""
        if not self.is_over:
            self.pool.terminate()
            self.join()


class ProgramExecutor(ProcessPoolExecutor):
    """goproc.futures.ProcessPoolExecutor on the program's cluster.

    max_workers: the most workers on all machines together; None for one for each core. mp_context is not used: the
    machines start the workers.
    """

    _end: "_End | None" = None

    def __init__(self, max_workers=None, mp_context=None, initializer=None, initargs=(), **options):
        max_workers = connection.cores() if max_workers is None else max_workers
        self._count = Count()
        super().__init__(max_workers, mp_context, initializer, initargs, **options)

    def submit(self, fn, /, *args, **kwargs):
        """Submit fn(*args, **kwargs) to the cluster; return a Future at once. See the base class."""
        return self._submitted(fn, args, kwargs, {})

    def _submit_watched(self, watch, on_done, fn, *args):
        future = self._submitted(fn, args, {}, {})
        watch(future)
        future.add_done_callback(on_done)
        return future

    def _submit_limited(self, fn, args, kwargs, limits):
        retries = {"retries": limits.retries} if limits.retries else {}
        if limits._policy is not None:
            retries.update(retry_on=limits._policy.retry_on, retry_delay=limits._policy.retry_delay)
        return self._submitted(fn, args, kwargs, {"timeout": limits.timeout, **retries})

    def _submitted(self, fn, args, kwargs, limits):
        end = self._running()
        future = _ClusterFuture()
        future._pool = end.pool
        future._func = fn
        try:
            future._call = end.pool.apply_async(fn, args, kwargs, future._done, future._failed, **limits)
        except ValueError:
            if self._shutdown_thread:
                raise RuntimeError(_AFTER_SHUTDOWN) from None
            raise
        end.futures.add(future)
        self._count.add()
        return future

    def _running(self):
        """Return the _End, with the pool that the first call makes."""
        if os.getpid() != self._owner:
            raise RuntimeError("this executor belongs to the parent process: a forked child must make its own")
        with self._shutdown_lock:
            if self._broken:
                raise BrokenProcessPool(self._broken)
            if self._shutdown_thread:
                raise RuntimeError(_AFTER_SHUTDOWN)
            if stdlib.is_after_exit():
                raise RuntimeError(_AFTER_EXIT)
            if self._end is None:
                pool = ProgramPool(
                    self._max_workers,
                    self._initializer,
                    self._initargs,
                    self._max_tasks_per_child,
                    threads=self._threads,
                    nested=True,
                    pickler=self._pickler,
                    max_memory_per_task=self._task_memory,
                )
                self._end = _End(pool)
                connection.end_first(self._end)
                stdlib.wait_at_exit(self._end, self._end)
                self._closing = weakref.finalize(self, pool.close)
                self._closing.atexit = False
            return self._end

    def _ready(self):
        """Return None: there is no Works. Raises the exception for which no call can be submitted."""
        self._running()
        return None

    def shutdown(self, wait=True, *, cancel_futures=False):
        """Refuse further calls, and end the workers when all calls are done. See concurrent.futures.Executor."""
        if os.getpid() != self._owner:
            return
        with self._shutdown_lock:
            self._shutdown_thread = True
            end = self._end
        if end is None:
            return
        end.pool.close()
        if cancel_futures:
            for future in list(end.futures):
                future.cancel()
        if wait:
            end.join()
            stdlib.forget_at_exit(end)

    def _force_shutdown(self, operation):
        if operation not in ("terminate", "kill"):
            raise ValueError(f"Unsupported operation: {operation!r}")
        self.shutdown(wait=False)
        if self._end is not None:
            self._end.end()
            for future in list(self._end.futures):
                future._failed(BrokenProcessPool("the executor was terminated while the future was running or pending"))

    @property
    def _pending_work_items(self):
        futures = [] if self._end is None else self._end.futures
        return dict(enumerate(WorkItem(future, future._func) for future in list(futures) if not future.done()))

    @_pending_work_items.setter
    def _pending_work_items(self, items):
        pass

    @property
    def _queue_count(self):
        return self._count.value()

    @_queue_count.setter
    def _queue_count(self, count):
        pass


def class_for(cls):
    """Return the class on the cluster for a class of executors. Raises TypeError for one with parts of its own."""
    if issubclass(cls, ProgramExecutor):
        return cls
    derived = cls.__mro__[: cls.__mro__.index(ProcessPoolExecutor)]
    if names := sorted({name for base in derived for name in METHODS if name in vars(base)}):
        raise TypeError(
            f"{cls.__qualname__} cannot be on a cluster, because it overrides {', '.join(names)}. Run this program "
            "without --cluster and GOPROC_CLUSTER, or take goproc.futures.ProcessPoolExecutor itself in this place"
        )
    if cls is ProcessPoolExecutor:
        return ProgramExecutor
    return on_cluster(cls, ProgramExecutor)


ProgramExecutor.__name__ = ProgramExecutor.__qualname__ = "ProcessPoolExecutor"
ProgramExecutor.__module__ = "goproc.futures"
