"""retry_on= and retry_delay=: which tasks are run again, how often, and after which pauses."""

import functools
import os
import signal
import threading

import limit_targets as targets
import pytest
from helpers import wait_until

import goproc

Passing, Lasting = targets.Passing, targets.Lasting


def notes_of(error):
    return [note for note in getattr(error, "__notes__", ()) if "tried" in note]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "attempts"


def test_an_exception_passes(context, path):
    with context.Pool(2, retries=2, retry_on=Passing) as pool:
        assert pool.apply(targets.fail_until, (path, 3)) == 3


def test_it_does_not_pass(context, path):
    with context.Pool(2, retries=2, retry_on=(KeyError, ValueError)) as pool:
        with pytest.raises(Passing) as raised:
            pool.apply(targets.fail_until, (path, 9))
        assert raised.value.args == (3,)  # the last one
        assert len(targets.times(path)) == 3
        if hasattr(raised.value, "__notes__"):
            assert notes_of(raised.value) == ["goproc: tried 3 times"]


def test_other_exceptions_are_not_tried_again(context, path):
    with context.Pool(1, retries=5, retry_on=Passing) as pool:
        with pytest.raises(Lasting) as raised:
            pool.apply(targets.fail_until, (path, 3, Lasting))
        assert not notes_of(raised.value)
    assert len(targets.times(path)) == 1


def test_lost_workers_are_tried_again_too(context, path):
    with context.Pool(1, retries=2, retry_on=Passing, retry_delay=0.01) as pool:
        assert pool.apply(targets.end_until, (path, 3)) == 3
    path.unlink()
    with context.Pool(1, retries=1, retry_on=Passing) as pool, pytest.raises(goproc.WorkerLostError):
        pool.apply(targets.end_until, (path, 3))


def test_delay_without_retry_on(context, path):
    with context.Pool(1, retries=2, retry_delay=0.1) as pool:
        assert pool.apply(targets.end_until, (path, 3)) == 3
        first, second, third = targets.times(path)
        assert second - first >= 0.1 and third - second >= 0.2
        path.unlink()
        with pytest.raises(Passing):
            pool.apply(targets.fail_until, (path, 3))


@pytest.mark.slow
def test_time_limits(context, path):
    """On a busy machine an attempt may reach its limit before the function is called, or while it returns."""
    asked = []
    with context.Pool(1, retries=50, retry_on=goproc.TaskTimeoutError) as pool:
        assert pool.apply(targets.hang_until, (path, 3), timeout=0.3) >= 3
    options = {"retry_on": goproc.TaskTimeoutError, "retry_delay": lambda attempt: asked.append(attempt) or 0.01}
    with context.Pool(1, retries=2, **options) as pool, pytest.raises(goproc.TaskTimeoutError):
        pool.apply(targets.hang_until, (path, 99), timeout=0.2)
    assert asked == [1, 2]


def test_memory_limits(context, path):
    with context.Pool(1, retries=1, retry_on=goproc.MemoryLimitError, max_memory_per_task=64 << 20) as pool:
        assert pool.apply(targets.swell_until, (path, 2)) == 2


def test_pauses(context, path):
    with context.Pool(1, retries=3, retry_on=Passing, retry_delay=0.05) as pool:
        assert pool.apply(targets.fail_until, (path, 4)) == 4
    times = targets.times(path)
    pauses = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert len(pauses) == 3
    assert all(pause >= least for pause, least in zip(pauses, [0.05, 0.1, 0.2], strict=True))


def test_a_function_for_pauses(path):
    asked = []

    def delay(attempt):
        asked.append(attempt)
        return 0.01

    with goproc.Pool(1, retries=3, retry_on=Passing, retry_delay=delay) as pool:
        assert pool.apply(targets.fail_until, (path, 3)) == 3
    assert asked == [1, 2]


def exit_instead(attempt):
    raise SystemExit(attempt)


@pytest.mark.parametrize("delay", [lambda attempt: 1 / 0, exit_instead, lambda attempt: "soon"])
def test_a_function_that_raises(path, delay):
    with goproc.Pool(1, retries=3, retry_on=Passing, retry_delay=delay) as pool:
        with pytest.raises(Passing):
            pool.apply(targets.fail_until, (path, 3))
        assert pool.apply(abs, (-1,)) == 1


@pytest.mark.parametrize("delay", [0, 0.05])
def test_maps_keep_their_order(context, tmp_path, delay):
    with context.Pool(2, retries=2, retry_on=Passing, retry_delay=delay) as pool:
        items = [(tmp_path, i) for i in range(6)]
        assert pool.starmap(targets.fail_item, items) == list(range(6))
        (tmp_path / "attempts").unlink()
        assert pool.starmap(targets.fail_item, items, chunksize=3) == list(range(6))
        (tmp_path / "attempts").unlink()
        part = functools.partial(targets.fail_item, tmp_path)
        assert list(pool.imap(part, range(6))) == list(range(6))
        (tmp_path / "attempts").unlink()
        assert sorted(pool.imap_unordered(part, range(6))) == list(range(6))


@pytest.mark.parametrize("chunksize", [None, 1, 3])
@pytest.mark.parametrize("delay", [0, 0.05])
def test_exceptions_as_results(context, tmp_path, chunksize, delay):
    options = {"chunksize": chunksize, "return_exceptions": True}
    with context.Pool(2, retries=2, retry_on=Passing, retry_delay=delay) as pool:
        items = [(tmp_path, i) for i in range(6)]
        assert pool.starmap(targets.fail_item, items, **options) == list(range(6))
        (tmp_path / "attempts").unlink()
        results = pool.starmap(targets.fail_item, items, retries=1, **options)
        assert isinstance(results.pop(2), Passing) and results == [0, 1, 3, 4, 5]
        results = pool.starmap(targets.fail_until, [(tmp_path / "lasting", 3, Lasting)], **options)
        assert isinstance(results[0], Lasting) and len(targets.times(tmp_path / "lasting")) == 1


def test_exceptions_as_results_that_do_not_pass(tmp_path):
    counts = []
    with goproc.Pool(1, retries=2, retry_on=Passing) as pool:
        failed, worked = pool.starmap(
            targets.fail_until,
            [(tmp_path / "attempts", 9), (tmp_path / "other", 1)],
            return_exceptions=True,
            progress=lambda done, total: counts.append(done),
        )
    assert failed.args == (3,) and worked == 1
    assert len(targets.times(tmp_path / "attempts")) == 3 and len(targets.times(tmp_path / "other")) == 1
    assert counts == sorted(counts) and counts[-1] == 2
    if hasattr(failed, "__notes__"):
        assert notes_of(failed) == ["goproc: tried 3 times"]


def test_an_exception_that_is_returned_is_a_result(path):
    with goproc.Pool(1, retries=2, retry_on=Passing) as pool:
        [result] = pool.starmap(targets.return_exception, [(path,)], return_exceptions=True)
    assert isinstance(result, Passing) and len(targets.times(path)) == 1


def test_callbacks_are_called_once(path):
    called = []
    with goproc.Pool(1, retries=2, retry_on=Passing, retry_delay=0.01) as pool:
        pool.apply_async(targets.fail_until, (path, 3), callback=called.append, error_callback=called.append).wait(60)
        pool.apply_async(
            targets.fail_until, (path.with_name("other"), 9), callback=called.append, error_callback=called.append
        ).wait(60)
    assert called[0] == 3 and isinstance(called[1], Passing) and len(called) == 2


def test_close_and_join_wait_for_pauses(context, path):
    pool = context.Pool(1, retries=2, retry_on=Passing, retry_delay=0.1)
    result = pool.apply_async(targets.fail_until, (path, 3))
    pool.close()
    pool.join()
    assert result.get(0) == 3


def test_cancel_during_a_pause(context, path):
    with context.Pool(1, retries=2, retry_on=Passing, retry_delay=600) as pool:
        result = pool.apply_async(targets.fail_until, (path, 3))
        wait_until(lambda: path.exists() and pool._dispatch.retrying._paused)
        assert result.cancel()
        with pytest.raises(goproc.CancelledError):
            result.get(60)
        assert pool.apply(abs, (-1,)) == 1
    pool.join()
    assert len(targets.times(path)) == 1


def test_the_end_of_the_pool_during_a_pause(context, path):
    pool = context.Pool(1, retries=2, retry_on=Passing, retry_delay=600)
    result = pool.apply_async(targets.fail_until, (path, 3))
    wait_until(lambda: path.exists() and pool._dispatch.retrying._paused)
    pool.terminate()
    pool.join()
    with pytest.raises(goproc.CancelledError):
        result.get(60)


def test_withdrawn_tasks_are_not_tried_again(context, path):
    with context.Pool(1, retries=9, retry_on=BaseException) as pool:
        running = pool.apply_async(targets.hang, (path,))
        waiting = pool.apply_async(abs, (-1,))
        wait_until(path.exists)
        assert waiting.cancel() and running.cancel()
        for result in running, waiting:
            with pytest.raises(goproc.CancelledError):
                result.get(60)
        again = pool.apply_async(targets.hang, (path,))
    with pytest.raises(goproc.CancelledError):
        again.get(60)


def test_workers_that_cannot_begin(path):
    """All tasks fail, also those that pause, and the executor ends."""
    with goproc.futures.ProcessPoolExecutor(1, goproc.get_context("fork")) as executor:
        patient = executor.with_options(retries=2, retry_on=Passing, retry_delay=600)
        future = patient.submit(targets.fail_until, path, 3)
        wait_until(lambda: path.exists() and executor._works.dispatch.retrying._paused)
        executor._works._break(ValueError("for a test"))
        with pytest.raises(goproc.futures.BrokenProcessPool):
            future.result(60)


def test_arguments_are_those_of_the_submission(context, path):
    import numpy

    array = numpy.ones(1 << 16)
    with context.Pool(1, retries=2, retry_on=Passing, retry_delay=0.1) as pool:
        result = pool.apply_async(targets.sum_until, (path, 3, array))
        array[:] = 7
        assert result.get(60) == 1 << 16


def test_many_tasks(context, tmp_path):
    with context.Pool(2, retries=1, retry_on=Passing, retry_delay=0.001) as pool:
        results = [pool.apply_async(targets.fail_until, (tmp_path / str(i), 2)) for i in range(100)]
        assert [result.get(60) for result in results] == [2] * 100
        assert not pool._dispatch.retrying._kept and not pool._feeders


def test_executors(context, path):
    with goproc.futures.ProcessPoolExecutor(2, context) as executor:
        patient = executor.with_options(retries=2, retry_on=Passing, retry_delay=0.05)
        assert patient.submit(targets.fail_until, path, 3).result(60) == 3
        path.unlink()
        with pytest.raises(Passing):
            executor.submit(targets.fail_until, path, 3).result(60)
        path.unlink()
        assert list(patient.map(targets.fail_item, [path.parent] * 4, range(4))) == list(range(4))
        path.unlink()
        last = patient.submit(targets.fail_until, path, 3)
    assert last.result(0) == 3  # the end of the block waits for it


def test_an_executor_that_ends_during_a_pause(context, path):
    executor = goproc.futures.ProcessPoolExecutor(1, context)
    future = executor.with_options(retries=2, retry_on=Passing, retry_delay=600).submit(targets.fail_until, path, 3)
    wait_until(lambda: path.exists() and executor._works.dispatch.retrying._paused)
    executor.shutdown(cancel_futures=True)
    assert future.cancelled()


def test_a_call_that_fails_while_the_executor_ends(context, path, tmp_path):
    executor = goproc.futures.ProcessPoolExecutor(1, context)
    patient = executor.with_options(retries=2, retry_on=Passing, retry_delay=600)
    future = patient.submit(targets.begin_and_fail, path, tmp_path / "release")
    wait_until(path.exists)
    executor.shutdown(wait=False, cancel_futures=True)
    (tmp_path / "release").touch()
    with pytest.raises(Passing):  # it is not run again
        future.result(60)
    executor.shutdown()


@pytest.mark.parametrize(
    "options, error, text",
    [
        ({"retry_on": ValueError}, ValueError, "retries must say how often"),
        ({"retry_delay": 1}, ValueError, "retries must say how often"),
        ({"retries": "3"}, ValueError, "retries must be a non-negative int, not '3'"),
        ({"retries": True}, TypeError, "retries must be a non-negative int, not True"),
        ({"retries": 1, "retry_delay": True}, TypeError, "retry_delay must be a number of seconds"),
        ({"retries": 1, "retry_on": 3}, TypeError, "retry_on must be a type"),
        ({"retries": 1, "retry_on": (ValueError, "x")}, TypeError, "retry_on must be a type"),
        ({"retries": 1, "retry_on": ValueError("x")}, TypeError, "retry_on must be a type"),
        ({"retries": 1, "retry_delay": -1}, ValueError, "retry_delay must be at least 0"),
        ({"retries": 1, "retry_delay": float("nan")}, ValueError, "retry_delay must be at least 0"),
        ({"retries": 1, "retry_delay": "soon"}, TypeError, "retry_delay must be a number"),
    ],
)
def test_wrong_values(options, error, text):
    with pytest.raises(error, match=text):
        goproc.Pool(1, **options)
    with goproc.futures.ProcessPoolExecutor(1) as executor, pytest.raises(error, match=text):
        executor.with_options(**options)


# cancel_on_interrupt=


def interrupt_when(condition):
    """Send this process SIGINT when condition() is true. It must become true where KeyboardInterrupt is expected."""

    def wait():
        wait_until(condition)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


WAITS = {
    "map": lambda pool, path: pool.starmap(targets.hang, [(path,)] * 4, 1),
    "map with progress": lambda pool, path: pool.starmap(
        targets.hang, [(path,)] * 4, 1, progress=lambda done, total: None
    ),
    "imap with progress": lambda pool, path: next(
        pool.imap(targets.hang, [path] * 4, progress=lambda done, total: None)
    ),
    "apply": lambda pool, path: pool.apply(targets.hang, (path,)),
    "get": lambda pool, path: pool.starmap_async(targets.hang, [(path,)] * 4).get(60),
    "imap": lambda pool, path: next(pool.imap(targets.hang, [path] * 4)),
    "imap with chunks": lambda pool, path: next(pool.imap_unordered(targets.hang, [path] * 4, 2)),
}


@pytest.mark.parametrize("waits", WAITS)
def test_an_interrupt_cancels(context, path, waits):
    with context.Pool(2, cancel_on_interrupt=True) as pool:
        thread = interrupt_when(path.exists)
        with pytest.raises(KeyboardInterrupt):
            WAITS[waits](pool, path)
        thread.join()
        assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]  # it would hang if both workers still ran the tasks
        assert not pool._results


def test_by_default_an_interrupt_does_not_cancel(context, tmp_path):
    started = tmp_path / "started"
    with context.Pool(1) as pool:
        result = pool.apply_async(targets.hang, (started,))
        wait_until(started.exists)
        waits = threading.Event()
        thread = interrupt_when(waits.is_set)
        with pytest.raises(KeyboardInterrupt):
            waits.set()
            result.get(60)
        thread.join()
        assert not result.ready() and result.cancel()


# The same for one call.

CALLS = {
    "apply": lambda pool, path, **options: [pool.apply(targets.fail_until, (path, 3), **options)],
    "apply_async": lambda pool, path, **options: [pool.apply_async(targets.fail_until, (path, 3), **options).get(60)],
    "starmap": lambda pool, path, **options: pool.starmap(targets.fail_until, [(path, 3)], **options),
    "starmap_async": lambda pool, path, **options: pool.starmap_async(targets.fail_until, [(path, 3)], **options).get(
        60
    ),
    "map": lambda pool, path, **options: pool.map(functools.partial(targets.fail_until, path), [3], **options),
    "imap": lambda pool, path, **options: list(
        pool.imap(functools.partial(targets.fail_until, path), iter([3]), **options)
    ),
    "imap_unordered": lambda pool, path, **options: list(
        pool.imap_unordered(functools.partial(targets.fail_until, path), [3], **options)
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_one_call(method, path, call):
    with goproc.get_context(method).Pool(1) as pool:
        with pytest.raises(Passing):
            CALLS[call](pool, path)
        path.unlink()
        assert CALLS[call](pool, path, retries=2, retry_on=Passing, retry_delay=0.01) == [3]
        path.unlink()
        with pytest.raises(Passing):  # only that call
            CALLS[call](pool, path)


def test_one_call_with_the_retries_of_the_pool(path):
    with goproc.Pool(1, retries=2) as pool:
        assert pool.apply(targets.fail_until, (path, 3), retry_on=Passing) == 3
    path.unlink()
    with goproc.Pool(1, retries=2, retry_on=Passing) as pool, pytest.raises(Passing):
        pool.apply(targets.fail_until, (path, 3), retries=0)


def test_attempts_are_counted_once(path):
    with goproc.Pool(1, retries=1) as pool, pytest.raises(goproc.WorkerLostError):
        pool.apply(targets.end_until, (path, 9), retry_on=Passing, retries=2)
    assert len(targets.times(path)) == 3


def test_wrong_values_of_a_call():
    with goproc.Pool(1) as pool:
        with pytest.raises(TypeError, match="did you mean 'retry_on'"):
            pool.map(abs, [1], retry_onn=ValueError)
        with pytest.raises(ValueError, match="retries must be"):
            pool.apply_async(abs, (1,), retries=-1)
        with pytest.raises(TypeError, match="retry_on must be"):
            pool.imap(abs, [1], retries=1, retry_on=1)
        for options in {"retry_on": ValueError}, {"retry_delay": 1}, {"retries": 0, "retry_on": ValueError}:
            with pytest.raises(ValueError, match="retries must say how often"):
                pool.map(abs, [1], **options)
        with pytest.raises(TypeError, match=r"^apply\(\) got an unexpected keyword argument 'retrys'"):
            pool.apply(abs, (1,), retrys=1)
