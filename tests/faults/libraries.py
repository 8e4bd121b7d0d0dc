"""The libraries that are compared, each as a class with the same operations: a pool of two workers, and its tasks."""

import importlib
from concurrent.futures import ThreadPoolExecutor

#: As they are named in the table, and the modules that they are imported as.
MODULES = {
    "goproc": "goproc",
    "goproc.futures": "goproc.futures",
    "goproc.joblib": "goproc.joblib",
    "multiprocessing": "multiprocessing",
    "concurrent.futures": "concurrent.futures",
    "loky": "joblib.externals.loky",
    "billiard": "billiard",
    "mpire": "mpire",
}

#: Those with locks and queues of their own.
SHARING = ("goproc", "multiprocessing", "billiard")

WORKERS = 2


def open_pool(name, initializer=None):
    """Return a pool of the library of that name, started by fork where it can be chosen."""
    module = importlib.import_module(MODULES[name])
    if name in ("goproc", "multiprocessing", "billiard"):
        return _Pool(module.get_context("fork").Pool(WORKERS, initializer))
    if name == "goproc.futures":
        context = importlib.import_module("goproc").get_context("fork")
        return _Executor(module.ProcessPoolExecutor(WORKERS, context, initializer))
    if name == "concurrent.futures":
        context = importlib.import_module("multiprocessing").get_context("fork")
        return _Executor(module.ProcessPoolExecutor(WORKERS, mp_context=context, initializer=initializer))
    if name == "goproc.joblib":
        return _Parallel(module, initializer)
    if name == "loky":
        return _Executor(module.ProcessPoolExecutor(WORKERS, initializer=initializer))
    return _Mpire(module.WorkerPool(WORKERS, start_method="fork"), initializer)


class _Pool:
    """multiprocessing's API."""

    def __init__(self, pool):
        self._pool = pool

    def submit(self, function, *args):
        """Return a function that waits for the result."""
        return self._pool.apply_async(function, args).get


class _Mpire(_Pool):
    def __init__(self, pool, initializer):
        super().__init__(pool)
        self._options = {"worker_init": initializer} if initializer else {}

    def submit(self, function, *args):
        return self._pool.apply_async(function, args, **self._options).get


class _Parallel:
    """joblib's Parallel on goproc's backend: each task is a call of Parallel, in a thread of its own."""

    def __init__(self, module, initializer):
        module.register()
        self._options = {"initializer": initializer} if initializer else {}
        self._threads = ThreadPoolExecutor(8)

    def submit(self, function, *args):
        return self._threads.submit(self._run, function, args).result

    def _run(self, function, args):
        from joblib import Parallel, delayed, parallel_config

        with parallel_config(backend="goproc", n_jobs=WORKERS, **self._options):
            return Parallel()([delayed(function)(*args)])[0]


class _Executor:
    """concurrent.futures' API."""

    def __init__(self, executor):
        self._executor = executor

    def submit(self, function, *args):
        return self._executor.submit(function, *args).result
