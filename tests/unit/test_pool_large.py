"""Large arguments and results: they travel in shared memory, and nobody but the clock may notice."""

import mmap
import os

import numpy as np
import pool_targets as targets
import pytest

import goproc

SIZES = [0, 1, 32 << 10, (64 << 10) + 1, 100_000, 3 << 20, 20 << 20]


@pytest.fixture(scope="module", params=["fork", "spawn", "forkserver"])
def pool(request):
    with goproc.get_context(request.param).Pool(2) as pool:
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
