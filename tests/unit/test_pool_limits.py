"""The limits of tasks and workers (time, memory, retries), and cancelling: no other task is affected."""

import itertools
import os
import signal
import sys
import threading

import numpy
import pool_targets as targets
import pytest

import goproc
from goproc import CancelledError, TaskTimeoutError, WorkerLostError
from goproc._pool.worker import own_memory

#: Seconds after which a test gives up waiting; and a task, for what ends it before.
SOON = 30
LONG = 3600


def outcome(get):
    """Return a result, or the type of the exception that it raises."""
    try:
        return get()
    except Exception as error:
        return type(error)


# --- time limits


def test_timeout(context):
    with context.Pool(2) as pool:
        pids = {process.pid for process in pool._pool}
        with pytest.raises(TaskTimeoutError) as caught:
            pool.apply(targets.sleep, (LONG,), timeout=0.2)
        error = caught.value
        assert (error.limit, error.function, error.argument) == (0.2, "sleep", str(LONG))
        assert error.pid in pids
        with pytest.raises(ProcessLookupError):
            os.kill(error.pid, 0)  # nothing of the task runs any more
        result = pool.apply_async(targets.sleep, (LONG,), timeout=0.1)
        others = [pool.apply_async(targets.double, (i,)) for i in range(100)]
        with pytest.raises(TaskTimeoutError):
            result.get(SOON)
        assert not result.successful()
        assert [other.get(SOON) for other in others] == [2 * i for i in range(100)]
        assert pool.apply(targets.double, (4,), timeout=LONG) == 8
        assert pool.apply(targets.double, (4,), timeout=float("inf")) == 8
        assert len(pool._pool) == 2 and not pids & {error.pid} & {process.pid for process in pool._pool}
    pool.join()


def test_timeout_of_a_computation_in_c(context):
    with context.Pool(1) as pool:
        with pytest.raises(TaskTimeoutError):
            pool.apply(targets.spin, timeout=0.1)
        assert pool.apply(targets.double, (1,)) == 2
    pool.join()


@pytest.mark.slow
def test_time_spent_waiting_does_not_count(tmp_path):
    with goproc.Pool(1) as pool:
        release = tmp_path / "release"
        pool.apply_async(targets.wait_for_file, (release,))
        results = [pool.apply_async(targets.sleep, (0.01, i), timeout=1) for i in range(200)]  # all of them take longer
        release.touch()
        assert [result.get(SOON) for result in results] == list(range(200))
    pool.join()


def test_timeout_belongs_to_one_task(tmp_path):
    """The tasks behind it in its worker have limits of their own, and still run."""
    with goproc.Pool(1) as pool:
        assert pool.map(targets.double, range(1000)) == [2 * i for i in range(1000)]  # so that it is given several
        started = tmp_path / "started"
        bad = pool.apply_async(targets.signal_and_wait, (started, tmp_path / "never"), timeout=0.5)
        results = [pool.apply_async(targets.identity, (i,), timeout=LONG) for i in range(50)]
        assert outcome(lambda: bad.get(SOON)) is TaskTimeoutError
        assert [result.get(SOON) for result in results] == list(range(50))
    pool.join()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exits", "stays"])
def test_a_worker_that_catches_sigterm(context, how, tmp_path):
    """The worker is killed if it goes on. Its reaction to the signal is not its task's result."""
    with context.Pool(1) as pool:
        started = tmp_path / "started"
        result = pool.apply_async(targets.catch_sigterm, (started, how), timeout=0.5 if how == "exits" else 0.1)
        assert outcome(lambda: result.get(SOON)) is TaskTimeoutError
        assert pool.apply(targets.double, (1,)) == 2
    pool.join()


@pytest.mark.slow
def test_task_timeout(context):
    """On a busy machine a task that does not sleep may take a second. So the limit is long, and calls wait together."""
    slow, limit = [(0, 1), (LONG, 2), (0, 3), (0, 4)], {"task_timeout": 3}
    with context.Pool(8) as pool:
        begun = [
            (imap, imap(targets.sleep_as_told, items(slow), **limit))
            for imap, items in itertools.product((pool.imap, pool.imap_unordered), (list, iter))
        ]
        starmapped = pool.starmap_async(targets.sleep, slow, **limit)
        mapped = pool.map_async(targets.sleep_as_told, slow, **limit)
        for call in (
            lambda: pool.starmap(targets.sleep, slow, **limit),
            lambda: starmapped.get(SOON),
            lambda: pool.map(targets.sleep_as_told, slow, **limit),
            lambda: mapped.get(SOON),
        ):
            with pytest.raises(TaskTimeoutError, match="sleep.*\\(.*\\), item 1 of the input, ran longer than"):
                call()
        assert pool.map(targets.sleep_as_told, [(0.01, i) for i in range(100)], task_timeout=5) == list(range(100))
        assert pool.map(targets.double, [], task_timeout=5) == []
        for imap, results in begun:
            got = [outcome(lambda: results.next(SOON)) for _ in range(4)]  # noqa: B023
            assert outcome(results.next) is StopIteration
            if imap == pool.imap:
                assert got == [1, TaskTimeoutError, 3, 4]
            else:
                assert set(got) == {1, TaskTimeoutError, 3, 4}
    pool.join()


@pytest.mark.slow
def test_task_timeout_is_of_a_chunk():
    """One item makes a chunk unless chunksize says something else."""
    with goproc.Pool(1) as pool:
        assert pool.map_async(targets.double, range(3), task_timeout=LONG)._chunks == 3
        assert pool.map_async(targets.double, range(3), 3, task_timeout=LONG)._chunks == 1
        with pytest.raises(TaskTimeoutError):
            pool.map(targets.sleep_as_told, [(0.05, i) for i in range(40)], 40, task_timeout=0.5)
        results = pool.imap(targets.sleep_as_told, [(0, 1), (0, 2), (LONG, 3), (0, 4), (0, 5)], 2, task_timeout=3)
        assert [outcome(lambda: results.next(SOON)) for _ in range(4)] == [1, 2, TaskTimeoutError, 5]
        assert list(results) == []
    pool.join()


def test_keyword_arguments_named_timeout():
    """The function's arguments are in kwds; the others are the pool's."""
    with goproc.Pool(1) as pool:
        kwds = {"timeout": 5, "task_timeout": 6}
        assert pool.apply(targets.collect_arguments, (1,), kwds) == ((1,), kwds)
        assert pool.apply_async(targets.collect_arguments, (), kwds, timeout=LONG).get(SOON) == ((), kwds)


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-1, ValueError), (float("nan"), ValueError), ("1", TypeError)]
)
def test_bad_limits(value, error):
    with goproc.Pool(1) as pool:
        for call in (
            lambda: pool.apply(targets.nothing, timeout=value),
            lambda: pool.apply_async(targets.nothing, timeout=value),
            lambda: pool.map(targets.double, [1], task_timeout=value),
            lambda: pool.starmap_async(targets.double, [1], task_timeout=value),
            lambda: pool.imap(targets.double, [1], task_timeout=value),
        ):
            with pytest.raises(error):
                call()
        assert pool._cache == {}


def test_a_limited_call_that_cannot_be_pickled():
    with goproc.Pool(1) as pool:
        with pytest.raises(targets.OwnError):
            pool.apply(targets.identity, (targets.Worn(),), timeout=0.1)
        assert pool.apply(targets.double, (1,)) == 2


def test_callback_of_a_timeout():
    errors = []
    with goproc.Pool(1) as pool:
        result = pool.apply_async(targets.sleep, (LONG,), error_callback=errors.append, timeout=0.1)
        assert outcome(lambda: result.get(SOON)) is TaskTimeoutError
        assert [type(error) for error in errors] == [TaskTimeoutError]
    pool.join()


@pytest.mark.slow
def test_limits_while_closing(context):
    pool = context.Pool(2)
    results = [pool.apply_async(targets.sleep, (LONG if i % 3 == 0 else 0, i), timeout=2) for i in range(6)]
    pool.close()
    pool.join()
    for i, result in enumerate(results):
        assert outcome(lambda: result.get(0)) == (TaskTimeoutError if i % 3 == 0 else i)  # noqa: B023


# --- cancelling


def test_cancel_of_a_running_task(context, tmp_path):
    with context.Pool(2) as pool:
        started = tmp_path / "started"
        result = pool.apply_async(targets.signal_and_wait, (started, tmp_path / "never"))
        targets.wait_for_file(started)
        others = [pool.apply_async(targets.double, (i,)) for i in range(50)]
        assert result.cancel() is True
        with pytest.raises(CancelledError, match="the task was cancelled"):
            result.get(SOON)
        assert result.ready() and not result.successful()
        assert result.cancel() is False
        assert [other.get(SOON) for other in others] == [2 * i for i in range(50)]
        assert pool.map(targets.double, range(10)) == [2 * i for i in range(10)]
    pool.join()


def test_cancel_of_tasks_that_wait(tmp_path):
    """They never begin, whether they are in the engine's queue, or in the worker that they were given to."""
    with goproc.Pool(1) as pool:
        assert pool.map(targets.double, range(1000)) == [2 * i for i in range(1000)]  # so that it is given several
        release, touched = tmp_path / "release", tmp_path / "touched"
        first = pool.apply_async(targets.wait_for_file, (release, "released"))
        (pid,) = [process.pid for process in pool._pool]
        results = [pool.apply_async(targets.spin, (touched,)) for _ in range(300)]
        last = pool.apply_async(targets.pid)
        assert [result.cancel() for result in results] == [True] * 300
        release.touch()
        assert first.get(SOON) == "released"
        assert last.get(SOON) == pid  # no worker was ended for it
        assert [outcome(result.get) for result in results] == [CancelledError] * 300
        assert not touched.exists()
    pool.join()


def test_cancel_of_what_is_complete():
    with goproc.Pool(1) as pool:
        result = pool.apply_async(targets.double, (1,))
        result.wait(SOON)
        assert result.cancel() is False
        assert result.get() == 2
        failed = pool.apply_async(targets.raise_own, (1,))
        failed.wait(SOON)
        assert failed.cancel() is False
        assert outcome(failed.get) is targets.OwnError
        empty = pool.map_async(targets.double, [])
        assert empty.cancel() is False and empty.get() == []
        left = pool.apply_async(targets.sleep, (LONG,))
    pool.join()
    assert left.cancel() is False
    assert outcome(left.get) is CancelledError


def test_cancel_of_a_map(context, tmp_path):
    with context.Pool(2) as pool:
        pool.map(targets.double, range(4))
        started = tmp_path / "started"
        calls = [(started, tmp_path / "never")] * 40
        result = pool.starmap_async(targets.signal_and_wait, calls, 2)
        targets.wait_for_file(started)
        assert result.cancel() is True
        assert outcome(lambda: result.get(SOON)) is CancelledError
        assert result.cancel() is False
        assert pool.map(targets.double, range(10)) == [2 * i for i in range(10)]
        # A task of it that has failed before does not change what get() raises.
        result = pool.starmap_async(targets.add, [(1, "x"), *[(1, 2)] * 10], 1)
        while result._success:
            result.wait(0.001)
        if result.cancel():
            assert outcome(lambda: result.get(SOON)) is CancelledError
        else:
            assert outcome(lambda: result.get(SOON)) is TypeError
    pool.join()


@pytest.mark.parametrize("unordered", [False, True], ids=["imap", "imap_unordered"])
@pytest.mark.parametrize("sized", [False, True], ids=["iterator", "list"])
@pytest.mark.parametrize("chunksize", [1, 2])
def test_cancel_of_an_imap(chunksize, sized, unordered, tmp_path):
    """Results that have come can be taken. Then next() raises once, and the iteration is over. No more is read."""
    with goproc.Pool(2) as pool:
        read = []

        def items():
            for i in range(8) if sized else itertools.count():
                read.append(i)
                yield (LONG if i >= 4 else 0, i)

        imap = pool.imap_unordered if unordered else pool.imap
        results = imap(targets.sleep_as_told, list(items()) if sized else items(), chunksize)
        got = {results.next(SOON) for _ in range(4)}
        assert got == {0, 1, 2, 3}
        assert results.cancel() is True
        assert outcome(lambda: results.next(SOON)) is CancelledError
        assert outcome(lambda: results.next(SOON)) is StopIteration
        assert results.cancel() is False
        assert pool.map(targets.double, range(10)) == [2 * i for i in range(10)]
        assert len(read) < 10_000
        done = imap(targets.double, [1, 2])
        assert sorted(done) == [2, 4]
        assert done.cancel() is False
        pool.close()
        pool.join()


@pytest.mark.slow
@pytest.mark.parametrize("sized", [False, True], ids=["iterator", "list"])
def test_cancel_of_an_imap_while_another_thread_collects(sized):
    """The other thread collects ends of withdrawn tasks: next() does not raise them a second time."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with goproc.Pool(2) as pool:
        other, stop = pool.apply_async(targets.sleep, (LONG,)), threading.Event()

        def look():
            while not stop.is_set():
                other.ready()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            for _ in range(50):
                items = [0] + [LONG] * 3
                results = pool.imap(targets.sleep, items if sized else iter(items))
                assert results.next(SOON) is None
                assert results.cancel() is True
                ends = [outcome(lambda: results.next(SOON)) for _ in range(2)]  # noqa: B023
                assert ends == [CancelledError, StopIteration]
        finally:
            stop.set()
            thread.join(SOON)
            sys.setswitchinterval(interval)


def test_cancel_by_another_thread(tmp_path):
    with goproc.Pool(1) as pool:
        result = pool.apply_async(targets.wait_for_file, (tmp_path / "never",))
        got = []
        waiter = threading.Thread(target=lambda: got.append(outcome(result.get)))
        waiter.start()
        iterator = pool.imap(targets.double, iter([1]))
        iterating = threading.Thread(target=lambda: got.append(outcome(iterator.next)))
        iterating.start()
        assert iterator.cancel() is True
        iterating.join(SOON)
        assert result.cancel() is True
        waiter.join(SOON)
        assert got == [CancelledError, CancelledError]
    pool.join()


def test_cancel_in_a_callback(tmp_path):
    with goproc.Pool(1) as pool:
        answers = []
        running = pool.apply_async(
            targets.wait_for_file, (tmp_path / "release",), callback=lambda _: answers.append(other.cancel())
        )
        other = pool.apply_async(targets.sleep, (LONG,), error_callback=lambda error: answers.append(type(error)))
        (tmp_path / "release").touch()
        assert running.get(SOON) is None
        assert outcome(lambda: other.get(SOON)) is CancelledError
        assert answers == [CancelledError, True] or answers == [True, CancelledError]
    pool.join()


@pytest.mark.slow
def test_cancels_limits_and_deaths_at_random(context):
    """Each result ends as expected, and is cancelled exactly if cancel() returned True."""
    with context.Pool(3, retries=1) as pool:
        results = []
        for i in range(400):
            if i % 40 == 7:
                results.append(pool.apply_async(targets.end_by_sigkill))
            elif i % 20 == 3:
                results.append(pool.apply_async(targets.sleep, (LONG, i), timeout=0.02))
            else:
                results.append(pool.apply_async(targets.sleep, (0.0005 * (i % 4), i), timeout=LONG))
        cancelled = {i for i in range(0, 400, 3) if results[i].cancel()}
        for i, result in enumerate(results):
            expected = CancelledError if i in cancelled else WorkerLostError if i % 40 == 7 else TaskTimeoutError
            if i not in cancelled and i % 40 != 7 and i % 20 != 3:
                expected = i
            assert outcome(lambda: result.get(SOON)) == expected  # noqa: B023
        assert pool.map(targets.double, range(10)) == [2 * i for i in range(10)]
    pool.join()


# --- tries


def test_retries(context, tmp_path):
    with context.Pool(2, retries=2) as pool:
        for times in (1, 2):
            assert pool.apply_async(targets.lose_worker, (tmp_path / f"{times}", times)).get(SOON) == (times, None)
        with pytest.raises(WorkerLostError):
            pool.apply_async(targets.lose_worker, (tmp_path / "3", 3)).get(SOON)
        assert len((tmp_path / "3").read_text()) == 3
        calls = [(tmp_path / f"map{i}", i % 3) for i in range(6)]
        assert pool.starmap(targets.lose_worker, calls, 1) == [(i % 3, None) for i in range(6)]
    pool.join()
    with context.Pool(1) as pool:
        with pytest.raises(WorkerLostError):
            pool.apply_async(targets.lose_worker, (tmp_path / "none", 1)).get(SOON)
    pool.join()


@pytest.mark.parametrize("kind", ["bytearray", "array"])
def test_retries_of_large_arguments(context, kind, tmp_path):
    """Each attempt gets the arguments as they were submitted, though the attempt before has changed them."""
    value = bytearray(b"\7") * (1 << 20) if kind == "bytearray" else numpy.full(1 << 17, 7.0)
    with context.Pool(1, retries=2) as pool:
        for i in range(4):
            result = pool.apply_async(targets.lose_worker, (tmp_path / f"{i}", 2, value))
            assert result.get(SOON) == (2, 7)
        # What is kept of an argument stays as it was, too.
        for i in range(4):
            assert pool.apply(
                targets.keep_and_return, (value * 0 + i if kind == "array" else bytearray([i]) * (1 << 20),)
            ) == list(range(i + 1))
    pool.join()


def test_memory_of_large_arguments_is_used_again():
    """Also when tasks may be run again: the memory is given back when the tasks are done."""
    with goproc.Pool(1, retries=1) as pool:
        for i in range(300):
            assert pool.apply(targets.describe, (bytearray([i % 256]) * (1 << 20),))[1:] == (
                1 << 20,
                True,
                i % 256,
                i % 256,
            )
        fd = engine_memory(pool)
        assert os.stat(fd).st_blocks * 512 < 50 << 20
    pool.join()


def engine_memory(pool):
    from goproc._common import engine

    return engine.call("PoolMemoryFD", pool._crew.number)


@pytest.mark.parametrize("value", [-1, 1.5, "1", None])
def test_bad_retries(value):
    with pytest.raises(ValueError, match="retries must be a non-negative int"):
        goproc.Pool(1, retries=value)


def test_a_cancelled_task_is_not_run_again(tmp_path):
    with goproc.Pool(1, retries=5) as pool:
        started = tmp_path / "started"
        result = pool.apply_async(targets.signal_and_wait, (started, tmp_path / "never"))
        targets.wait_for_file(started)
        started.unlink()
        assert result.cancel()
        assert outcome(lambda: result.get(SOON)) is CancelledError
        assert outcome(lambda: pool.apply(targets.sleep, (LONG,), timeout=0.1)) is TaskTimeoutError
        assert pool.apply(targets.double, (1,)) == 2
        assert not started.exists()
    pool.join()


# --- memory


def limit_of_memory():
    """256 MiB above what a forked worker inherits, which under the sanitizers is a lot."""
    return own_memory() + (256 << 20)


@pytest.mark.slow
def test_max_memory_per_child(context):
    limit = limit_of_memory()
    with context.Pool(1, max_memory_per_child=limit) as pool:
        first = pool.apply(targets.pid)
        assert [pool.apply(targets.allocate, (size,)) for size in (1, 1 << 20, 1 << 20)] == [first] * 3
        assert pool.apply(targets.allocate, (limit + (256 << 20),)) == first
        second = pool.apply(targets.pid)
        assert second != first
        assert pool.apply(targets.pid) == second
    pool.join()


def test_max_memory_of_a_busy_pool(context):
    """The tasks that such a worker has been given, and has not begun, run elsewhere; nobody needs to wait for it."""
    with context.Pool(2, max_memory_per_child=1) as pool:
        results = [pool.apply_async(targets.double, (i,)) for i in range(20)]
        assert [result.get(SOON) for result in results] == [2 * i for i in range(20)]
        assert len(set(pool.map(targets.pid, range(6), 1))) == 6
    pool.join()


def test_large_arguments_are_not_memory_of_the_worker():
    with goproc.Pool(1, max_memory_per_child=limit_of_memory()) as pool:
        large = numpy.zeros(40 << 20)
        first = pool.apply(targets.pid)
        assert pool.apply(targets.total, (large,)) == 0
        assert pool.apply(targets.pid) == first
    pool.join()


@pytest.mark.parametrize("value", [0, -1, 1.5, "1"])
def test_bad_max_memory(value):
    with pytest.raises(ValueError, match="max_memory_per_child must be a positive int or None"):
        goproc.Pool(1, max_memory_per_child=value)


def test_sigterm_by_somebody_else_is_a_loss():
    with goproc.Pool(1) as pool:
        with pytest.raises(WorkerLostError) as caught:
            pool.apply(os.kill, (pool._pool[0].pid, signal.SIGTERM), timeout=LONG)
        assert caught.value.signal == signal.SIGTERM
    pool.join()
