"""The memory of a pool's large arguments and results is released, even if processes are idle or have ended."""

import contextlib
import os
import sys
import threading
import time

import numpy as np
import pool_targets as targets
import pytest
from helpers import THREADS_ARE_MEANT, wait_until

import goproc
from goproc._common import engine

MEGABYTE = 1 << 20

#: What a pool of two has for its rings and the like, in bytes.
LITTLE = 2 * MEGABYTE


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def method(request):
    return request.param


@contextlib.contextmanager
def pool_and_memory(method="fork", **options):
    """A pool of two, and a function that returns how many bytes its memory has; also when the pool has ended."""
    with goproc.get_context(method).Pool(2, **options) as pool:
        fd = os.dup(engine.call("PoolMemoryFD", pool._crew.number))
        try:
            yield pool, lambda: os.fstat(fd).st_blocks * 512
        finally:
            os.close(fd)
    pool.join()


def same_after_use(value, number):
    """Whether the first, the last and the middle item of an array or bytes are number."""
    return value[0] == number and value[-1] == number and value[len(value) // 2] == number


#: Large bytes objects stay where they arrive, unless Python's objects come from another allocator; arrays always do.
PLACED = not os.environ.get("PYTHONMALLOC") and not sys.flags.dev_mode
placed_bytes = pytest.param(targets.make_bytes, marks=pytest.mark.skipif(not PLACED, reason="bytes are copied"))

MAKERS = pytest.mark.parametrize("make", [placed_bytes, targets.make_array])


@pytest.mark.slow
@pytest.mark.part("placed-bytes")
@MAKERS
def test_much_is_given_back_at_once(method, make):
    """The receiver gives it back, without a further task."""
    with pool_and_memory(method) as (pool, memory):
        assert pool.apply(len, (make(200 * MEGABYTE, 1),)) > 0
        wait_until(lambda: memory() < LITTLE)
        result = pool.apply(make, (300 * MEGABYTE, 2))
        assert memory() > 250 * MEGABYTE
        del result
        assert memory() < LITTLE


@pytest.mark.slow
@MAKERS
def test_an_idle_pool_gives_all_back(method, make):
    with pool_and_memory(method) as (pool, memory):
        value = make(8 * MEGABYTE, 1)
        results = pool.map(targets.identity, [value] * 4, chunksize=1)
        assert memory() > 16 * MEGABYTE
        del results
        wait_until(lambda: memory() < LITTLE)
        assert same_after_use(pool.apply(targets.identity, (value,)), 1)


@pytest.mark.slow
def test_a_result_that_is_dropped_when_its_worker_has_long_been_idle():
    with pool_and_memory() as (pool, memory):
        kept = pool.apply(targets.make_array, (8 * MEGABYTE, 1))
        assert memory() > 7 * MEGABYTE
        pool.map(targets.identity, [kept] * 8, chunksize=1)
        wait_until(lambda: memory() < 8 * MEGABYTE + LITTLE)  # the workers have gone to sleep, and given back the rest
        assert same_after_use(kept, 1)
        del kept
        assert memory() < LITTLE


@pytest.mark.slow
def test_a_pool_that_does_other_things_gives_back_what_it_does_not_use():
    with pool_and_memory() as (pool, memory):
        for make in targets.make_bytes, targets.make_array:
            pool.map(targets.identity, [make(6 * MEGABYTE, 1)] * 4, chunksize=1)
            assert memory() > 12 * MEGABYTE

            def is_given_back():
                pool.map(targets.identity, range(100), chunksize=1)
                return memory() < LITTLE

            wait_until(is_given_back)


def test_arguments_of_tasks_that_were_lost():
    """The arguments of a lost task are given back, also if the task was run again."""
    for retries in 0, 1:
        with pool_and_memory(retries=retries) as (pool, memory):
            for make in targets.make_bytes, targets.make_array:
                with pytest.raises(goproc.WorkerLostError):
                    pool.apply(targets.end_by_os_exit, (make(9 * MEGABYTE, 1),))
                wait_until(lambda: memory() < LITTLE)


def keep(value):
    targets.state = value
    return os.getpid()


@MAKERS
def test_what_a_worker_keeps_goes_with_it(method, make):
    """However the worker ends: it keeps what it received for as long as it lives."""
    with pool_and_memory(method) as (pool, memory):
        for end in targets.end_by_os_exit, targets.end_by_sigkill:
            keeper = pool.apply(keep, (make(20 * MEGABYTE, 1),))
            assert memory() > 19 * MEGABYTE
            while keeper in [worker.pid for worker in pool._pool]:
                with pytest.raises(goproc.WorkerLostError):
                    pool.apply(end)

            def is_given_back():
                pool.apply(targets.nothing)
                return memory() < LITTLE

            wait_until(is_given_back)


@pytest.mark.part("placed-bytes")
@MAKERS
def test_results_outlive_their_pool_without_being_copied(make):
    sizes = [5 * MEGABYTE] * 6
    with pool_and_memory() as (pool, memory):
        kept = pool.starmap(make, [(size, number) for number, size in enumerate(sizes)], chunksize=1)
        pool.apply(targets.identity, (kept[0],))
        own = own_memory()
        pool.terminate()
        pool.join()
        assert own_memory() - own < 2 * MEGABYTE
        assert sum(sizes) <= memory() < sum(sizes) + LITTLE
        assert all(same_after_use(value, number) for number, value in enumerate(kept))
        del kept[1::2]
        assert memory() < sum(sizes) // 2 + LITTLE
        assert all(same_after_use(value, 2 * number) for number, value in enumerate(kept))
        del kept
        assert memory() < LITTLE


def own_memory():
    """How many bytes this process has that are of no file, and shared with nobody."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))


@pytest.mark.slow
@THREADS_ARE_MEANT
@pytest.mark.parametrize("ended", [False, True], ids=["pool runs", "pool has ended"])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_fork_while_results_are_kept(ended, mixed):
    """Each process keeps what it had, sees nothing of the other's, and the pool's memory is given back."""
    with pool_and_memory() as (pool, memory):
        array, text = pool.apply(targets.identity, ([np.full(40 * MEGABYTE // 8, 1.0), b"x" * 3 * MEGABYTE],))
        if not mixed:
            text = pool.apply(targets.make_bytes, (3 * MEGABYTE, ord("x")))
        pool.apply(targets.nothing)
        if ended:
            pool.terminate()
            pool.join()
        array[0] = 2
        seen = in_child(lambda: (float(array.sum()), write_all(array, 7), text.count(b"x")))
        assert seen == (len(array) + 1, 7.0 * len(array), len(text))
        assert array[0] == 2 and array[1:].min() == array[1:].max() == 1
        assert text == b"x" * len(text)
        wait_until(lambda: memory() < LITTLE)
        array += 1
        assert in_child(lambda: float(array.min())) == 2


def write_all(array, value):
    array[:] = value
    return float(array.sum())


def in_child(function):
    """Return what function returns in a forked child."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(send, repr(function()).encode())
        os._exit(0)
    os.close(send)
    with open(receive, "rb") as file:
        seen = eval(file.read())
    os.waitpid(child, 0)
    return seen


@THREADS_ARE_MEANT
@pytest.mark.parametrize("ended", [False, True], ids=["pool runs", "pool has ended"])
def test_a_fork_while_another_thread_writes_into_a_result(ended):
    """Nothing that is written at that moment is lost."""
    with pool_and_memory() as (pool, _):
        arrays = [pool.apply(targets.make_array, (16 * MEGABYTE, 0)) for _ in range(6)]
        if ended:
            pool.terminate()
            pool.join()
        started, done, rounds = threading.Event(), threading.Event(), 0

        def write():
            nonlocal rounds
            while not done.is_set():
                for array in arrays:
                    array += 1  # without the GIL
                rounds += 1
                started.set()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            started.wait()
            assert in_child(lambda: 5) == 5
        finally:
            done.set()
            thread.join()
        assert [(array.min(), array.max()) for array in arrays] == [(rounds, rounds)] * len(arrays)


@MAKERS
def test_workers_that_are_replaced_while_results_are_kept(make):
    """Each fork for another worker finds the results that are kept."""
    with pool_and_memory(maxtasksperchild=1) as (pool, memory):
        kept = []
        for number in range(12):
            kept = [*kept[-2:], (number, pool.apply(make, (4 * MEGABYTE, number)))]
            assert all(same_after_use(value, number) for number, value in kept)
        del kept

        def is_given_back():
            pool.apply(targets.nothing)
            return memory() < LITTLE

        wait_until(is_given_back)


@pytest.mark.slow
def test_many_extents_leave_no_mappings():
    with pool_and_memory() as (pool, memory):
        pool.map(targets.identity, [b"x" * 100_000] * 10, chunksize=1)
        before = mappings()
        results = [pool.apply_async(targets.identity, (b"x" * 100_000,)) for _ in range(500)]
        assert all(len(result.get()) == 100_000 for result in results)
        del results

        def is_given_back():
            pool.map(targets.identity, range(100), chunksize=1)
            return memory() < LITTLE and mappings() < before + 20

        wait_until(is_given_back)


def mappings():
    with open("/proc/self/maps") as maps:
        return sum("goproc-pool" in line for line in maps)


@pytest.mark.slow
def test_memory_is_used_again_and_right(method):
    """While extents are given back and taken, nobody sees another's contents."""
    with pool_and_memory(method) as (pool, memory):
        until = time.monotonic() + 5
        number = 0
        while time.monotonic() < until:
            number += 1
            sizes = [(number * step) % 97 * 300_000 + 66_000 for step in (1, 5, 11)]
            values = [targets.make_bytes(size, number % 251) for size in sizes]
            arrays = [targets.make_array(size, number % 251) for size in sizes]
            for value, result in zip(values + arrays, pool.map(targets.identity, values + arrays, 1), strict=True):
                assert len(result) == len(value)
                assert same_after_use(result, number % 251)
            if number % 7 == 0:
                time.sleep(0.3)
            assert memory() < 700 * MEGABYTE
