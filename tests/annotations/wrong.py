"""A program with a type error in each line below "Wrong": a checker that uses goproc's types reports each of them."""

import goproc
import goproc.pool
from goproc.pool import ThreadPool
from goproc.queues import Queue


def square(number: int) -> int:
    return number * number


def wrong(
    error: goproc.WorkerLostError, late: goproc.TaskTimeoutError, queue: "Queue[int]", pool: goproc.pool.Pool
) -> None:
    spawn = goproc.get_context("spawn")
    # Wrong:
    goproc.Poool()
    goproc.Pool(retrys=1)
    goproc.Pool(retries="x")
    goproc.Pool(processes="2")
    goproc.Pool(initializer="prepare")
    goproc.Pool(max_memory_per_child="1G")
    goproc.Pool(threads="all")
    goproc.Pool(pickler="dill")
    goproc.Pool(max_memory_per_task="1G")
    goproc.Pool(retries=1, retry_on=3)
    goproc.Pool(retries=1, retry_delay="1 s")
    goproc.Pool(log="yes")
    goproc.pool.Pool(1, None, (), None, "spawn")
    spawn.Pool(1, task_timeout=1)
    pool.apply(square, 1)
    pool.apply(square, (1,), timeout="1")
    pool.apply(square, (1,), task_timeout=1)
    pool.apply_async(square, (1,), timeout=[1])
    pool.apply_async(square, (1,)).get().upper()
    pool.apply_async(square, (1,)).get(timeout="1")
    pool.apply_async(square, (1,), callback=str.upper)
    pool.apply_async(square, (1,)).cancel(True)
    pool.map(square, 1)
    pool.map(square, ["one"])
    pool.map(square, [1], task_timout=1)
    pool.map(square, [1], task_timeout="1")
    pool.map(square, [1], timeout=1)
    pool.map(square, [1], return_exceptions="yes")
    pool.map(square, [1])[0].upper()
    pool.map(square, [1], return_exceptions=True)[0].bit_length()
    pool.starmap(square, [1])
    pool.starmap(square, [(1,)], retries="1")
    pool.map_async(square, [1]).get()[0].upper()
    pool.starmap_async(square, [(1,)], task_timeout="1")
    pool.imap(square, [1], prefetch="many")
    pool.imap(square, [1], buffersize=1.5)
    pool.imap(square, [1], return_exceptions=True)
    pool.imap(square, [1]).next(timeout="1")
    pool.stream(square, [1])
    pool.imap(square, [1]).next().upper()
    pool.imap_unordered(square, [1], timeout=1)
    pool.imap_unordered(square, [1]).cancel(1)
    ThreadPool(1, retries=1)
    ThreadPool(1).apply_async(square, (1,), timeout=1)
    ThreadPool(1).map(square, [1], task_timeout=1)
    spawn.Process(traget=square)
    spawn.Process(target=1)
    goproc.Process(target=square, args=1)
    goproc.get_context(1)
    goproc.get_start_method(allow_none=True).upper()
    goproc.set_forkserver_preload(["numpy"], on_error="stop")
    goproc.install("multiprocessing")
    goproc.install(futures="yes")
    goproc.futures.ProcessPoolExecutor(max_workers="2")
    goproc.futures.ProcessPoolExecutor(2).submit(square, "one")
    goproc.futures.ProcessPoolExecutor(2).submit(square, 1).result().upper()
    goproc.futures.ProcessPoolExecutor(2).with_options(2.5)
    goproc.futures.ProcessPoolExecutor(2).with_options(retries="1")
    goproc.shared_memory.SharedMemory(size="16")
    queue.put("one")
    print(error.signum)
    error.pid.upper()
    error.index.bit_length()
    late.limit.upper()
    print(late.exitcode)
