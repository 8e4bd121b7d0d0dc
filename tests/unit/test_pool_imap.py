"""imap reads its input as its results are taken: endless inputs, inputs fed later, and iterators left alone."""

import itertools
import queue
import threading

import pool_targets as targets
import pytest

import goproc

WAIT = 30


class Counted:
    """An iterator without end that knows how much of it has been read, and by whom."""

    def __init__(self, item=None):
        self.read = 0
        self.threads = set()
        self.item = item
        self.grown = threading.Condition()

    def __iter__(self):
        return self

    def __next__(self):
        with self.grown:
            self.threads.add(threading.current_thread())
            self.read += 1
            self.grown.notify_all()
            return self.read - 1 if self.item is None else self.item


@pytest.mark.parametrize("unordered", [False, True], ids=["imap", "imap_unordered"])
def test_an_endless_input(context, unordered):
    endless = Counted()
    with context.Pool(2) as pool:
        results = (pool.imap_unordered if unordered else pool.imap)(targets.double, endless, prefetch=10)
        values = []
        for taken in range(1, 201):
            values.append(results.next(WAIT))
            assert endless.read <= taken + 10
        if unordered:
            assert len(set(values)) == 200 and all(value % 2 == 0 for value in values)
        else:
            assert values == [2 * i for i in range(200)]
        assert pool.map(targets.double, range(10)) == [2 * i for i in range(10)]
    pool.join()


@pytest.mark.parametrize("unordered", [False, True], ids=["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_prefetch_bounds_what_is_read(unordered, chunksize):
    endless = Counted()
    with goproc.Pool(2) as pool:
        imap = pool.imap_unordered if unordered else pool.imap
        results = imap(targets.double, endless, chunksize, prefetch=4)
        with endless.grown:
            assert endless.grown.wait_for(lambda: endless.read >= 4 * chunksize, WAIT)
        pool.map(targets.double, range(20))  # time for it to read more, if it did
        assert endless.read == 4 * chunksize
        assert len([next(results) for _ in range(30)]) == 30
        assert endless.read <= (4 + 1) * chunksize + 30
    pool.join()


def test_a_default_prefetch_bounds_memory():
    endless = Counted(bytes(100_000))
    with goproc.Pool(1) as pool:
        results = pool.imap(len, endless)
        assert [next(results) for _ in range(20)] == [100_000] * 20
        assert endless.read < 1000
    pool.join()


def test_a_sequence_is_read_where_its_results_are_taken():
    """No thread is needed for what cannot block, and an input of a million costs nothing in advance."""
    before = threading.enumerate()
    with goproc.Pool(2) as pool:
        results = pool.imap(targets.double, range(10**9), prefetch=8)
        assert [next(results) for _ in range(100)] == [2 * i for i in range(100)]
        assert threading.enumerate() == before
    pool.join()


@pytest.mark.parametrize("prefetch", [1, 2, 1000])
def test_prefetch_changes_no_result(prefetch):
    with goproc.Pool(2) as pool:
        for make in (range, lambda n: iter(range(n))):
            assert list(pool.imap(targets.double, make(50), prefetch=prefetch)) == [2 * i for i in range(50)]
            assert sorted(pool.imap_unordered(targets.double, make(50), 3, prefetch=prefetch)) == [
                2 * i for i in range(50)
            ]
    pool.join()


@pytest.mark.parametrize("prefetch", [0, -1])
def test_bad_prefetch(prefetch):
    with goproc.Pool(1) as pool:
        for imap in (pool.imap, pool.imap_unordered):
            with pytest.raises(ValueError, match="prefetch must be at least 1"):
                imap(targets.double, [1], prefetch=prefetch)
    pool.join()


def test_fed_later():
    """An input that blocks does not keep the results of what it has given."""
    items = queue.Queue()
    with goproc.Pool(2) as pool:
        results = pool.imap(targets.double, iter(items.get, None))
        with pytest.raises(goproc.TimeoutError):
            results.next(0.01)
        for i in range(20):
            items.put(i)
            assert results.next(WAIT) == 2 * i
        items.put(None)
        with pytest.raises(StopIteration):
            results.next(WAIT)
    pool.join()


def test_an_input_that_waits_for_a_result():
    """Each item is computed from the result of the one before."""
    with goproc.Pool(2) as pool:
        taken = queue.SimpleQueue()
        taken.put(1)
        results = pool.imap(targets.double, (taken.get() for _ in range(10)))
        value = None
        for value in results:
            taken.put(value)
        assert value == 1024
    pool.join()


def test_an_input_that_uses_the_pool():
    with goproc.Pool(2) as pool:
        inner = (pool.apply(targets.double, (i,)) for i in range(10))
        assert list(pool.imap(targets.double, inner)) == [4 * i for i in range(10)]
        inner = pool.imap(targets.double, iter(range(10)))
        assert list(pool.imap(targets.double, inner)) == [4 * i for i in range(10)]
        inner = pool.imap_unordered(targets.double, range(100))
        assert sorted(pool.imap_unordered(targets.double, inner)) == [4 * i for i in range(100)]
    pool.join()


def test_an_input_that_is_a_file(tmp_path):
    path = tmp_path / "lines"
    path.write_text("".join(f"{i}\n" for i in range(1000)))
    with goproc.Pool(2) as pool, path.open() as lines:
        assert sum(pool.imap(int, lines, chunksize=10)) == 499500
    pool.join()


@pytest.mark.parametrize("make", [list, iter], ids=["sequence", "iterator"])
@pytest.mark.parametrize("unordered", [False, True], ids=["imap", "imap_unordered"])
def test_close_and_join_with_results_not_taken(context, make, unordered):
    """All of the input is processed, and the results can be taken afterwards."""
    pool = context.Pool(2)
    results = (pool.imap_unordered if unordered else pool.imap)(targets.double, make(list(range(500))), prefetch=5)
    first = next(results)
    pool.close()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.imap(targets.double, [1])
    pool.join()
    assert sorted([first, *results]) == [2 * i for i in range(500)]


def test_close_while_results_are_taken(context):
    pool = context.Pool(2)
    results = pool.imap(targets.double, range(1000), prefetch=5)
    pool.close()
    assert list(results) == [2 * i for i in range(1000)]
    pool.join()


def test_close_while_the_input_blocks():
    items = queue.Queue()
    pool = goproc.Pool(1)
    results = pool.imap(targets.double, iter(items.get, None))
    items.put(1)
    assert results.next(WAIT) == 2
    pool.close()
    joiner = threading.Thread(target=pool.join)
    joiner.start()
    items.put(2)
    assert results.next(WAIT) == 4
    items.put(None)
    joiner.join(WAIT)
    assert not joiner.is_alive()
    with pytest.raises(StopIteration):
        results.next(WAIT)


@pytest.mark.parametrize("input_type", ["sequence", "endless", "blocked"])
def test_terminate_with_results_not_taken(context, input_type):
    items = queue.Queue()
    iterable = {"sequence": range(10**6), "endless": itertools.count(), "blocked": iter(items.get, None)}[input_type]
    pool = context.Pool(2)
    results = pool.imap(targets.double, iterable)
    items.put(0)
    assert results.next(WAIT) == 0
    pool.terminate()
    pool.join()
    with pytest.raises(goproc.CancelledError):
        for _ in range(10**6):
            results.next(WAIT)
    for _ in range(10**6):
        try:
            results.next(WAIT)
        except StopIteration:
            break
        except goproc.CancelledError:
            continue
    else:
        pytest.fail("no end")
    items.put(None)


def test_several_at_once():
    with goproc.Pool(2) as pool:
        iterators = [pool.imap(targets.double, itertools.count(1000 * i), prefetch=3) for i in range(5)]
        rows = list(itertools.islice(zip(*iterators, strict=True), 50))
        assert rows == [tuple(2 * (1000 * i + n) for i in range(5)) for n in range(50)]
    pool.join()


def test_taken_by_several_threads():
    with goproc.Pool(2) as pool:
        for imap, iterable in ((pool.imap, range(600)), (pool.imap_unordered, iter(range(600)))):
            results, taken = imap(targets.double, iterable, prefetch=20), []

            def take(results=results, taken=taken):
                for value in results:
                    taken.append(value)

            threads = [threading.Thread(target=take) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(WAIT)
            assert not any(thread.is_alive() for thread in threads)
            assert sorted(taken) == [2 * i for i in range(600)]
    pool.join()


def test_dropped_iterators(context):
    """What nobody takes is no burden: the pool goes on, and ends."""
    with context.Pool(2) as pool:
        for make in (list, iter):
            for _ in range(20):
                results = pool.imap(targets.double, make(list(range(100))), prefetch=2)
                next(results)
                del results
        assert pool.map(targets.double, range(100)) == [2 * i for i in range(100)]
    pool.join()


def test_a_thread_that_cannot_be_started(monkeypatch):
    """An iterator is read by one: without it imap raises, and the pool goes on and can be joined."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with goproc.get_context("fork").Pool(1) as pool:
        pool.apply(targets.double, (1,))
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                pool.imap(targets.double, iter(range(10)))
        assert not pool._cache
        assert list(pool.imap(targets.double, iter(range(10)))) == [2 * number for number in range(10)]
        pool.close()
        pool.join()
