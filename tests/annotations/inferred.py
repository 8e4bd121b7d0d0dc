"""A program in which each type is inferred: assert_type() says which. test_types.py checks it, and runs it."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from ctypes import c_int

from typing_extensions import assert_type

import goproc
import goproc.context
import goproc.futures
import goproc.pool
from goproc import CancelledError, EngineError, TaskTimeoutError, WorkerLostError
from goproc.connection import Connection, wait
from goproc.managers import BaseProxy, DictProxy, SharedMemoryManager, SyncManager
from goproc.pool import ApplyResult, AsyncResult, IMapIterator, MapResult, Pool, ThreadPool
from goproc.process import BaseProcess
from goproc.queues import JoinableQueue, Queue, SimpleQueue
from goproc.shared_memory import ShareableList, SharedMemory
from goproc.sharedctypes import Synchronized, SynchronizedArray
from goproc.synchronize import Barrier, Condition, Event, Lock, RLock, Semaphore


def half(number: int) -> float:
    return number / 2


def halves(number: int) -> Iterator[float]:
    yield number / 2
    yield number / 4


def repeat(word: str, count: int) -> str:
    return word * count


def prepare(level: int, name: str) -> None:
    pass


class Halving(goproc.Process):
    def __init__(self, number: int, results: "Queue[float]") -> None:
        super().__init__(name="halving", daemon=True)
        self.number = number
        self.results = results

    def run(self) -> None:
        self.results.put(half(self.number))


def processes() -> None:
    results: Queue[float] = goproc.Queue()
    process = Halving(3, results)
    process.start()
    assert_type(results.get(timeout=60), float)
    process.join(60)
    assert_type(process.exitcode, int | None)
    assert_type(process.pid, int | None)
    assert_type(process.sentinel, int)
    assert_type(process.is_alive(), bool)
    assert_type(goproc.current_process(), BaseProcess)
    assert_type(goproc.parent_process(), BaseProcess | None)
    assert_type(goproc.active_children(), list[BaseProcess])
    assert_type(goproc.cpu_count(), int)
    assert_type(goproc.usable_cpu_count(), int)
    with goproc.Pool(1) as pool:
        assert_type(pool.map(half, [1], retries=1, retry_on=ValueError, retry_delay=0.5), list[float])


def pools(pool: Pool) -> None:
    assert_type(pool.apply(half, (1,)), float)
    assert_type(pool.apply(repeat, ("a",), {"count": 2}, timeout=60), str)
    result = pool.apply_async(half, (1,), {}, print, print, timeout=0.5)
    assert_type(result, ApplyResult[float])
    assert_type(result.get(60), float)
    assert_type(result.wait(timeout=60), None)
    assert_type((result.ready(), result.successful(), result.cancel()), tuple[bool, bool, bool])

    assert_type(pool.map(half, [1, 2]), list[float])
    assert_type(pool.map(half, {1, 2}, 1, task_timeout=60, return_exceptions=False), list[float])
    assert_type(pool.map(half, range(2), return_exceptions=True), list[float | BaseException])
    assert_type(pool.map(labelled, [1, 2]), list[tuple[int, str]])
    assert_type(pool.starmap(repeat, [("a", 1)], chunksize=1, task_timeout=60), list[str])
    assert_type(pool.starmap(repeat, [("a", 1)], return_exceptions=True), list[str | BaseException])

    several = pool.map_async(half, [1, 2], callback=print, error_callback=print, task_timeout=60)
    assert_type(several, MapResult[float])
    assert_type(several.get(timeout=60), list[float])
    assert_type(several.cancel(), bool)
    mixed = pool.map_async(half, [1, 2], return_exceptions=True)
    assert_type(mixed.get(60), list[float | BaseException])
    assert_type(pool.starmap_async(repeat, [("a", 1)]).get(60), list[str])
    assert_type(pool.starmap_async(repeat, [("a", 1)], return_exceptions=True).get(60), list[str | BaseException])

    lazily = pool.imap(half, iter([1, 2]), prefetch=8, task_timeout=60)
    assert_type(lazily, "IMapIterator[float]")
    assert_type(lazily.next(timeout=60), float)
    assert_type(next(lazily), float)
    assert_type(lazily.cancel(), bool)
    assert_type(list(pool.imap(half, [1, 2], chunksize=2, buffersize=2)), list[float])
    assert_type(pool.imap_unordered(half, [1, 2], 2, prefetch=1).next(60), float)
    assert_type([value for value in pool.imap_unordered(half, [1, 2], task_timeout=60)], list[float])
    with pool.stream(halves, [1, 2], prefetch=1, task_timeout=60) as stream:
        assert_type(stream.next(60), tuple[int, float])
        assert_type([value for _, value in stream], list[float])
        assert_type(stream.cancel(), bool)
        stream.close()


def labelled(number: int) -> tuple[int, str]:
    return number, str(number)


def results_are_the_standard_librarys(result: "AsyncResult[int]", iterator: "IMapIterator[int]") -> Iterator[int]:
    yield result.get()
    yield from iterator


def all_arguments_of_pools(context: goproc.context.BaseContext) -> Callable[[], Pool]:
    def make() -> Pool:
        return Pool(
            processes=1,
            initializer=prepare,
            initargs=(1, "one"),
            maxtasksperchild=1000,
            context=context,
            retries=2,
            max_memory_per_child=1 << 40,
            threads=1,
            pickler="pickle",
            max_memory_per_task=1 << 40,
            retry_on=(ValueError, goproc.MemoryLimitError),
            retry_delay=lambda attempt: 0.1 * attempt,
            cancel_on_interrupt=True,
            log=True,
        )

    return make


def threads() -> None:
    with ThreadPool(1, prepare, (1, "one")) as pool:
        assert_type(pool, ThreadPool)
        as_pool: Pool = pool
        assert_type(as_pool.map(half, [1]), list[float])
        assert_type(pool.map(half, [1]), list[float])
        assert_type(pool.apply(repeat, ("a", 1)), str)
        result: AsyncResult[float] = pool.apply_async(half, (1,))
        assert_type(result.cancel(), bool)
        assert_type(next(pool.imap(half, [1])), float)


def contexts(method: str) -> None:
    fork, spawn, forkserver = (
        goproc.get_context("fork"),
        goproc.get_context("spawn"),
        goproc.get_context("forkserver"),
    )
    assert_type(fork, goproc.context.ForkContext)
    assert_type(spawn, goproc.context.SpawnContext)
    assert_type(forkserver, goproc.context.ForkServerContext)
    assert_type(goproc.get_context(), goproc.context.DefaultContext)
    assert_type(goproc.get_context(None).Process(target=half, args=(1,)), goproc.context.Process)
    assert_type(spawn.get_context(), goproc.context.SpawnContext)
    assert_type(spawn.get_context("fork"), goproc.context.ForkContext)
    assert_type(fork.Process(target=half, args=(1,)), goproc.context.ForkProcess)
    assert_type(spawn.Process(target=half, kwargs={"number": 1}), goproc.context.SpawnProcess)
    assert_type(forkserver.Process(name="forkserver"), goproc.context.ForkServerProcess)
    any_context = goproc.get_context(method)
    assert_type(any_context, goproc.context.BaseContext)
    assert_type(any_context.Process(target=half, args=(1,)), BaseProcess)
    with any_context.Pool(1, retries=1) as pool:
        assert_type(pool, Pool)
    all_arguments_of_pools(fork)().terminate()
    assert_type(goproc.get_start_method(), str)
    assert_type(goproc.get_start_method(allow_none=True), str | None)
    assert_type(goproc.get_all_start_methods(), list[str])
    goproc.set_forkserver_preload(["__main__"], on_error="warn")
    executor = ProcessPoolExecutor(1, mp_context=spawn)
    executor.shutdown()


def errors(error: BaseException) -> None:
    if isinstance(error, WorkerLostError):
        assert_type((error.pid, error.exitcode, error.count), tuple[int, int, int])
        assert_type((error.function, error.argument), tuple[str | None, str | None])
        assert_type(error.index, int | None)
        assert_type(error.signal, signal.Signals | int | None)
    elif isinstance(error, TaskTimeoutError):
        timeout: goproc.TimeoutError = error
        assert_type((error.pid, error.limit, error.count), tuple[int, float, int])
        assert_type((error.function, error.index, error.argument), tuple[str | None, int | None, str | None])
        print(timeout)
    elif isinstance(error, (CancelledError, EngineError)):
        general: goproc.ProcessError = error
        print(general)


def shared() -> None:
    receiver, sender = goproc.Pipe(duplex=False)
    ready: list[object] = [*wait([receiver], timeout=0)]
    connections: list[Connection] = [receiver, sender]
    print(ready, connections)
    unlimited: Queue[int] = goproc.Queue()
    joinable: JoinableQueue[int] = goproc.JoinableQueue(maxsize=2)
    simple: SimpleQueue[int] = goproc.SimpleQueue()
    unlimited.put(1)
    joinable.put(1, timeout=1)
    simple.put(1)
    assert_type((unlimited.get(), joinable.get(block=True), simple.get()), tuple[int, int, int])
    joinable.task_done()

    assert_type(goproc.Lock(), Lock)
    assert_type(goproc.RLock(), RLock)
    assert_type(goproc.Event(), Event)
    assert_type(goproc.Condition(goproc.Lock()), Condition)
    assert_type(goproc.Barrier(1, timeout=1.0), Barrier)
    semaphores: list[Semaphore] = [goproc.Semaphore(2), goproc.BoundedSemaphore(2)]
    print(semaphores)

    counter: Synchronized[int] = goproc.Value(c_int, 1)
    numbers: SynchronizedArray[int] = goproc.Array(c_int, [1, 2])
    assert_type((counter.value, numbers[0]), tuple[int, int])
    assert_type(goproc.RawValue(c_int, 1), c_int)
    with goproc.Manager() as manager:
        assert_type(manager, SyncManager)
        words: DictProxy[str, int] = manager.dict(one=1)
        proxy: BaseProxy = words
        assert_type(words["one"], int)
        print(proxy)
    with SharedMemoryManager() as memory_manager:
        assert_type(memory_manager.SharedMemory(16), SharedMemory)
        listed = memory_manager.ShareableList([1, 2])
        assert_type(listed, ShareableList[int])
    # Modules that a program has not imported.
    assert_type(goproc.heap.Arena(4096).size, int)
    assert_type(goproc.util.get_logger() is goproc.get_logger(), bool)


def futures() -> None:
    with goproc.futures.ProcessPoolExecutor(1, goproc.get_context("fork"), prepare, (1, "a")) as executor:
        assert_type(executor.submit(half, 3), goproc.futures.Future[float])
        assert_type(executor.submit(repeat, "a", count=2).result(), str)
        assert_type(executor.map(half, [1, 2], chunksize=2, buffersize=1), Iterator[float])
        limited = executor.with_options(timeout=20, retries=1)
        assert_type(limited, goproc.futures.LimitedExecutor)
        assert_type(limited.submit(half, 3).result(), float)
        assert_type(list(limited.map(half, [1])), list[float])
        general: ProcessPoolExecutor = executor
        print(general)


async def coroutines(pool: Pool, process: goproc.context.ForkProcess) -> None:
    assert_type(await pool.apply_async(half, (3,)), float)
    assert_type(await pool.map_async(half, [1, 2]), list[float])
    async for item in pool.imap(half, [1, 2]):
        assert_type(item, float)
    items = pool.imap_unordered(half, [1, 2])
    assert_type(await items.__anext__(), float)
    assert_type(await items.aclose(), None)
    async with goproc.Pool(1) as other:
        assert_type(other, Pool)
        other.close()
        assert_type(await other.join_async(), None)
    assert_type(await process.join_async(0.5), None)


def main() -> None:
    assert_type(goproc.install(), None)
    process = goproc.get_context("fork").Process()
    process.start()
    with goproc.Pool(1) as pool:
        asyncio.run(coroutines(pool, process))
    futures()
    processes()
    with goproc.Pool(2, retries=1) as pool:
        pools(pool)
    threads()
    contexts("fork")
    errors(CancelledError())
    shared()


if __name__ == "__main__":
    main()
