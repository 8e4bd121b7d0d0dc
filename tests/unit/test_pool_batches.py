"""Short tasks of a map or an imap travel in batches: a program can notice this only by the time."""

import os
import signal

import pool_targets as targets
import pytest

import goproc

COUNT = 500


@pytest.fixture(scope="module")
def pool():
    with goproc.get_context("fork").Pool(2) as pool:
        pool.apply_async(targets.nothing).get()  # its thread is the fixture's
        yield pool
    pool.join()


def each_way(pool, func, items):
    """The results of func for the items by each method that makes a task of each item."""
    yield pool.map(func, items, chunksize=1)
    yield pool.map_async(func, items, chunksize=1).get(60)
    yield pool.starmap(func, [(item,) for item in items], chunksize=1)
    yield list(pool.imap(func, items))
    yield list(pool.imap(func, items, chunksize=3))
    yield sorted(pool.imap_unordered(func, items), key=repr)


@pytest.mark.parametrize(
    "items",
    [
        range(COUNT),
        [str(n) * (n % 100) for n in range(COUNT)],
        [(n, (n, "x")) for n in range(COUNT)],
        [n if n % 7 else [n] for n in range(COUNT)],
        [bytes(n * 50) for n in range(100)],
        [None, True, 1.5, "ü", b"", (), ((),)] * 20,
        {n: n for n in range(COUNT)},
        "a text",
    ],
    ids=["range", "texts", "tuples", "some lists", "growing", "atoms", "dict", "str"],
)
def test_results(pool, items):
    for results in each_way(pool, targets.identity, items):
        assert sorted(map(repr, results)) == sorted(map(repr, items))
    assert list(pool.imap(targets.identity, items)) == list(items)


def test_each_task_has_its_own_exception(pool):
    results = pool.imap(targets.reciprocal, [1, 2, 0, 4] * 50)
    for n in [1, 2, 0, 4] * 50:
        if n:
            assert next(results) == 1 / n
        else:
            with pytest.raises(ZeroDivisionError):
                next(results)
    assert next(results, None) is None
    with pytest.raises(ZeroDivisionError):
        pool.map(targets.reciprocal, [1, 2, 0, 4] * 50, chunksize=1)


def test_mutable_items_are_not_shared(pool):
    """One list as the item of all tasks: each has a copy of its own."""
    shared: list = []
    assert pool.map(targets.append_and_count, [shared] * COUNT, chunksize=1) == [1] * COUNT
    assert list(pool.imap(targets.append_and_count, [(1, shared)] * COUNT)) == [1] * COUNT


def test_items_of_other_types_are_pickled_once(pool):
    items = [targets.CountsPickling(n) for n in range(100)]
    assert pool.map(targets.number_of, items, chunksize=1) == list(range(100))
    assert {item.pickled for item in items} == {1}
    ints = [targets.OwnInt(n) for n in range(100)]
    assert set(map(type, pool.map(targets.identity, ints, chunksize=1))) == {targets.OwnInt}


def test_an_item_that_cannot_be_pickled(pool):
    results = pool.imap(targets.identity, [1, 2, lambda: 3, 4])
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(Exception, match="pickle|local object"):
        next(results)
    assert list(results) == [4]


def test_a_function_that_the_worker_does_not_have(pool):
    targets.defined_later = lambda item: item
    targets.defined_later.__module__, targets.defined_later.__qualname__ = targets.__name__, "defined_later"
    try:
        results = pool.imap(targets.defined_later, range(5))
        for _ in range(5):
            with pytest.raises(AttributeError, match="defined_later"):
                next(results)
        assert list(results) == []
    finally:
        del targets.defined_later


@pytest.mark.parametrize("iterate", ["imap", "imap_unordered"])
def test_a_worker_is_killed_in_the_middle(context, iterate):
    """Only the task that it was in is lost; each of the others has been run once, by whomever."""
    with context.Pool(2) as pool:
        pool.map(targets.identity, range(1000), chunksize=1)  # so that it is known how short the tasks are
        for _ in range(3):
            results, seen, lost = getattr(pool, iterate)(targets.killed_at_50, range(200)), [], 0
            for _ in range(200):
                try:
                    seen.append(results.next(60))
                except goproc.WorkerLostError as error:
                    assert error.signal == signal.SIGKILL
                    lost += 1
            assert lost == 1
            assert sorted(seen) == [n for n in range(200) if n != 50]
        with pytest.raises(goproc.WorkerLostError):
            pool.map(targets.killed_at_50, range(200), chunksize=1)
        assert pool.map(targets.identity, range(100), chunksize=1) == list(range(100))
    pool.join()


def test_slow_tasks_are_shared_out(pool, tmp_path):
    """The other worker meanwhile does the tasks that wait behind a slow task in its batch."""
    pool.map(targets.identity, range(1000), chunksize=1)
    release = tmp_path / "release"
    results = pool.imap_unordered(targets.wait_for_file, [os.devnull] * 10 + [str(release)] + [os.devnull] * 53)
    assert [results.next(60) for _ in range(63)] == [None] * 63
    release.touch()
    assert list(results) == [None]


def test_workers_are_replaced_after_as_many_tasks_as_they_may_run():
    with goproc.Pool(2, maxtasksperchild=7) as pool:
        pids = pool.map(targets.pid, range(70), chunksize=1)
        assert max(map(pids.count, pids)) <= 7
        pids = list(pool.imap(targets.pid, range(70)))
        assert max(map(pids.count, pids)) <= 7


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100, 1000, 5000])
def test_map_of_no_given_chunksize(pool, count):
    for items in (range(count), list(map(str, range(count))), [(n, n) for n in range(count)]):
        assert pool.map(targets.identity, items) == list(items)
    assert pool.starmap(divmod, [(n, 7) for n in range(count)]) == [divmod(n, 7) for n in range(count)]
    assert pool.starmap(targets.add, [(n, 7) for n in range(count)]) == [n + 7 for n in range(count)]
    with pytest.raises(ZeroDivisionError):
        pool.map(targets.reciprocal, range(count))


def test_a_chunk_is_divided_when_a_task_is_slow(pool, tmp_path):
    release = tmp_path / "release"
    items = [str(release)] + [os.devnull] * 78 + [str(tmp_path / "releaser")]
    assert pool.map(targets.release_or_wait, items) == items


def test_a_worker_that_is_killed_fails_the_map(context):
    with context.Pool(2) as pool:
        for _ in range(3):
            with pytest.raises(goproc.WorkerLostError):
                pool.map(targets.killed_at_50, range(200))
            assert pool.map(targets.identity, range(200)) == list(range(200))
    pool.join()


def test_callback():
    done: list = []
    with goproc.Pool(2) as pool:
        result = pool.map_async(targets.identity, range(100), chunksize=1, callback=done.extend)
        assert result.get(60) == list(range(100))
        assert done == list(range(100))
    pool.join()


def test_reading_ahead_is_bounded(pool):
    """With prefetch=5, no more than five items are read before the first result has been taken."""
    results = pool.imap(targets.identity, range(100), prefetch=5)
    assert results._fed == 5
    assert [next(results) for _ in range(100)] == list(range(100))
