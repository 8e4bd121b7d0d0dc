"""Pool's methods, with each start method: their results, the order of the results, and how a pool ends."""

import copyreg
import gc
import operator
import os
import pickle
import time
import warnings
import weakref
from multiprocessing.reduction import ForkingPickler

import pool_targets as targets
import pytest
from helpers import THREADS_ARE_MEANT

import goproc
import goproc.pool


@pytest.fixture
def pool(context):
    """A pool of each start method, as a proxy: pytest keeps what a fixture yields, with its descriptors."""
    with context.Pool(2) as pool:
        yield weakref.proxy(pool)
    pool.join()


def test_apply(pool):
    assert pool.apply(targets.double, (21,)) == 42
    assert pool.apply(targets.add, (1,), {"b": 2, "c": 3}) == 6
    assert pool.apply(targets.nothing) is None
    assert pool.apply(targets.collect_arguments, [1, 2], {"a": 3}) == ((1, 2), {"a": 3})
    assert pool.apply(targets.pid) != os.getpid()


def test_apply_async(pool):
    results = [pool.apply_async(targets.double, (i,)) for i in range(500)]
    assert [result.get(30) for result in results] == [2 * i for i in range(500)]
    assert all(result.ready() and result.successful() for result in results)


def test_map(pool):
    assert pool.map(targets.double, range(1000)) == [2 * i for i in range(1000)]
    assert pool.map(targets.double, (i for i in range(7))) == [0, 2, 4, 6, 8, 10, 12]
    assert pool.map(targets.double, "ab") == ["aa", "bb"]
    assert pool.map(targets.double, {3: "x", 4: "y"}) == [6, 8]
    assert pool.map(targets.double, []) == []
    assert pool.map_async(targets.double, [5]).get(30) == [10]


@pytest.mark.parametrize("chunksize", [None, 1, 2, 7, 100, 10**6])
def test_chunksizes(chunksize):
    with goproc.Pool(3) as pool:
        doubled = [2 * i for i in range(100)]
        assert pool.map(targets.double, range(100), chunksize) == doubled
        assert pool.starmap(targets.add, [(i, i) for i in range(100)], chunksize) == doubled
        if chunksize is not None:
            assert list(pool.imap(targets.double, range(100), chunksize)) == doubled
            assert sorted(pool.imap_unordered(targets.double, iter(range(100)), chunksize)) == doubled


def test_chunksizes_that_are_none():
    with goproc.Pool(1) as pool:
        assert pool.map(targets.double, [], 0) == [] == pool.map(targets.double, (), -1)
        for chunksize in (0, -1):
            with pytest.raises(ValueError, match=f"Chunksize must be 1\\+, not {chunksize}"):
                pool.map(targets.double, [1], chunksize)
        for chunksize in (2.0, "2"):
            with pytest.raises(TypeError):
                pool.map(targets.double, [1, 2], chunksize)
        assert not pool._cache
        pool.close()
        pool.join()


def test_arguments_that_are_none(pool):
    """The call is what it would be here, and fails as it would here."""
    for kwds, name in ((None, "NoneType"), (True, "bool"), (False, "bool"), (5, "int"), ([1], "list")):
        with pytest.raises(TypeError, match=rf"after \*\* must be a mapping, not {name}"):
            pool.apply(targets.add, (1,), kwds)
    with pytest.raises(TypeError, match=r"after \* must be an iterable, not int"):
        pool.apply_async(targets.add, 5).get(30)
    with pytest.raises(TypeError, match="cannot pickle 'generator' object"):
        pool.apply_async(targets.add, (i for i in (1, 2))).get(30)
    assert pool.apply(targets.add, targets.OneAndTwo()) == 3


@pytest.mark.parametrize("func", ["abs", 5, None, [abs]])
def test_functions_that_are_none(pool, func):
    for call in (
        lambda: pool.apply(func, (1,)),
        lambda: pool.map(func, [1, 2]),
        lambda: pool.starmap(func, [(1,)], 1),
        lambda: next(pool.imap(func, [1, 2])),
    ):
        with pytest.raises(TypeError, match=f"'{type(func).__name__}' object is not callable"):
            call()


def test_iterables_that_are_none():
    with goproc.Pool(1) as pool:
        for call in (pool.map, pool.starmap):
            with pytest.raises(TypeError, match="'int' object is not iterable"):
                call(targets.double, 5)
        for imap in (pool.imap, pool.imap_unordered):
            for chunksize in (1, 2):
                results = imap(targets.double, 5, chunksize)
                with pytest.raises(TypeError, match="'int' object is not iterable"):
                    next(results)
                assert list(results) == []


def test_progress_that_is_read_from_private_attributes(pool):
    """As many programs do. Nobody waits for a result meanwhile."""

    def ends(count):
        deadline = time.monotonic() + 30
        while count() and time.monotonic() < deadline:
            time.sleep(0.001)
        return count() == 0

    mapped = pool.map_async(targets.double, range(100), chunksize=1)
    assert ends(lambda: mapped._number_left)
    results = [pool.apply_async(targets.double, (i,)) for i in range(10)]
    assert ends(lambda: len(pool._cache))
    assert [result.get(0) for result in results] == [2 * i for i in range(10)]


def test_a_chunk_runs_in_one_worker():
    with goproc.Pool(4) as pool:
        pids = pool.map(targets.pid, range(40), chunksize=10)
        assert all(len(set(pids[at : at + 10])) == 1 for at in range(0, 40, 10))


def test_starmap(pool):
    assert pool.starmap(targets.add, [(1, 2), (3, 4), (5,)]) == [3, 7, 5]
    assert pool.starmap(operator.pow, zip(range(5), [2] * 5, strict=True)) == [0, 1, 4, 9, 16]
    assert pool.starmap_async(targets.add, [(1, 1)], chunksize=1).get(30) == [2]
    assert pool.starmap(targets.add, []) == []
    with pytest.raises(TypeError):
        pool.starmap(targets.add, [(1, 2), 3])


def test_imap(pool):
    assert list(pool.imap(targets.double, range(300))) == [2 * i for i in range(300)]
    assert sorted(pool.imap_unordered(targets.double, range(300))) == [2 * i for i in range(300)]
    assert list(pool.imap(targets.double, [])) == []
    assert list(pool.imap_unordered(targets.double, iter(()))) == []
    results = pool.imap(targets.double, [1, 2])
    assert iter(results) is results
    assert (next(results), results.next(), next(results, None), next(results, None)) == (2, 4, None, None)
    assert results.__next__.__func__ is results.next.__func__


def test_work_is_shared_out(tmp_path):
    """A task that waits for another one ends: the two run in different workers."""
    with goproc.Pool(2) as pool:
        waiting = pool.apply_async(targets.wait_for_file, (tmp_path / "done", "waited"))
        assert pool.map(targets.double, range(50), chunksize=1) == [2 * i for i in range(50)]
        (tmp_path / "done").touch()
        assert waiting.get(30) == "waited"


def test_results_before_they_are_there(tmp_path, pool):
    started, release = tmp_path / "started", tmp_path / "release"
    result = pool.apply_async(targets.signal_and_wait, (started, release, "value"))
    mapped = pool.map_async(targets.wait_for_file, [release] * 3, chunksize=1)
    targets.wait_for_file(started)
    for pending in (result, mapped):
        assert not pending.ready()
        with pytest.raises(ValueError, match="not ready"):
            pending.successful()
        for timeout in (0, 0.01, -1):
            with pytest.raises(goproc.TimeoutError):
                pending.get(timeout)
        assert pending.wait(0.01) is None
    release.touch()
    result.wait()
    assert result.ready() and result.successful() and result.get(0) == "value"
    assert mapped.get() == [None] * 3
    assert mapped.successful()


def test_timeouts_of_imap(tmp_path):
    with goproc.Pool(2) as pool:
        for imap in (pool.imap, pool.imap_unordered):
            release = tmp_path / imap.__name__
            results = imap(targets.wait_for_file, [release])
            for timeout in (0, 0.01):
                with pytest.raises(goproc.TimeoutError):
                    results.next(timeout)
            release.touch()
            assert results.next(30) is None
            with pytest.raises(StopIteration):
                results.next(0)


def test_order(tmp_path):
    """imap gives results in the order of the input, imap_unordered in that of their arrival."""
    with goproc.Pool(2) as pool:
        items = [(targets.wait_for_file, tmp_path / "release", "slow"), (targets.identity, "fast", None)]
        ordered = pool.imap(_call, items)
        unordered = pool.imap_unordered(_call, [items[1]])
        assert next(unordered) == "fast"
        with pytest.raises(goproc.TimeoutError):
            ordered.next(0.01)
        (tmp_path / "release").touch()
        assert list(ordered) == ["slow", "fast"]
        (tmp_path / "release").unlink()
        results = pool.imap_unordered(_call, items)
        assert next(results) == "fast"
        (tmp_path / "release").touch()
        assert next(results) == "slow"


def _call(item):
    function, argument, value = item
    return function(argument) if value is None else function(argument, value)


def test_initializer(context):
    with context.Pool(2, targets.set_state, ("a", [1])) as pool:
        assert pool.map(targets.get_state, range(10)) == [("a", [1])] * 10
    pool.join()
    with context.Pool(1, initializer=targets.set_state) as pool:
        assert pool.apply(targets.get_state) == ()


@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_maxtasksperchild(context, tasks):
    with context.Pool(2, maxtasksperchild=tasks) as pool:
        pids = pool.map(targets.pid, range(10), chunksize=1)
        assert max(pids.count(pid) for pid in pids) <= tasks
        assert len(set(pids)) >= 10 // tasks
        assert pool.map(targets.double, range(10)) == [2 * i for i in range(10)]  # a chunk is one task
        results = [pool.apply_async(targets.double, (i,)) for i in range(10)]
        assert [result.get(30) for result in results] == [2 * i for i in range(10)]
    pool.join()


def test_number_of_processes(monkeypatch):
    with goproc.Pool() as pool:
        assert len(pool._pool) == pool._processes == goproc.usable_cpu_count()
    with goproc.Pool(5) as pool:
        assert len({process.pid for process in pool._pool}) == 5
        assert all(process.daemon and "PoolWorker" in process.name for process in pool._pool)
        assert all(process in goproc.active_children() for process in pool._pool)


def test_close_and_join(tmp_path, context):
    pool = context.Pool(2)
    results = [pool.apply_async(targets.wait_for_file, (tmp_path / "release", i)) for i in range(6)]
    processes = list(pool._pool)
    pool.close()
    pool.close()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply_async(targets.double, (1,))
    (tmp_path / "release").touch()
    pool.join()
    pool.join()
    assert [result.get(0) for result in results] == list(range(6))
    assert [process.exitcode for process in processes] == [0, 0]
    pool.terminate()
    pool.join()


def test_terminate(tmp_path, context):
    pool = context.Pool(2)
    started = tmp_path / "started"
    running = pool.apply_async(targets.signal_and_wait, (started, tmp_path / "never"))
    queued = [pool.apply_async(targets.wait_for_file, (tmp_path / "never",)) for _ in range(5)]
    mapped = pool.map_async(targets.wait_for_file, [tmp_path / "never"] * 5)
    iterated = pool.imap(targets.wait_for_file, [tmp_path / "never"] * 5)
    targets.wait_for_file(started)
    processes = list(pool._pool)
    pool.terminate()
    pool.join()
    assert all(process.exitcode is not None for process in processes)
    for result in (running, mapped, *queued):
        assert result.ready() and not result.successful()
        with pytest.raises(goproc.CancelledError):
            result.get()
    for _ in range(5):
        with pytest.raises(goproc.CancelledError):
            next(iterated)
    with pytest.raises(StopIteration):
        next(iterated)
    pool.terminate()
    pool.close()
    pool.join()


def test_results_survive_their_pool(context):
    with context.Pool(2) as pool:
        done = pool.apply_async(targets.double, (1,))
        failed = pool.apply_async(targets.raise_own, (1,))
        mapped = pool.map_async(targets.double, [1, 2])
        done.wait(), failed.wait(), mapped.wait()
    pool.join()
    assert (done.get(), mapped.get()) == (2, [2, 4])
    with pytest.raises(targets.OwnError):
        failed.get()


def test_a_worker_that_ignores_sigterm_is_killed(monkeypatch, tmp_path):
    monkeypatch.setattr("goproc._pool.crew.GRACE", 0.05)
    pool = goproc.Pool(1)
    pool.apply(targets.ignore_sigterm)
    process = pool._pool[0]
    pool.apply_async(targets.spin, (tmp_path / "begun",))
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    pool.terminate()
    pool.join()
    assert process.exitcode == -9


def test_a_worker_that_ignores_sigterm_of_a_pool_that_cannot_be_made(monkeypatch, tmp_path):
    monkeypatch.setattr("goproc._pool.crew.GRACE", 0.05)
    processes = []

    def refuse():
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        raise BlockingIOError

    class Pool(goproc.pool.Pool):
        @staticmethod
        def Process(context, *args, **kwds):
            processes.append(context.Process(*args, **kwds))
            if len(processes) == 2:
                processes[1].start = refuse
            return processes[-1]

    with pytest.raises(BlockingIOError):
        Pool(2, targets.spin_regardless, (tmp_path / "begun",), context=goproc.get_context("fork"))
    assert processes[0].exitcode == -9


@THREADS_ARE_MEANT
def test_a_forked_child_cannot_end_its_parents_pool(context):
    with context.Pool(2) as pool:
        workers = set(pool._pool)
        pool.map(targets.double, range(4))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with pool:
                    pass
                pool.join()
            except AssertionError as error:
                status = str(error) != "can only join a child process"
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert pool.map(targets.double, range(4)) == [0, 2, 4, 6]
        assert set(pool._pool) == workers


def test_context_manager():
    with goproc.Pool(1) as pool:
        assert pool.__enter__() is pool
    with pytest.raises(ValueError, match="Pool not running"):
        pool.__enter__()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.map(targets.double, [1])
    pool.join()
    with pytest.raises(targets.OwnError):
        with goproc.Pool(1):
            raise targets.OwnError("in the block")


def test_repr_and_type():
    pool = goproc.Pool(3)
    assert repr(pool) == f"<{goproc.pool.Pool.__module__}.Pool state=RUN pool_size=3>"  # install() gives it another one
    pool.close()
    assert "state=CLOSE" in repr(pool)
    pool.terminate()
    assert "state=TERMINATE" in repr(pool)
    assert isinstance(pool, goproc.pool.Pool)
    assert goproc.pool.AsyncResult is goproc.pool.ApplyResult
    with pytest.raises(NotImplementedError, match="pool objects cannot be passed between processes or pickled"):
        pickle.dumps(pool)


def test_results_cannot_be_pickled(context, tmp_path):
    """While their tasks run: the error is that of pools, as with multiprocessing."""
    with context.Pool(1) as pool:
        pending = [pool.apply_async(targets.wait_for_file, (str(tmp_path / "go"),))]
        pending += [pool.map_async(abs, [1]), pool.imap(abs, [1]), pool.imap_unordered(abs, iter([1]))]
        for result in pending:
            with pytest.raises(NotImplementedError, match="pool objects cannot be passed between processes or pickled"):
                pickle.dumps(result)
            with pytest.raises(NotImplementedError, match="pool objects cannot be passed between processes or pickled"):
                pool.apply_async(abs, (result,)).get()
        (tmp_path / "go").touch()


def test_dropped_without_close(context):
    pool = context.Pool(2)
    assert pool.apply(targets.double, (1,)) == 2
    processes, reference = list(pool._pool), weakref.ref(pool)
    with pytest.warns(
        ResourceWarning, match=r"unclosed running multiprocessing pool <\w+.pool.Pool state=RUN pool_size=2>"
    ):
        del pool
        gc.collect()
    assert reference() is None
    for process in processes:
        process.join(10)
        assert process.exitcode is not None


def test_dropped_after_close():
    pool = goproc.Pool(1)
    processes, reference = list(pool._pool), weakref.ref(pool)
    pool.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del pool
        gc.collect()
    assert reference() is None
    processes[0].join(10)
    assert processes[0].exitcode is not None


def test_kept_while_results_are_outstanding(tmp_path):
    """A program that holds a result need not hold its pool."""
    result = goproc.Pool(1).apply_async(targets.wait_for_file, (tmp_path / "release", 5))
    gc.collect()
    (tmp_path / "release").touch()
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        assert result.get(30) == 5
        del result
        gc.collect()


def test_the_first_pool_of_a_program(run_script):
    run_script(
        "-c", "import goproc\nwith goproc.get_context('fork').Pool(2) as p: assert p.map(abs, [-1, 2]) == [1, 2]"
    )


def test_no_thread_and_no_leftover_time():
    """A pool whose calls all wait starts no Python thread."""
    import threading

    before = threading.enumerate()
    with goproc.Pool(2) as pool:
        pool.map(targets.double, range(100))
        assert threading.enumerate() == before
        begun = time.monotonic()
    pool.join()
    assert time.monotonic() - begun < 4  # less than the grace period of a worker that has to be killed


@pytest.fixture
def no_reducer():
    yield
    ForkingPickler._extra_reducers.pop(targets.Plain, None)
    copyreg.dispatch_table.pop(targets.Plain, None)


def test_a_reducer_that_an_initializer_registers(context):
    with context.Pool(1, targets.register) as pool:
        assert pool.apply(targets.Plain, (1,)) == ("reduced", 1)


def test_reducers_that_are_registered_while_there_is_a_pool(context, no_reducer):
    with context.Pool(1) as pool:
        assert pool.apply(targets.pickled_as, (targets.Plain(1),)) == "Plain"
        copyreg.pickle(targets.Plain, lambda plain: (targets.reduced, (plain.value,)))
        assert pool.apply(targets.pickled_as, (targets.Plain(2),)) == ("reduced", 2)
        targets.register(targets.again)
        assert pool.map(targets.pickled_as, [targets.Plain(3)]) == [("again", 3)]
        targets.register()
        assert pool.apply(targets.pickled_as, (targets.Plain(4),)) == ("reduced", 4)
        del ForkingPickler._extra_reducers[targets.Plain], copyreg.dispatch_table[targets.Plain]
        assert pool.apply(targets.pickled_as, (targets.Plain(5),)) == "Plain"
        assert pool.apply(targets.register) is None
        assert pool.apply(targets.Plain, (6,)) == ("reduced", 6)


REGISTERS = """
import pool_targets as targets
import goproc

targets.register()

if __name__ == "__main__":
    with goproc.get_context("{method}").Pool(1) as pool:
        print(*pool.apply(targets.Plain, (1,)))
"""


def test_a_reducer_that_the_main_module_registers(run_script, method, tmp_path):
    (tmp_path / "program.py").write_text(REGISTERS.format(method=method))
    done = run_script(tmp_path / "program.py", PYTHONPATH=os.path.dirname(targets.__file__))
    assert done.stdout == "reduced 1\n"


def test_a_result_that_is_a_connection(context):
    with context.Pool(1) as pool:
        with pool.apply(targets.make_connection) as connection:
            assert connection.recv() == "hello"
        pool.close()
        pool.join()  # a worker that is terminated leaves the folder of its resource sharer, as with multiprocessing
