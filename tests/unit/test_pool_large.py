"""Large arguments and results travel in shared memory: a program can notice this only by the time."""

import mmap
import os
import random
import subprocess
import sys

import numpy as np
import pool_targets as targets
import pytest
from helpers import THREADS_ARE_MEANT

import goproc
from goproc._common import engine

SIZES = [0, 1, 32 << 10, (64 << 10) + 1, 100_000, 3 << 20, pytest.param(20 << 20, marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=["fork", "spawn", "forkserver"])
def pool(request):
    with goproc.get_context(request.param).Pool(2) as pool:
        pool.apply_async(targets.nothing).get()  # its thread is the fixture's
        yield pool
    pool.join()


def same(a, b):
    return type(a) is type(b) and (a == b if isinstance(a, (bytes, bytearray, str)) else bool(np.array_equal(a, b)))


@pytest.mark.parametrize("size", SIZES)
def test_there_and_back(pool, size):
    content = os.urandom(size)
    for value in (content, bytearray(content), content.hex(), np.frombuffer(content, np.uint8).copy()):
        assert same(pool.apply(targets.identity, (value,)), value)
        assert same(pool.apply(targets.identity, (), {"value": value}), value)
        assert same(pool.apply(targets.identity, ((value, [value]),))[1][0], value)
        for results in (
            pool.map(targets.identity, [value, value]),
            pool.map(targets.identity, [value, value], chunksize=1),
            pool.map(targets.identity, [value] * 70, chunksize=70) if size < 1 << 20 else [value],
            pool.starmap(targets.identity, [(value,), (value,)]),
            list(pool.imap(targets.identity, [value, value], chunksize=2)),
            list(pool.imap_unordered(targets.identity, [value, 1][:1])),
        ):
            assert all(same(result, value) for result in results)


def test_bytes_stay_what_they_are(pool):
    class_names = pool.map(targets.type_name, [b"x" * 100_000, b"x", bytearray(100_000), "x" * 100_000])
    assert class_names == ["bytes", "bytes", "bytearray", "str"]
    hash(pool.apply(targets.identity, (b"x" * 100_000,)))
    assert type(pool.apply(targets.identity, (targets.OwnBytes(100_000),))) is targets.OwnBytes


def test_what_the_function_receives_is_its_own(pool):
    array = np.zeros(100_000)
    assert pool.map(targets.fill_and_sum, [array, array], chunksize=2) == [100_000, 100_000]
    assert not array.any()
    back = pool.apply(targets.identity, (array,))
    back += 1
    assert pool.apply(targets.identity, (array,)).sum() == 0


def test_a_function_that_keeps_its_argument(pool):
    """Memory that is still looked into is not used again."""
    contents = [bytes([n]) * 200_000 for n in range(20)]
    kept = pool.map(targets.identity, [np.frombuffer(content, np.uint8) for content in contents], chunksize=1)
    others = pool.map(targets.identity, [np.full(200_000, 99, np.uint8)] * 40, chunksize=1)
    assert all(array.tobytes() == content for array, content in zip(kept, contents, strict=True))
    assert all((other == 99).all() for other in others)


def test_many_buffers_in_one_task(pool):
    arrays = [np.full(5_000 + n, n) for n in range(300)]
    assert all(same(a, b) for a, b in zip(pool.apply(targets.identity, (arrays,)), arrays, strict=True))


def test_memory_is_not_lost_to_results(pool):
    """Large results that are dropped leave no memory behind in the parent."""
    for _ in range(3):
        pool.apply(targets.make_bytes, (8 << 20, 1))
    before = resident()
    for _ in range(20):
        assert len(pool.apply(targets.make_bytes, (8 << 20, 1))) == 8 << 20
    assert resident() - before < 64 << 20


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


# Large bytes objects lie where they arrive, if nobody has wrapped Python's allocator and it is the usual one.

PLACED = not os.environ.get("PYTHONMALLOC") and not sys.flags.dev_mode
needs_placing = pytest.mark.skipif(not PLACED, reason="Python's objects come from another allocator")


def filled(number, size):
    return bytes([number % 251]) * size


@pytest.mark.part("placed-bytes")
@needs_placing
def test_bytes_are_not_copied_where_they_arrive(pool):
    assert all(pool.apply(targets.where_all_lie, [filled(n, 100_000) for n in range(10)]))
    assert all(pool.map(targets.lies_in_pools_memory, [filled(n, 100_000) for n in range(50)]))
    assert pool.apply(targets.where_all_lie, (b"x" * 40_000,)) == [False]
    assert targets.lies_in_pools_memory(pool.apply(targets.make_bytes, (1 << 20, 1)))


def test_bytes_of_any_layout_in_the_same_extents(pool):
    """What a receiver writes privately in one use of an extent is not seen in the next use."""
    chance = random.Random(3)
    kept = []
    for number in range(300):
        values = [
            chance.choice([filled, filled_array])(number + n, chance.choice([65_536, 70_000, 80_001, 123_456]))
            for n in range(chance.randint(1, 4))
        ]
        results = pool.apply(targets.identity, (values,))
        for value, result in zip(values, results, strict=True):
            assert same(value, result)
            if type(result) is np.ndarray:
                result += 1  # nobody else sees that
        kept = [*kept[-5:], (number, results)] if chance.random() < 0.5 else kept
        for number, results in kept:
            for n, result in enumerate(results):
                expected = (number + n) % 251
                assert all(
                    part in (expected, expected + 1) for part in (result[0], result[len(result) // 2], result[-1])
                )


def filled_array(number, size):
    return np.full(size, number % 251, np.uint8)


def test_more_bytes_than_can_be_placed(pool):
    values = [filled(n, 66_000) for n in range(64)]
    assert pool.apply(targets.identity, values[:1]) == values[0]
    assert pool.map(targets.identity, values, chunksize=64) == values


@pytest.mark.slow
@pytest.mark.part("placed-bytes")
@needs_placing
def test_kept_bytes_do_not_keep_much_more_memory():
    """A result that is a small part of what came with it is copied, and so are those beyond some 256 MiB.

    The latter only if the memory that they came in will be used again.
    """
    with goproc.get_context("fork").Pool(1) as pool:
        assert not any(
            map(targets.lies_in_pools_memory, pool.apply(targets.identity, ([filled(n, 70_000) for n in range(9)],)))
        )
        size = 48 << 20
        kept = [pool.apply(targets.make_bytes, (size, n)) for n in range(7)]
        assert all(map(targets.lies_in_pools_memory, kept))
        assert all(value == bytes([n]) * size for n, value in enumerate(kept))
        del kept[0]
        assert not targets.lies_in_pools_memory(pool.apply(targets.make_bytes, (size, 1)))
        del kept[:]
        assert targets.lies_in_pools_memory(pool.apply(targets.make_bytes, (size, 1)))


def test_bytes_outlive_their_pool():
    with goproc.get_context("fork").Pool(1) as pool:
        value = pool.apply(targets.make_bytes, (1 << 20, 7))
    pool.join()
    assert value == b"\7" * (1 << 20)
    del pool
    value += b"x"  # in the place of the old one, if there is room
    assert value == b"\7" * (1 << 20) + b"x"


def test_bytes_that_grow(pool):
    for _ in range(3):
        value = pool.apply(targets.make_bytes, (100_000, 7))
        value += b"x"
        assert value == b"\7" * 100_000 + b"x"


@THREADS_ARE_MEANT
def test_bytes_live_through_forks(pool):
    """Both processes keep them, and their extent is used again."""
    assert pool.apply(targets.fork_and_look, (b"\1" * 100_000,)) == (100_000, 100_000)
    value = pool.apply(targets.make_bytes, (100_000, 3))
    assert targets.fork_and_look(value) == (300_000, 300_000)
    for number in range(20):
        assert pool.apply(targets.make_bytes, (100_000, number)) == bytes([number]) * 100_000
    assert value == b"\3" * 100_000
    assert not targets.lies_in_pools_memory(value)


@THREADS_ARE_MEANT
def test_forks_cost_no_shared_memory():
    with goproc.get_context("fork").Pool(1) as pool:
        for number in range(12):
            value = pool.apply(targets.make_bytes, (1 << 20, number))
            assert targets.fork_and_look(value) == (number << 20,) * 2
            if number == 3:
                before = shared_memory(pool)
        # The eight values since then have 1 MiB each. The rings may have come to another page.
        assert shared_memory(pool) < before + (1 << 20)


def test_bytes_of_a_task_that_is_run_again(tmp_path):
    value = filled(5, 300_000)
    with goproc.get_context("fork").Pool(1, retries=2) as pool:
        for number in range(3):
            assert pool.apply(targets.lose_worker_once, (str(tmp_path / str(number)), value)) == value


ALLOCATORS = """
import tracemalloc
import goproc
import pool_targets as targets

def there_and_back():
    for size in 70_000, 1 << 20, 70_001:
        assert pool.apply(targets.identity, (b"x" * size,)) == b"x" * size
    return pool.apply(targets.make_bytes, (1 << 20, 1))

if {before}:
    tracemalloc.start()
with goproc.get_context("fork").Pool(1) as pool:
    first = there_and_back()
    tracemalloc.start()
    second = there_and_back()
    tracemalloc.stop()
    third = there_and_back()
    assert targets.where_all_lie(first, second, third) == [{placed}] * 3
    assert first == second == third
    del first, second, third
"""


@pytest.mark.part("placed-bytes")
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("allocator", ["pymalloc", "malloc", "debug"])
def test_with_other_allocators(before, allocator):
    """tracemalloc may be started and stopped at any time, and puts back the allocator that it found."""
    program = ALLOCATORS.format(before=before, placed=allocator == "pymalloc" and not before)
    environment = {**os.environ, "PYTHONMALLOC": allocator, "PYTHONPATH": os.path.dirname(targets.__file__)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)


def shared_memory(pool):
    """How many bytes of memory a pool shares with its workers."""
    return os.fstat(engine.call("PoolMemoryFD", pool._crew.number)).st_blocks * 512


@pytest.mark.parametrize("make", [targets.make_bytes, targets.make_array])
def test_workers_that_have_ended_keep_no_memory(make):
    with goproc.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        for number in range(12):
            assert len(pool.apply(make, (8 << 20, number)))
        kept = pool.apply(make, (8 << 20, 77))
        for _ in range(3):
            pool.apply(targets.nothing)
        assert kept[0] == kept[-1] == 77
        assert shared_memory(pool) < 40 << 20
