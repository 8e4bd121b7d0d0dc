"""max_memory_per_task=: a task that takes more memory than it may is ended, and only that task fails."""

import pickle

import limit_targets as targets
import pytest

import goproc

MIB = targets.MIB
LIMIT = 64 * MIB


def test_only_that_task_fails(context, tmp_path):
    with context.Pool(2, max_memory_per_task=LIMIT) as pool:
        bad = pool.apply_async(targets.take_slowly, (4 * MIB,))
        others = [pool.apply_async(abs, (-i,)) for i in range(20)]
        with pytest.raises(
            goproc.MemoryLimitError, match=r"take_slowly\(4194304\) took more memory .* of 64 MiB"
        ) as raised:
            bad.get(60)
        assert [other.get(60) for other in others] == list(range(20))
        pids = {process.pid for process in pool._pool}
        assert raised.value.pid not in pids and len(pids) == 2
        assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1))
    error = raised.value
    assert (error.limit, error.function, error.index, error.count) == (LIMIT, "take_slowly", None, 1)
    assert isinstance(error, goproc.ProcessError) and isinstance(error, MemoryError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_one_large_allocation(context, tmp_path):
    with context.Pool(1, max_memory_per_task=LIMIT) as pool:
        with pytest.raises(goproc.MemoryLimitError):
            pool.apply(targets.take, (256 * MIB, tmp_path / "never"))
        assert pool.apply(abs, (-1,)) == 1


def test_below_the_limit(context, tmp_path):
    """The main program's memory does not count, though a forked worker inherits it."""
    ballast = bytearray(2 * LIMIT)
    with context.Pool(1, max_memory_per_task=LIMIT) as pool:
        result = pool.apply_async(targets.take, (LIMIT // 2, tmp_path / "release"))
        (tmp_path / "release").touch()
        assert result.get(60) == LIMIT // 2
        for _ in range(4):  # each task begins anew, whatever the tasks before have kept
            pool.apply(targets.leak, (LIMIT // 2,))
    assert len(ballast) == 2 * LIMIT


def test_shared_memory_does_not_count(context):
    with context.Pool(1, max_memory_per_task=LIMIT) as pool:
        assert pool.apply(targets.take_shared, (2 * LIMIT, 0.3)) == 2 * LIMIT


@pytest.mark.parametrize("options", [{}, {"chunksize": 1}])
def test_maps(context, options):
    """By default each item is a task, so only the item that takes too much fails."""
    with context.Pool(2, max_memory_per_task=LIMIT) as pool:
        items = [(i, 3) for i in range(12)]
        results = pool.starmap(targets.take_if, items, return_exceptions=True, **options)
        (failed,) = [result for result in results if isinstance(result, Exception)]
        assert isinstance(failed, goproc.MemoryLimitError) and failed.index == 3 and results[3] is failed
        assert [result for result in results if result is not failed] == [i for i in range(12) if i != 3]


def test_a_chunk_is_one_task(context):
    with context.Pool(2, max_memory_per_task=LIMIT) as pool:
        with pytest.raises(goproc.MemoryLimitError, match="items 2 to 3 of the input"):
            pool.starmap(targets.take_if, [(i, 3) for i in range(6)], chunksize=2)


def test_imap(context):
    with context.Pool(2, max_memory_per_task=LIMIT) as pool:
        results = pool.imap(targets.take_slowly, [8 * MIB] * 2)
        for _ in range(2):
            with pytest.raises(goproc.MemoryLimitError):
                next(results)
        assert sorted(pool.imap_unordered(abs, [-1, -2, -3])) == [1, 2, 3]


def test_executors(context):
    with goproc.futures.ProcessPoolExecutor(2, context, max_memory_per_task=LIMIT) as executor:
        bad, good = executor.submit(targets.take_slowly, 8 * MIB), executor.submit(abs, -1)
        assert isinstance(bad.exception(60), goproc.MemoryLimitError)
        assert good.result(60) == 1
        assert list(executor.map(abs, range(-10, 0))) == list(range(10, 0, -1))


def test_with_other_limits(context):
    with context.Pool(1, max_memory_per_task=LIMIT, max_memory_per_child=1, retries=2) as pool:
        with pytest.raises(goproc.TaskTimeoutError):
            pool.apply(targets.hang, ("/dev/null",), timeout=0.2)
        with pytest.raises(goproc.MemoryLimitError):  # it is not run again: it would do the same
            pool.apply(targets.take_slowly, (8 * MIB,))


@pytest.mark.parametrize("value", [0, -1, 1.5, "1G"])
def test_wrong_values(value):
    with pytest.raises(ValueError, match="max_memory_per_task must be a positive int or None"):
        goproc.Pool(1, max_memory_per_task=value)
    with pytest.raises(ValueError, match="max_memory_per_task must be a positive int or None"):
        goproc.futures.ProcessPoolExecutor(1, max_memory_per_task=value)
