"""GoprocBackend: what joblib's Parallel calls to run its batches on the engine's executor.

    Parallel(...)(tasks)
      configure() ─▶ kept.take()            the executor
      submit(batch) ─▶ payload.dumped() ─▶ executor.submit(inworker.run, ...)
                       the executor's thread ─▶ joblib's callback ─▶ retrieve_result_callback(), submit(next batch)
      retrieval_context()                   waits for the last batch
      terminate() ─▶ kept.give_back()

docs/design/joblib.md says why.
"""

import functools
import pickle
import sys
import threading
import warnings
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from multiprocessing import process
from multiprocessing.context import BaseContext

import joblib
from joblib.parallel import (
    AutoBatchingMixin,
    BatchedCalls,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from .._common import clusters, start_methods, stdlib
from . import arrays, inworker, kept, payload
from .processes import WITHOUT_MAIN

__all__ = ["IDLE_TIME", "GoprocBackend", "register"]

#: After how many seconds idle workers are ended, unless the program gives another time. It is loky's.
IDLE_TIME = 300

#: By name in joblib: the context that register() was given, if it was a name. Workers register the same.
registered: "dict[str, str | None]" = {}


def context_of(context):
    """Return the context that starts workers, for the argument context of register() and parallel_config()."""
    if context is None or context == "spawn":
        return WITHOUT_MAIN
    if isinstance(context, str):
        return start_methods.default.get_context(context)
    if isinstance(context, BaseContext):
        return start_methods.engines_context(context)
    raise TypeError(f"context must be a start method or a context, not {context!r}")


class Call:
    """The state of one Parallel object, from configure() to terminate().

    executor: the Kept. shares: the files of large arrays. pending: by future of a batch, the shares that it has.
    """

    def __init__(self, parallel, executor, shares):
        self.parallel, self.executor, self.shares = parallel, executor, shares
        self.pending: dict = {}
        self.changed = threading.Condition()  # notified when nothing is pending, or the call is aborted
        self._nested: dict = {}  # by class, nesting level and n_jobs: the pickled backend for calls inside a batch
        self._table: dict | None = None  # the reducers, once numpy is loaded

    def submitted(self, batch, used, on_done):
        """Submit a batch to the executor; return its Future. used: a list to which the batch's shares are added.

        on_done: called with the future when it is done or cancelled. Until then it is in `pending`.
        """

        def watch(future):
            self.pending[future] = used

        submit = functools.partial(self.executor.executor._submit_watched, watch, on_done)
        if type(batch) is BatchedCalls:
            nested = self._pickled_backend(batch._backend, batch._n_jobs)
            if payload.are_plain_calls(batch.items):
                return submit(inworker.run_calls, batch.items, nested)
            batch = batch.items, nested
        with self.shares.pickling:  # another thread may submit at the same time
            self.shares.used = used
            stream, buffers = payload.dumped(batch, self._reducers())
        return submit(inworker.run, stream, *map(pickle.PickleBuffer, buffers))

    def _pickled_backend(self, backend, n_jobs):
        key = type(backend), backend.nesting_level, n_jobs
        if key not in self._nested:
            self._nested[key] = pickle.dumps((backend, n_jobs))
        return self._nested[key]

    def _reducers(self):
        if self._table is None:
            numpy = sys.modules.get("numpy")
            if numpy is None:
                return payload.table({})
            self._table = payload.table(payload.reducers_of_call(numpy, self.shares))
        return self._table

    @property
    def is_aborting(self):
        return getattr(self.parallel, "_aborting", False)

    @property
    def is_over(self):
        """Whether joblib has ended the call, as far as its Parallel object tells."""
        return not (getattr(self.parallel, "_running", False) or getattr(self.parallel, "_managed_backend", False))


class GoprocBackend(AutoBatchingMixin, ParallelBackendBase):
    """A backend of joblib on goproc's executor.

    nesting_level, inner_max_num_threads: as of joblib's backends. context: a start method or a context, which starts
    the workers; None for spawn without the main module. idle_worker_timeout: after how many seconds idle workers are
    ended; None for 300. initializer, initargs: each worker calls initializer(*initargs) when it starts.

    Raises ValueError for an unknown start method, TypeError for another context or option.
    Source: joblib.parallel.ParallelBackendBase.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self,
        nesting_level=None,
        inner_max_num_threads=None,
        *,
        context=None,
        idle_worker_timeout=None,
        initializer=None,
        initargs=(),
    ):
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._context = context_of(context)
        self._options = {"idle_worker_timeout": idle_worker_timeout, "initializer": initializer, "initargs": initargs}
        self._calls: list[Call] = []
        self._lock = threading.Lock()
        self._of_thread = threading.local()  # call: the Call that this thread has configured last
        self.parallel = None

    # ---- before and after the calls

    def effective_n_jobs(self, n_jobs):
        """Return the number of workers for n_jobs: for -1, all usable CPUs or cores; for -2, all but one; and so on.

        It is 1 in a daemonic process, which may have no children, and for None. Raises ValueError for 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or n_jobs == 1:
            return 1
        if process.current_process().daemon:
            warnings.warn(
                "goproc-backed parallel loops cannot be called in a daemonic process, such as a pool's worker, "
                "setting n_jobs=1",
                stacklevel=3,
            )
            return 1
        if not (self.in_main_thread() or self.nesting_level == 0):
            warnings.warn("goproc-backed parallel loops cannot be nested below threads, setting n_jobs=1", stacklevel=3)
            return 1
        if n_jobs > 0:
            return n_jobs
        cpus = joblib.cpu_count() if clusters.address() is None else clusters.cores()
        return max(cpus + 1 + n_jobs, 1)

    def configure(self, n_jobs=1, parallel=None, prefer=None, require=None, **options):
        """Have an executor ready for a Parallel object; return the number of its workers.

        Raises joblib's FallbackToBackend for one worker, TypeError for an unknown option, and ImportError if a limit of
        threads needs threadpoolctl, which is not installed.
        """
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        max_nbytes, mode = options.pop("max_nbytes", None), options.pop("mmap_mode", "r")
        shares = arrays.Shares(max_nbytes, mode, options.pop("temp_folder", None), clusters.address() is None)
        options.pop("context", None)  # Parallel always passes multiprocessing's
        options.pop("verbose", None)  # of joblib's memory maps
        wanted = {**self._options, **options}
        call = Call(parallel, self._executor(n_jobs, **wanted), shares)
        with self._lock:
            self._calls.append(call)
        self._of_thread.call = call
        self.parallel = parallel
        return n_jobs

    def _executor(self, n_jobs, *, idle_worker_timeout=None, initializer=None, initargs=()):
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        idle_time = IDLE_TIME if idle_worker_timeout is None else idle_worker_timeout
        if self.inner_max_num_threads is not None and self._context is not WITHOUT_MAIN:
            try:
                import threadpoolctl  # noqa: F401
            except ImportError:
                raise ImportError(
                    "inner_max_num_threads with forked workers needs the package threadpoolctl, because the libraries "
                    "are loaded already: pip install 'goproc[joblib]'"
                ) from None
        variables = self._prepare_worker_env(n_jobs=n_jobs)
        stream = None if initializer is None else _pickled((initializer, initargs), "initializer")
        names = tuple(registered.items())
        key = n_jobs, self._context, tuple(variables.items()), stream, names
        return kept.take(key, idle_time, n_jobs, self._context, inworker.begin, (register, names, variables, stream))

    def stop_call(self):
        """Note that all results of a call have come. The next call of the same Parallel writes its arrays again."""
        for call in list(self._calls):
            call.shares.forget()

    def terminate(self):
        """End a call: give the executor back, which keeps its workers for the next call, and close the files."""
        with self._lock:
            ended = self._calls if len(self._calls) == 1 else [call for call in self._calls if call.is_over]
            self._calls = [call for call in self._calls if call not in ended]
        for call in ended:
            call.shares.close()
            kept.give_back(call.executor)
        self.reset_batch_stats()

    # ---- batches

    def submit(self, func, callback=None):
        """Submit a batch, whose callback is called with the Future. An error in pickling is the future's."""
        call = self._call_of(callback)
        used: list = []

        def on_done(future):
            self._done(call, future, callback)

        try:
            future = call.submitted(func, used, on_done)
        except Exception as error:
            for unsent in [future for future, shares in list(call.pending.items()) if shares is used]:
                call.pending.pop(unsent, None)
            call.shares.release(used)
            future = Future()
            future.set_exception(_unsendable(error))
            call.pending[future] = []
            future.add_done_callback(on_done)
        if call.is_aborting:  # the call has been aborted meanwhile, perhaps before this batch was pending
            future.cancel()
        return future

    apply_async = submit  # joblib before 1.5 calls it

    def _call_of(self, callback):
        parallel = getattr(callback, "parallel", None)
        for call in reversed(self._calls):
            if parallel is None or call.parallel is parallel:
                return call
        raise RuntimeError("submit() needs a call of configure() before it")

    def _done(self, call, future, callback):
        """Note that a batch is done. Called by the executor's thread, or by the thread that cancels the future."""
        try:
            if callback is not None:
                callback(future)
        finally:
            used = call.pending.pop(future, None)
            if used:
                call.shares.release(used)
            if call.is_aborting or not call.pending:
                with call.changed:
                    call.changed.notify_all()

    def retrieve_result_callback(self, out):
        """Return the results of a batch, given its Future. Raises the exception of the batch."""
        try:
            results = out.result()
        except CancelledError:
            raise RuntimeError(
                "the batch was cancelled: another call of Parallel with the same backend object was aborted, for "
                "instance because its generator was not used to its end"
            ) from None
        if type(results) is payload.Raised:
            error = results.error
            error.__cause__ = stdlib.remote_traceback(results.text)
            raise error
        return results

    @contextmanager
    def retrieval_context(self):
        """Wait for all batches of a call that returns a list. joblib would ask for them every 10 ms."""
        call = getattr(self._of_thread, "call", None)
        if call is not None and not getattr(call.parallel, "return_generator", True) and call.parallel.timeout is None:
            with call.changed:
                while call.pending and not call.is_aborting:
                    call.changed.wait()
        yield

    def abort_everything(self, ensure_ready=True):
        """Withdraw the batches of the calls that are aborted. Workers that run one are ended, and replaced."""
        with self._lock:
            calls = [call for call in self._calls if call.is_aborting] or list(self._calls)
        for call in calls:
            for future in reversed(list(call.pending)):  # those that have not begun first
                future.cancel()


def _pickled(obj, what):
    try:
        stream, buffers = payload.dumped(obj, payload.table({}))
    except Exception as error:
        raise pickle.PicklingError(f"the {what} could not be pickled: {error}") from error
    return pickle.dumps((stream, [bytes(buffer) for buffer in buffers]))


def _unsendable(error):
    """Return the exception of a batch that was not submitted: loky has a PicklingError for all errors in pickling."""
    if isinstance(error, RuntimeError) and not isinstance(error, RecursionError):
        return error  # the executor has been shut down, or is broken
    wrapped = pickle.PicklingError(f"the call could not be pickled: {error}")
    wrapped.__cause__ = error
    return wrapped


def register(name="goproc", *, context=None, make_default=False):
    """Make the backend known to joblib, under a name.

    name: the name that parallel_config() and Parallel() take as backend. context: what starts the workers: "spawn",
    "forkserver", "fork", or a context; None for spawn. make_default: whether Parallel uses this backend if the program
    names none.

    With None and "spawn", workers are new interpreters that do not import the program's main module. parallel_config()
    takes another context for its block. A name can be registered again. Raises ValueError for an unknown start method,
    TypeError for another context. Source: joblib.register_parallel_backend.
    """
    context_of(context)  # raises its error here
    registered[name] = context if isinstance(context, str) else None
    factory = GoprocBackend if context is None else functools.partial(GoprocBackend, context=context)
    joblib.register_parallel_backend(name, factory, make_default=make_default)
