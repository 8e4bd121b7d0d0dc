"""ProcessPoolExecutor.map, with each start method."""

import concurrent.futures
import itertools
import threading
import time
import weakref

import futures_targets as targets
import pytest
from helpers import THREADS_ARE_MEANT, wait_until

from goproc.futures import ProcessPoolExecutor

pytestmark = THREADS_ARE_MEANT


@pytest.mark.parametrize("chunksize", [1, 2, 7, 1000])
def test_map(executor, chunksize):
    doubled = [2 * number for number in range(100)]
    assert list(executor.map(targets.double, range(100), chunksize=chunksize)) == doubled
    assert list(executor.map(targets.double, (n for n in range(100)), chunksize=chunksize)) == doubled
    assert list(executor.map(targets.add, range(100), iter(range(200)), chunksize=chunksize)) == doubled
    assert list(executor.map(targets.add, [1, 2], ["a"][:0], chunksize=chunksize)) == []
    assert list(executor.map(targets.double, chunksize=chunksize)) == []


def test_map_with_a_buffer():
    with ProcessPoolExecutor(2) as executor:
        results = executor.map(targets.double, itertools.count(), buffersize=3)
        assert [next(results) for _ in range(20)] == [2 * number for number in range(20)]
        items = iter(range(10))
        results = executor.map(targets.double, items, buffersize=2)
        assert next(items) == 2
        assert list(results) == [0, 2, 6, 8, 10, 12, 14, 16, 18]
        assert list(executor.map(targets.add, range(5), range(5), chunksize=2, buffersize=1)) == [0, 2, 4, 6, 8]


def test_map_arguments_that_are_none():
    with ProcessPoolExecutor(1) as executor:
        for chunksize in 0, -1:
            with pytest.raises(ValueError, match="chunksize must be >= 1"):
                executor.map(abs, [1], chunksize=chunksize)
        for size in 0, -1:
            with pytest.raises(ValueError, match="buffersize must be None or > 0"):
                executor.map(abs, [1], buffersize=size)
        for size in "2", 2.0:
            with pytest.raises(TypeError, match="buffersize must be an integer or None"):
                executor.map(abs, [1], buffersize=size)
        with pytest.raises(TypeError, match="not iterable"):
            executor.map(abs, 5)
        with pytest.raises(TypeError, match="not iterable"):
            executor.map(targets.add, [1], 5)


def test_map_raises_at_the_turn_of_the_item(executor):
    results = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert (next(results), next(results)) == ((0, 1), (0, 1))
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_map_whose_iterable_raises():
    def items():
        yield 1
        raise LookupError("the source is gone")

    with ProcessPoolExecutor(1) as executor:
        with pytest.raises(LookupError):
            executor.map(abs, items())
        assert not executor._pending_work_items or executor.submit(abs, -1).result() == 1


def test_map_timeout(tmp_path):
    with ProcessPoolExecutor(1) as executor:
        release = tmp_path / "release"
        results = executor.map(
            targets.signal_and_wait, [tmp_path / "a", tmp_path / "b"], [release, release], timeout=0.05
        )
        with pytest.raises(concurrent.futures.TimeoutError):
            next(results)
        release.touch()


def test_a_map_that_is_closed_withdraws_what_has_not_begun(tmp_path):
    release, paths = tmp_path / "release", [tmp_path / str(number) for number in range(50)]
    with ProcessPoolExecutor(1) as executor:
        begun = executor.submit(targets.double, 1)
        results = executor.map(targets.signal_and_wait, paths, itertools.repeat(release, 50), itertools.repeat(7, 50))
        assert begun.result() == 2
        wait_until(paths[0].exists)
        first = threading.Thread(target=lambda: next(results))
        first.start()
        time.sleep(0.01)
        release.touch()
        first.join()
        results.close()
    assert not paths[-1].exists()


def test_results_are_not_kept(executor):
    for one in executor.map(targets.thing, range(10)):
        reference = weakref.ref(one)
        del one
        assert reference() is None
    for one in executor.map(targets.thing, range(10), chunksize=3):
        reference = weakref.ref(one)
        del one
        assert reference() is None
