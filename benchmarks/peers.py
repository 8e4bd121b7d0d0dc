"""The libraries that are compared, each as a class with the same operations.

If a library cannot do an operation, its class has no such method, and the library is left out of the rows that need it.
`open` makes a pool, `close` ends it and waits for its workers; the other operations use the pool. An operation is
written as the library's documentation recommends it: nothing is tuned, and nothing that the library needs is left out.

Imported by subject.py, and so by every spawned child; so it imports little.
"""

import importlib

EVERY_METHOD = ("fork", "spawn", "forkserver")


def load(name):
    """Import a library; return its peer object. Raises ImportError if it is not installed, KeyError if unknown."""
    return kind(name)(name)


def kind(name):
    """Return the class for a library, whether or not the library is installed."""
    return _KINDS[name]


class PoolPeer:
    """A library with multiprocessing's API: multiprocessing itself, goproc, billiard, multiprocess."""

    #: Whether map() without a chunk size makes chunks, from the length of its input or from how long tasks take.
    makes_chunks = True
    #: The start methods of the library, or those that resemble its own way most.
    start_methods = EVERY_METHOD
    #: With fewer workers the library does the work itself, without a process.
    least_workers = 1

    def __init__(self, name):
        self.name = name
        self._library = importlib.import_module(name)

    def open(self, workers, method, tasks_per_worker=None):
        """Make a pool of that many workers. tasks_per_worker: the number of tasks after which a worker is replaced."""
        self._pool = self._library.get_context(method).Pool(workers, maxtasksperchild=tasks_per_worker)

    def context(self, method):
        """Return the library's context for a start method, which makes its locks."""
        return self._library.get_context(method)

    def queue(self, context, kind):
        """Return a new queue of a class: Queue or SimpleQueue."""
        return getattr(context, kind)()

    def close(self):
        """End the pool and wait for its workers."""
        self._pool.close()
        self._pool.join()

    def start_and_join(self, function, method):
        """Start one process that calls function, and wait for its end."""
        process = self._library.get_context(method).Process(target=function)
        process.start()
        process.join()

    def apply(self, function, items):
        """Call function(item) in a worker, for one item after the other; return the list of results."""
        return [self._pool.apply(function, (item,)) for item in items]

    def apply_async(self, function, items):
        """Submit a call for each item, then get each result; return the list of results."""
        results = [self._pool.apply_async(function, (item,)) for item in items]
        return [result.get() for result in results]

    def map(self, function, items, chunksize=None):
        """Return the list of the results for a list of items."""
        return self._pool.map(function, items, chunksize)

    def imap(self, function, items):
        """Return an iterator over the results. Each item is a task."""
        return self._pool.imap(function, items)

    def imap_unordered(self, function, items):
        """Return an iterator over the results in the order in which they arrive. Each item is a task."""
        return self._pool.imap_unordered(function, items)


class ExecutorPeer:
    """The operations of a library that has concurrent.futures' executor."""

    def submit(self, function, items):
        """Submit a call for each item to the executor, then take each result; return the list of results."""
        futures = [self._executor.submit(function, item) for item in items]
        return [future.result() for future in futures]

    def executor_map(self, function, items):
        """Return the list of the results of the executor's map. Each item is a task."""
        return list(self._executor.map(function, items, chunksize=1))

    def close_executor(self):
        """End the executor and wait for its workers."""
        self._executor.shutdown()


class GoprocPeer(ExecutorPeer, PoolPeer):
    """goproc: Pool, and goproc.futures' executor."""

    def open_executor(self, workers, method):
        """Make an executor of that many workers."""
        from goproc.futures import ProcessPoolExecutor

        self._executor = ProcessPoolExecutor(workers, self._library.get_context(method))

    def open_parallel(self, workers):
        """Prepare joblib's Parallel on goproc's backend, with that many workers."""
        import goproc.joblib

        goproc.joblib.register()
        self._workers = workers

    def parallel(self, function, items):
        """Return the list of the results of joblib's Parallel. Each item is a task."""
        from joblib import Parallel, delayed

        call = delayed(function)
        return Parallel(n_jobs=self._workers, backend="goproc", batch_size=1)(call(item) for item in items)

    def share(self, array):
        """Return what is to be given to tasks that all read an array. The caller drops the array."""
        return self._library.share(array)

    def close_parallel(self):
        """End the workers of joblib's Parallel and wait for them."""
        import goproc.joblib

        goproc.joblib.shutdown()


class FuturesPeer(ExecutorPeer):
    """concurrent.futures.ProcessPoolExecutor."""

    makes_chunks = False
    start_methods = EVERY_METHOD
    least_workers = 1

    def __init__(self, name):
        import multiprocessing

        self.name = name
        self._library = importlib.import_module(name)
        self._get_context = multiprocessing.get_context

    def open(self, workers, method):
        self._pool = self._library.ProcessPoolExecutor(workers, mp_context=self._get_context(method))

    def open_executor(self, workers, method):
        self.open(workers, method)
        self._executor = self._pool

    def close(self):
        self._pool.shutdown()

    def apply(self, function, items):
        return [self._pool.submit(function, item).result() for item in items]

    def apply_async(self, function, items):
        futures = [self._pool.submit(function, item) for item in items]
        return [future.result() for future in futures]

    def map(self, function, items, chunksize=None):
        return list(self._pool.map(function, items, chunksize=chunksize or 1))

    def imap(self, function, items):
        return self._pool.map(function, items)

    def imap_unordered(self, function, items):
        futures = [self._pool.submit(function, item) for item in items]
        return (future.result() for future in self._library.as_completed(futures))


class JoblibPeer(ExecutorPeer):
    """joblib.Parallel on its process backend, loky, which starts each worker as a new interpreter, in its own way.

    joblib has no call for a single task: `apply` is a Parallel of one task. Its executor is loky's.
    """

    makes_chunks = True
    start_methods = ("spawn",)
    least_workers = 2

    def __init__(self, name):
        self.name = name
        self._library = importlib.import_module(name)

    def open(self, workers, method):
        self._workers = workers

    def open_executor(self, workers, method):
        from joblib.externals.loky import ProcessPoolExecutor

        self._executor = ProcessPoolExecutor(workers)

    def close(self):
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)

    def _parallel(self, function, items, **options):
        delayed = self._library.delayed(function)
        return self._library.Parallel(n_jobs=self._workers, backend="loky", **options)(delayed(item) for item in items)

    def open_parallel(self, workers):
        self._workers = workers

    def parallel(self, function, items):
        return self._parallel(function, items, batch_size=1)

    close_parallel = close

    def share(self, array):
        return array  # joblib maps large arrays itself

    def apply(self, function, items):
        return [self._parallel(function, [item])[0] for item in items]

    def map(self, function, items, chunksize=None):
        return self._parallel(function, items, batch_size=chunksize or "auto")

    def imap(self, function, items):
        return self._parallel(function, items, batch_size=1, return_as="generator")

    def imap_unordered(self, function, items):
        return self._parallel(function, items, batch_size=1, return_as="generator_unordered")


class FasterFifoPeer:
    """faster_fifo.Queue, with multiprocessing's processes. It cannot do what a SimpleQueue does: wait for room."""

    def __init__(self, name):
        import multiprocessing

        self.name = name
        self._library = importlib.import_module(name)
        self.context = multiprocessing.get_context

    def queue(self, context, kind):
        """Return a new queue. Its size is given, because the default is too small for the larger items."""
        return self._library.Queue(64 << 20)


def _length(items):
    return len(items) if hasattr(items, "__len__") else None


class MpirePeer:
    """mpire.WorkerPool."""

    makes_chunks = True
    start_methods = EVERY_METHOD
    least_workers = 1

    def __init__(self, name):
        self.name = name
        self._library = importlib.import_module(name)

    def open(self, workers, method, tasks_per_worker=None):
        self._pool = self._library.WorkerPool(workers, start_method=method, keep_alive=True)
        self._lifespan = tasks_per_worker

    def close(self):
        self._pool.stop_and_join()

    def apply(self, function, items):
        return [self._pool.apply(function, (item,)) for item in items]

    def apply_async(self, function, items):
        results = [self._pool.apply_async(function, (item,)) for item in items]
        return [result.get() for result in results]

    def map(self, function, items, chunksize=None):
        return self._pool.map(function, items, chunk_size=chunksize, worker_lifespan=self._lifespan)

    def imap(self, function, items):
        return self._pool.imap(function, items, iterable_len=_length(items), chunk_size=1)

    def imap_unordered(self, function, items):
        return self._pool.imap_unordered(function, items, iterable_len=_length(items), chunk_size=1)


class PebblePeer:
    """pebble.ProcessPool: schedule() in the place of submit()."""

    makes_chunks = False
    start_methods = EVERY_METHOD
    least_workers = 1

    def __init__(self, name):
        self.name = name
        self._library = importlib.import_module(name)

    def open_executor(self, workers, method):
        import multiprocessing

        self._pool = self._library.ProcessPool(workers, context=multiprocessing.get_context(method))

    def submit(self, function, items):
        futures = [self._pool.schedule(function, args=(item,)) for item in items]
        return [future.result() for future in futures]

    def executor_map(self, function, items):
        return list(self._pool.map(function, items, chunksize=1).result())

    def close_executor(self):
        self._pool.close()
        self._pool.join()


_KINDS = {
    "goproc": GoprocPeer,
    "multiprocessing": PoolPeer,
    "concurrent.futures": FuturesPeer,
    "joblib": JoblibPeer,
    "billiard": PoolPeer,
    "mpire": MpirePeer,
    "multiprocess": PoolPeer,
    "faster_fifo": FasterFifoPeer,
    "pebble": PebblePeer,
}

PEERS = tuple(_KINDS)
