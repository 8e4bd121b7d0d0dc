"""ProcessPoolExecutor: submit() and its futures, with each start method."""

import concurrent.futures
import os
import sys
import threading
import time
import weakref
from concurrent.futures import process as standard

import futures_targets as targets
import pytest
from helpers import THREADS_ARE_MEANT, wait_until

import goproc
from goproc.futures import BrokenProcessPool, ProcessPoolExecutor

pytestmark = THREADS_ARE_MEANT


def test_submit(executor):
    assert executor.submit(targets.double, 21).result(30) == 42
    future = executor.submit(targets.arguments, 1, self=2, fn=3, timeout=4, retries=5)
    assert future.result() == ((1,), {"self": 2, "fn": 3, "timeout": 4, "retries": 5})
    assert executor.submit(targets.pid).result() != os.getpid()
    with pytest.raises(TypeError):
        executor.submit(fn=abs)
    with pytest.raises(TypeError):
        executor.submit()


def test_many(executor):
    futures = [executor.submit(targets.double, number) for number in range(1000)]
    assert [future.result() for future in futures] == [2 * number for number in range(1000)]
    assert all(future.done() and not future.running() and not future.cancelled() for future in futures)


def test_it_is_concurrent_futures_own(executor):
    kind = type(executor.submit(abs, 1))
    assert issubclass(ProcessPoolExecutor, standard.ProcessPoolExecutor)
    assert issubclass(kind, concurrent.futures.Future) and kind.__name__ == "Future"
    assert issubclass(goproc.futures.WorkerLostError, (goproc.WorkerLostError, BrokenProcessPool))
    assert BrokenProcessPool is standard.BrokenProcessPool


def test_the_attributes_of_futures_are_known():
    """Future makes some attributes of concurrent.futures' Future late. If there are new ones, it must know them."""
    known = {"_condition", "_state", "_result", "_exception", "_waiters", "_done_callbacks"}
    assert set(vars(concurrent.futures.Future())) == known


def test_calls_are_not_kept(executor):
    thing = targets.Thing()
    reference = weakref.ref(thing)
    future = executor.submit(targets.arguments, thing)
    del thing
    future.result()
    wait_until(lambda: reference() is None)


def test_exceptions(executor):
    future = executor.submit(targets.fail, "too bad")
    with pytest.raises(ValueError, match="too bad") as caught:
        future.result()
    assert type(caught.value.__cause__) is standard._RemoteTraceback
    assert "in fail" in str(caught.value.__cause__)
    assert future.exception() is caught.value
    assert executor.submit(abs, -1).exception() is None
    with pytest.raises(SystemExit):
        executor.submit(sys.exit, 3).result()


def test_what_cannot_be_pickled(executor):
    assert isinstance(executor.submit(lambda: None).exception(), Exception)
    with pytest.raises(Exception, match="refused"):
        executor.submit(id, targets.ErrorAtPickle()).result()
    with pytest.raises(Exception, match="refused"):
        executor.submit(targets.make_error_at_pickle).result()
    with pytest.raises(TypeError, match="cannot pickle '_thread.lock' object"):
        executor.submit(targets.unpicklable).result()
    with pytest.raises(SystemExit):
        executor.submit(targets.make_exit_at_pickle).result()
    for future in executor.submit(id, targets.PoisonedCall()), executor.submit(targets.make_poisoned):
        with pytest.raises(BrokenProcessPool, match="cannot be rebuilt|could not be unpickled"):
            future.result()
    assert executor.submit(abs, -1).result() == 1


def test_timeouts(executor, tmp_path):
    started, release = tmp_path / "started", tmp_path / "release"
    future = executor.submit(targets.signal_and_wait, started, release, 5)
    for timeout in 0, 0.01, -1:
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(timeout)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.exception(timeout)
    wait_until(started.exists)
    assert future.running() and not future.done()
    assert repr(future).endswith(" state=running>") and repr(future).startswith("<Future at ")
    release.touch()
    assert future.result(30) == 5
    assert not future.running()


def test_wait_and_as_completed(executor, tmp_path):
    release = tmp_path / "release"
    futures = [executor.submit(targets.double, number) for number in range(20)]
    assert concurrent.futures.wait(futures).not_done == set()
    slow = executor.submit(targets.signal_and_wait, tmp_path / "started", release, "slow")
    fast = executor.submit(targets.double, 1)
    done, not_done = concurrent.futures.wait([slow, fast], return_when=concurrent.futures.FIRST_COMPLETED)
    assert (done, not_done) == ({fast}, {slow})
    completed = concurrent.futures.as_completed([slow, fast, slow])
    assert next(completed) is fast
    release.touch()
    assert [future.result() for future in completed] == ["slow"]
    failing = executor.submit(targets.fail, "first")
    done, _ = concurrent.futures.wait([failing], return_when=concurrent.futures.FIRST_EXCEPTION)
    assert done == {failing}
    with pytest.raises(concurrent.futures.TimeoutError):
        list(concurrent.futures.as_completed([executor.submit(time.sleep, 0.2)], timeout=0.01))


def test_callbacks(executor, tmp_path):
    release, order = tmp_path / "release", []
    future = executor.submit(targets.signal_and_wait, tmp_path / "started", release, 1)
    for number in range(3):
        future.add_done_callback(lambda future, number=number: order.append((number, future.result())))
    release.touch()
    wait_until(lambda: len(order) == 3)
    future.add_done_callback(lambda future: order.append(threading.current_thread()))
    assert order == [(0, 1), (1, 1), (2, 1), threading.current_thread()]


def test_a_callback_that_raises(executor, tmp_path, caplog, monkeypatch):
    raised = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, value, traceback: raised.append(kind))
    release = tmp_path / "release"
    future = executor.submit(targets.signal_and_wait, tmp_path / "started", release)
    future.add_done_callback(lambda future: 1 / 0)
    future.add_done_callback(lambda future: sys.exit(1))
    release.touch()
    future.result()
    wait_until(lambda: raised == [SystemExit])
    assert "exception calling callback" in caplog.text
    assert executor.submit(abs, -1).result() == 1


def test_cancel_what_has_not_begun(tmp_path):
    release, called = tmp_path / "release", []
    with ProcessPoolExecutor(1) as executor:
        first = executor.submit(targets.signal_and_wait, tmp_path / "first", release)
        others = [executor.submit(targets.signal_and_wait, tmp_path / "other", release) for _ in range(5)]
        others[2].add_done_callback(called.append)
        wait_until((tmp_path / "first").exists)
        assert all(future.cancel() for future in others) and all(future.cancel() for future in others)
        assert called == [others[2]]
        assert all(future.cancelled() and future.done() and not future.running() for future in others)
        assert concurrent.futures.wait(others).done == set(others)
        for future in others:
            with pytest.raises(concurrent.futures.CancelledError):
                future.result()
            with pytest.raises(concurrent.futures.CancelledError):
                future.exception()
        release.touch()
        assert first.result() is None
        assert not first.cancel() and not first.cancelled()
    assert not (tmp_path / "other").exists()


def test_cancel_what_runs(executor, tmp_path):
    started, release = tmp_path / "started", tmp_path / "release"
    before = executor.submit(targets.pid).result()
    future = executor.submit(targets.signal_and_wait, started, release)
    waiting = []
    thread = threading.Thread(target=lambda: waiting.append(concurrent.futures.wait([future])))
    thread.start()
    wait_until(started.exists)
    assert future.running()
    assert future.cancel()
    thread.join()
    assert future.cancelled() and waiting[0].done == {future}
    assert [executor.submit(targets.double, number).result() for number in range(3)] == [0, 2, 4]
    assert before


def test_cancel_wakes_a_thread_that_waits(executor, tmp_path):
    started, caught = tmp_path / "started", []

    def wait():
        try:
            future.result()
        except concurrent.futures.CancelledError as error:
            caught.append(error)

    future = executor.submit(targets.signal_and_wait, started, tmp_path / "release")
    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(started.exists)
    assert future.cancel()
    thread.join()
    assert len(caught) == 1


def test_a_result_that_the_program_sets(tmp_path):
    with ProcessPoolExecutor(1) as executor:
        future = executor.submit(targets.signal_and_wait, tmp_path / "started", tmp_path / "release")
        wait_until((tmp_path / "started").exists)
        assert future.set_running_or_notify_cancel()
        future.set_result("mine")
        with pytest.raises(concurrent.futures.InvalidStateError):
            future.set_result("again")
        (tmp_path / "release").touch()
        assert executor.submit(abs, -1).result() == 1
        assert future.result() == "mine"


def test_options(executor, tmp_path):
    with pytest.raises(goproc.TaskTimeoutError):
        executor.with_options(timeout=0.2).submit(time.sleep, 60).result()
    options = executor.with_options(timeout=20, retries=1)
    assert options.submit(targets.arguments, 1, timeout=3, retries=4).result() == ((1,), {"timeout": 3, "retries": 4})
    assert options.submit(targets.lose_worker_once, str(tmp_path / "lost")).result() == "done"
    with pytest.raises(goproc.futures.WorkerLostError):
        executor.submit(targets.lose_worker_once, str(tmp_path / "again")).result()
    assert list(options.map(targets.double, range(10))) == [2 * number for number in range(10)]
    assert list(options.map(targets.double, range(10), chunksize=4, buffersize=2))[-1] == 18
    assert isinstance(next(options.map(targets.lose_worker_once, [str(tmp_path / "map")])), str)
    limited = executor.with_options(timeout=2).map(time.sleep, [0, 60])
    assert next(limited) is None
    with pytest.raises(goproc.TaskTimeoutError):
        next(limited)


def test_options_that_are_none():
    with ProcessPoolExecutor(1) as executor:
        for arguments, error in (
            ({"timeout": 0}, ValueError),
            ({"timeout": -1}, ValueError),
            ({"timeout": "1"}, TypeError),
            ({"retries": -1}, ValueError),
            ({"retries": 1.5}, ValueError),
            ({"limit": 1}, TypeError),
        ):
            with pytest.raises(error):
                executor.with_options(**arguments)
        with pytest.raises(TypeError):
            executor.with_options(1)
