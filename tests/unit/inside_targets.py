"""Classes derived from Pool that override private parts, as programs do with multiprocessing's Pool."""

import functools
import os
import threading

import goproc.pool
from goproc.pool import IMapIterator, Pool, util


def raise_it(error):
    raise error


def make_file(folder, number):
    open(os.path.join(folder, str(number)), "w").close()
    return number


def add(a, b):
    return a + b


def sum_of_all(call):
    """A mapper: called with (func, items)."""
    func, items = call
    return [sum(map(func, items))] * len(items)


class Counting(Pool):
    """Overrides the methods that all calls go through, with multiprocessing's arguments."""

    def __init__(self, *args):
        self.calls = []
        super().__init__(*args)

    def apply_async(self, func, args=(), kwds={}, callback=None, error_callback=None):  # noqa: B006
        self.calls.append("apply_async")
        return super().apply_async(func, args, kwds, callback, error_callback)

    def _map_async(self, func, iterable, mapper, chunksize=None, callback=None, error_callback=None):
        self.calls.append("_map_async")
        return super()._map_async(func, iterable, mapper, chunksize, callback, error_callback)


class Forwarding(Pool):
    """Overrides _map_async, and passes on all arguments."""

    def _map_async(self, *args, **kwds):
        return super()._map_async(*args, **kwds)


def finalize(file):
    util.Finalize(None, write_to, (file, "end"), exitpriority=5)


def write_to(file, text):
    with open(file, "a") as out:
        print(text, file=out)


def imap_for_starmap(self, func, items, chunksize=1, kind=IMapIterator):
    """What many programs add to Pool, to show the progress of starmap."""
    self._check_running()
    batches = Pool._get_tasks(func, items, chunksize)
    result = kind(self)
    tasks = self._guarded_task_generation(result._job, goproc.pool.starmapstar, batches)
    self._taskqueue.put((tasks, result._set_length))
    return (item for batch in result for item in batch)


def finalizing_worker(folder, inqueue, outqueue, *others):
    """A worker that does something at its end, and is none of the engine's."""
    goproc.pool.worker(inqueue, outqueue, *others)
    make_file(folder, os.getpid())


class Workers:
    """A base class that starts workers of its own."""

    def _repopulate_pool(self):
        for _ in range(self._processes - len(self._pool)):
            arguments = self._inqueue, self._outqueue, self._initializer, self._initargs, self._maxtasksperchild
            worker = self.Process(
                self._ctx, target=finalizing_worker, args=(self.folder, *arguments, self._wrap_exception)
            )
            worker.daemon = True
            worker.start()
            self._pool.append(worker)


class WithWorkers(Pool):
    folder = None
    _repopulate_pool = Workers._repopulate_pool


class WithWorkersOfABase(Workers, Pool):
    folder = None


class DerivedOnce(Pool):
    folder = None


class DerivedTwice(Workers, DerivedOnce):
    pass


class StaticWorkers(Pool):
    folder = None

    def __init__(self, *arguments, **options):
        self._wrap_exception = self.folder  # it is passed to the method that makes workers
        super().__init__(*arguments, **options)

    @staticmethod
    def _repopulate_pool_static(
        ctx, Process, processes, pool, inqueue, outqueue, initializer, initargs, maxtasksperchild, folder
    ):
        for _ in range(processes - len(pool)):
            target = functools.partial(finalizing_worker, folder)
            worker = Process(ctx, target=target, args=(inqueue, outqueue, initializer, initargs, maxtasksperchild))
            worker.daemon = True
            worker.start()
            pool.append(worker)


class MadeByHand(Pool):
    """Does all that multiprocessing's Pool does when it is made, by itself."""

    def __init__(self, processes):
        self._ctx = goproc.get_context()
        self._setup_queues()
        self._taskqueue = goproc.pool.queue.SimpleQueue()
        self._change_notifier = self._ctx.SimpleQueue()
        self._cache = goproc.pool._PoolCache(notifier=self._change_notifier)
        self._maxtasksperchild, self._initializer, self._initargs = None, None, ()
        self._processes = processes
        self._pool = []
        self._repopulate_pool()
        own = self._ctx, self.Process, self._processes, self._pool, self._inqueue, self._outqueue
        rest = self._initializer, self._initargs, self._maxtasksperchild, self._wrap_exception
        self._worker_handler = self._thread(
            Pool._handle_workers,
            self._cache,
            self._taskqueue,
            *own,
            *rest,
            self._get_sentinels(),
            self._change_notifier,
        )
        self._task_handler = self._thread(
            Pool._handle_tasks, self._taskqueue, self._quick_put, self._outqueue, self._pool, self._cache
        )
        self._result_handler = self._thread(Pool._handle_results, self._outqueue, self._quick_get, self._cache)
        parts = self._taskqueue, self._inqueue, self._outqueue, self._pool, self._change_notifier
        threads = self._worker_handler, self._task_handler, self._result_handler
        self._terminate = util.Finalize(
            self, self._terminate_pool, args=(*parts, *threads, self._cache), exitpriority=15
        )
        self._state = goproc.pool.RUN

    @staticmethod
    def _thread(target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread._state = goproc.pool.RUN
        thread.start()
        return thread


class CountingIterator(IMapIterator):
    """A result of a class of its own."""

    seen = 0

    def _set(self, i, obj):
        self.seen += 1
        super()._set(i, obj)
