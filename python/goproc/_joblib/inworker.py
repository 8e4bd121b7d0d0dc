"""What runs in a worker of the backend: the initializer of the process, and the function that runs a batch."""

import functools
import os
import pickle
import signal
import sys
import threading
from multiprocessing import util

from . import payload

__all__ = ["begin", "run", "run_calls"]


def begin(register, names, variables, stream):
    """Prepare a worker. register: backend.py's, to be called for each of the names.

    variables: limits of threads, for the environment. stream: the pickled initializer of the program with its
    arguments; None if there is none.
    """
    os.environ.update(variables)  # for libraries that are loaded from now on
    if "numpy" in sys.modules:  # the process is a fork of one that has loaded it
        _limit_loaded(variables)
    util.Finalize(None, _end_loky, exitpriority=100)
    for name, context in names:
        register(name, context=context)  # for calls of Parallel inside a call
    if stream is not None:
        content, buffers = pickle.loads(stream)
        initializer, initargs = payload.loaded(content, *buffers)
        initializer(*initargs)


def _lokys_executor():
    return getattr(sys.modules.get("joblib.externals.loky.reusable_executor"), "_executor", None)


def _end_loky():
    """End the workers of loky that a call has started: multiprocessing would wait until they were idle for long."""
    executor = _lokys_executor()
    if executor is not None:
        executor.shutdown(wait=True, kill_workers=True)


def _end_loky_first(signum, frame):
    """Handle SIGTERM, by which the pool ends a worker, in a process that has workers of loky."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_loky_and_this, daemon=True).start()  # this thread may hold a lock of loky's


def _end_loky_and_this():
    try:
        _end_loky()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def _limit_loaded(variables):
    """Limit the threads of libraries that are loaded already: these have read their variables."""
    try:
        import threadpoolctl
    except ImportError:
        return  # backend.py has refused a limit that the program asks for
    limits = {}
    for interface, variable in (("blas", "OPENBLAS_NUM_THREADS"), ("openmp", "OMP_NUM_THREADS")):
        if variables.get(variable, "").isdecimal():
            limits[interface] = int(variables[variable])
    threadpoolctl.threadpool_limits(limits)


def run(stream, *buffers):
    """Run a batch; return a Sent, with its results or with the Raised of its exception."""
    try:
        batch = payload.loaded(stream, *buffers)
        if type(batch) is not tuple:
            return _sent(batch())
        items, nested = batch
    except Exception as error:
        return _sent(_raised(error))
    return run_calls(items, nested)


def _watch_loky():
    """Have SIGTERM handled from the moment when a call begins to use loky. Not before, because a call that computes in
    C would delay the handler."""
    module = sys.modules.get("joblib.externals.loky.reusable_executor")
    made = getattr(module, "_ReusablePoolExecutor", None)
    if made is None or hasattr(made, "_goproc_init"):
        return
    made._goproc_init = made.__init__

    @functools.wraps(made._goproc_init)
    def init(self, *args, **kwds):
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _end_loky_first)
        self._goproc_init(*args, **kwds)

    made.__init__ = init


def run_calls(items, nested):
    """Run the calls (func, args, kwargs) of a batch. nested: the pickled backend and n_jobs for Parallel in them."""
    try:
        with _config(nested):
            _watch_loky()
            results = [func(*args, **kwargs) for func, args, kwargs in items]
    except Exception as error:
        return _sent(_raised(error))
    return results if payload.are_plain(results) else _sent(results)


@functools.lru_cache(8)
def _nested(stream):
    return pickle.loads(stream)


def _config(stream):
    from joblib import parallel_config

    backend, n_jobs = _nested(stream)
    return parallel_config(backend=backend, n_jobs=n_jobs)


def _sent(results):
    numpy = sys.modules.get("numpy")
    try:
        return payload.Sent(*payload.dumped(results, _table(numpy)))
    except Exception as error:
        if type(results) is payload.Raised:
            raise results.error from None  # the pool describes it
        raise pickle.PicklingError(f"the result of a call could not be pickled: {error}") from error


def _table(numpy):
    return payload.table({} if numpy is None else payload.reducers_of_result(numpy))


def _raised(error):
    from multiprocessing.pool import ExceptionWithTraceback

    text = ExceptionWithTraceback(error, error.__traceback__).tb
    error.__traceback__ = None
    return payload.Raised(error, text)
