"""imap reads its input as its results are taken: endless inputs, inputs fed later, and iterators that are dropped."""

import itertools
import queue
import sys
import threading
import time
import warnings
import weakref

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
@pytest.mark.parametrize("name", ["prefetch", "buffersize"])
def test_prefetch_bounds_what_is_read(unordered, chunksize, name):
    endless = Counted()
    with goproc.Pool(2) as pool:
        imap = pool.imap_unordered if unordered else pool.imap
        results = imap(targets.double, endless, chunksize, **{name: 4})
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
    """No thread reads what cannot block, and an input of a million costs nothing in advance."""
    with goproc.Pool(2) as pool:
        results = pool.imap(targets.double, range(10**9), prefetch=8)
        assert [next(results) for _ in range(100)] == [2 * i for i in range(100)]
        assert not any(thread.name == "goproc-imap" for thread in threading.enumerate())
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
            with pytest.raises(TypeError, match="prefetch must be an int, not 'a'"):
                imap(targets.double, [1], prefetch="a")
    pool.join()


def test_buffersize():
    """The name of prefetch in Python 3.16, where it is the fourth argument."""
    with goproc.Pool(1) as pool:
        for imap in (pool.imap, pool.imap_unordered):
            assert list(imap(targets.double, range(9), 1, 2)) == [2 * i for i in range(9)]
            assert list(imap(targets.double, range(9), buffersize=None, prefetch=3)) == [2 * i for i in range(9)]
            with pytest.raises(ValueError, match="buffersize must be None or > 0"):
                imap(targets.double, [1], buffersize=0)
            with pytest.raises(TypeError, match="buffersize must be an integer or None"):
                imap(targets.double, [1], buffersize=2.0)
            with pytest.raises(TypeError, match="prefetch and buffersize"):
                imap(targets.double, [1], buffersize=2, prefetch=2)
    pool.join()


@pytest.mark.parametrize("chunksize", [1, 3])
def test_an_error_of_the_input_comes_after_the_results_before_it(context, chunksize):
    def items():
        yield from range(30)
        raise LookupError("no more")

    with context.Pool(2) as pool:
        results = pool.imap_unordered(targets.double, items(), chunksize)
        done = []
        with pytest.raises(LookupError, match="no more"):
            for result in results:
                done.append(result)
        assert sorted(done) == [2 * i for i in range(30)]
        assert list(results) == []


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


def test_no_result_is_taken_twice():
    """Threads that take turns after every step of the interpreter, and results that are all there already."""
    before = sys.getswitchinterval()
    with goproc.Pool(2) as pool:
        try:
            sys.setswitchinterval(1e-6)
            for _ in range(20):
                for imap in pool.imap, pool.imap_unordered:
                    results, taken, errors = imap(targets.double, range(300), prefetch=400), [], []

                    def take(results=results, taken=taken, errors=errors):
                        try:
                            for value in results:
                                taken.append(value)
                        except BaseException as error:
                            errors.append(error)

                    threads = [threading.Thread(target=take) for _ in range(4)]
                    for thread in threads:
                        thread.start()
                    for thread in threads:
                        thread.join(WAIT)
                    assert not errors
                    assert sorted(taken) == [2 * i for i in range(300)]
        finally:
            sys.setswitchinterval(before)
    pool.join()


def test_dropped_iterators(context):
    """Results that nobody takes are no burden: the pool goes on, and ends."""
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


class Sized:
    """An input with a length whose items come when somebody puts them there."""

    def __init__(self, count):
        self.count = count
        self.items = queue.SimpleQueue()

    def __len__(self):
        return self.count

    def __iter__(self):
        for _ in range(self.count):
            item = self.items.get()
            if isinstance(item, Exception):
                raise item
            yield item


@pytest.mark.parametrize("unordered", [False, True], ids=["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 2])
def test_an_input_with_a_length_that_waits_for_a_result(unordered, chunksize):
    """Such an input is no collection, so reading it may block: the thread that takes the results must not read it."""
    fed = Sized(12)
    with goproc.Pool(2) as pool:
        results = (pool.imap_unordered if unordered else pool.imap)(targets.double, fed, chunksize)
        for i in range(12 // chunksize):
            for n in range(chunksize):
                fed.items.put(i * chunksize + n)
            assert [results.next(WAIT) for _ in range(chunksize)] == [2 * (i * chunksize + n) for n in range(chunksize)]
        with pytest.raises(StopIteration):
            results.next(WAIT)
    pool.join()


@pytest.mark.parametrize("submit", ["map_async", "starmap_async"])
def test_an_asynchronous_map_does_not_wait_for_its_input(context, submit):
    fed = Sized(5)
    with context.Pool(2) as pool:
        if submit == "map_async":
            result, items = pool.map_async(targets.double, fed, 1), range(5)
        else:
            result, items = pool.starmap_async(targets.double, fed, 1), [(i,) for i in range(5)]
        assert not result.ready()
        for item in items:
            fed.items.put(item)
        assert result.get(WAIT) == [0, 2, 4, 6, 8]
        late = Sized(3)
        other = pool.map_async(targets.double, late, 1)
        assert not other.ready()
    pool.join()
    with pytest.raises(goproc.CancelledError):
        other.get(0)
    late.items.put(1)  # the thread that reads it ends


def test_a_closed_pool_reads_the_input_of_an_asynchronous_map():
    fed = Sized(5)
    pool = goproc.Pool(2)
    result = pool.map_async(targets.double, fed)
    pool.close()
    joiner = threading.Thread(target=pool.join)
    joiner.start()
    for item in range(5):
        fed.items.put(item)
    joiner.join(WAIT)
    assert not joiner.is_alive()
    assert result.get(0) == [0, 2, 4, 6, 8]


def test_an_asynchronous_map_whose_input_raises():
    fed = Sized(5)
    with goproc.Pool(2) as pool:
        result = pool.map_async(targets.double, fed, 1)
        fed.items.put(1)
        fed.items.put(ZeroDivisionError("an item"))
        with pytest.raises(ZeroDivisionError, match="an item"):
            result.get(WAIT)
        assert not pool._cache
    pool.join()


def test_an_asynchronous_map_that_is_cancelled_while_its_input_is_read():
    fed = Sized(5)
    with goproc.Pool(2) as pool:
        result = pool.map_async(targets.double, fed, 1)
        fed.items.put(1)
        assert result.cancel()
        with pytest.raises(goproc.CancelledError):
            result.get(WAIT)
        fed.items.put(2)
        assert pool.map(targets.double, range(3)) == [0, 2, 4]
        pool.close()
        pool.join()


@pytest.mark.parametrize("make", [list, set, dict.fromkeys, lambda items: dict.fromkeys(items).items()])
def test_a_collection_that_is_changed_while_its_results_are_taken(make):
    items = make(range(1000))
    expected = len(items)
    with goproc.Pool(2) as pool:
        results = pool.imap(targets.identity, items, prefetch=2)
        next(results)
        if isinstance(items, dict):
            items["more"] = 1
        elif isinstance(items, set):
            items.add("more")
        elif isinstance(items, list):
            items.clear()
        assert sum(1 for _ in results) == expected - 1
    pool.join()


@pytest.mark.parametrize("make", [list, iter], ids=["sequence", "iterator"])
@pytest.mark.parametrize("unordered", [False, True], ids=["imap", "imap_unordered"])
def test_large_arguments_bound_what_is_read(make, unordered, tmp_path):
    """Few of them are on their way at a time, and yet both workers have one and the next."""
    large = bytes(1 << 20)
    read = []

    def items():
        for number in range(60):
            read.append(number)
            yield (tmp_path / "release", large) if number < 2 else (tmp_path, large)

    with goproc.Pool(2) as pool:
        imap = pool.imap_unordered if unordered else pool.imap
        results = imap(targets.wait_for_file_of, make(list(items())) if make is list else items())
        with pytest.raises(goproc.TimeoutError):
            results.next(0.05)
        if make is iter:
            assert 2 <= len(read) <= 6
        (tmp_path / "release").touch()
        assert len([results.next(WAIT) for _ in range(60)]) == 60
    pool.join()


def test_large_arguments_do_not_wait_for_the_first_result(tmp_path):
    """While the first task runs the other worker does all others, though nobody can take their results."""
    large = bytes(1 << 20)
    items = [(tmp_path / "last", large)] + [(tmp_path, large)] * 40 + [(None, tmp_path / "last")]
    with goproc.Pool(2) as pool:
        for make in (list, iter):
            assert len(list(pool.imap(targets.wait_for_file_of, make(items)))) == 42
            (tmp_path / "last").unlink()
    pool.join()


def test_a_prefetch_that_is_asked_for_counts_tasks_only():
    large = bytes(1 << 20)
    endless = Counted(large)
    with goproc.Pool(1) as pool:
        results = pool.imap(len, endless, prefetch=20)
        with endless.grown:
            assert endless.grown.wait_for(lambda: endless.read >= 20, WAIT)
        assert results.next(WAIT) == 1 << 20
    pool.join()


@pytest.mark.parametrize("make", [list, iter], ids=["sequence", "iterator"])
@pytest.mark.parametrize("unordered", [False, True], ids=["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_an_iterator_that_nobody_holds(context, make, unordered, chunksize, tmp_path):
    """All of its input is run, as by multiprocessing, and then nobody holds the pool."""

    def begin():
        pool = context.Pool(2)
        items = make([tmp_path / str(i) for i in range(30)])
        results = (pool.imap_unordered if unordered else pool.imap)(targets.touch, items, chunksize, prefetch=2)
        assert results.next(WAIT) is None
        return weakref.ref(pool), list(pool._pool)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # for being dropped without having been closed
        pool, workers = begin()
        for worker in workers:
            worker.join(WAIT)
            assert worker.exitcode is not None
    assert len(list(tmp_path.iterdir())) == 30
    deadline = time.monotonic() + WAIT
    while pool() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
def test_results_of_a_dropped_iterator_are_not_kept():
    """The input may be endless. The pool can be used meanwhile, and ended."""
    with goproc.Pool(2) as pool:
        results = pool.imap(targets.double, itertools.count(), prefetch=4)
        iteration = results._iteration
        next(results)
        del results
        assert pool.map(targets.double, range(100)) == [2 * i for i in range(100)]
        deadline = time.monotonic() + WAIT
        while iteration._received < 500:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert not iteration._ready
    pool.join()


def test_what_an_iterator_is_made_for_is_let_go():
    """When all results have come, those that were not taken do not keep the pool, as with multiprocessing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        pool = goproc.Pool(1)
        results = pool.imap(targets.double, range(10))
        reference = weakref.ref(pool)
        del pool
        deadline = time.monotonic() + WAIT
        while reference() is not None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    assert list(results) == [2 * i for i in range(10)]
