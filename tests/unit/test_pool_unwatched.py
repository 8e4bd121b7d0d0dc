"""Results that no thread waits for: programs that poll rarely or never, and pools that are garbage."""

import gc
import os
import threading
import warnings
import weakref

import pool_targets as targets
import pytest
from helpers import wait_until

import goproc
from goproc._common import stdlib

WAIT = 30

seen = threading.Event()


class Noticed:
    """An object whose unpickling in another process is noticed."""

    def __reduce__(self):
        return notice, (os.getpid(),)


def notice(pid):
    if pid != os.getpid():
        seen.set()


def make_noticed(*_):
    return Noticed()


@pytest.fixture
def unwatched(monkeypatch):
    """No thread of the pool collects what nobody asks for."""
    monkeypatch.setattr(stdlib, "are_threads_real", lambda: False)


LOOKS = {
    "ready": lambda pool, result: result.ready(),
    "wait": lambda pool, result: result.wait(0) or result.done,
    "get": lambda pool, result: result.get(0) is not None,
    "event": lambda pool, result: result._event.is_set(),
    "_cache": lambda pool, result: not pool._cache,
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("size", [10, 10_000, 40_000])
def test_one_look_finds_all_that_has_come(unwatched, look, size, tmp_path):
    """However many results have come. The last task has ended, so all but its own result have been delivered."""
    with goproc.Pool(1) as pool:
        results = [pool.apply_async(bytes, (size,)) for _ in range(200)]
        last = pool.apply_async(targets.touch, (tmp_path / "last",))
        wait_until((tmp_path / "last").exists)
        if look == "_cache":
            wait_until(lambda: pool._port.unseen() == 0 or last._dispatch._port.unseen() > 0)
            last.wait()
        assert LOOKS[look](pool, results[-1])
    pool.join()


def test_one_look_finds_how_many_are_left(unwatched, tmp_path):
    with goproc.Pool(1) as pool:
        result = pool.map_async(bytes, [10_000] * 300, chunksize=1)
        last = pool.apply_async(targets.touch, (tmp_path / "last",))
        wait_until((tmp_path / "last").exists)
        assert result._number_left == 0
        last.wait()
    pool.join()


def test_one_look_at_imap(unwatched, tmp_path):
    with goproc.Pool(1) as pool:
        results = pool.imap(bytes, [10_000] * 100)
        last = pool.apply_async(targets.touch, (tmp_path / "last",))
        wait_until((tmp_path / "last").exists)
        assert [len(results.next(0)) for _ in range(100)] == [10_000] * 100
        last.wait()
    pool.join()


def test_a_look_does_not_wait_for_what_completes_meanwhile(unwatched):
    """A look ends even if it takes longer than a task."""
    looked = threading.Event()

    def feed():
        while not looked.is_set():
            pool.apply_async(targets.nothing)

    with goproc.Pool(2) as pool:
        results = [pool.apply_async(targets.nothing) for _ in range(1000)]
        feeder = threading.Thread(target=feed)
        feeder.start()
        for result in results:
            result.ready()
        looked.set()
        feeder.join(WAIT)
        assert not feeder.is_alive()
    pool.join()


@pytest.mark.parametrize("submit", ["apply_async", "map_async", "starmap_async"])
def test_results_that_nobody_asks_for_are_handed_on(context, submit):
    """The results are unpickled, and the pool does not keep them, as with multiprocessing's thread."""
    seen.clear()
    with context.Pool(2) as pool:
        arguments = (make_noticed, ()) if submit == "apply_async" else (make_noticed, [(1,)] * 50)
        for _ in range(10):
            getattr(pool, submit)(*arguments)
        assert seen.wait(WAIT)
        wait_until(lambda: not pool._results)
    pool.join()


def test_a_lost_worker_is_replaced_though_nobody_asks(context):
    with context.Pool(2) as pool:
        before = {worker.pid for worker in pool._pool}
        pool.apply_async(os._exit, (3,))
        wait_until(lambda: len(before & {worker.pid for worker in pool._pool}) == 1 and len(pool._pool) == 2)
        assert pool.apply(targets.double, (2,)) == 4
    pool.join()


def test_who_waits_needs_no_thread():
    before = threading.enumerate()
    with goproc.Pool(2) as pool:
        pool.apply(targets.double, (1,))
        pool.map(targets.double, range(100))
        pool.starmap(targets.add, [(1, 2)] * 100)
        assert threading.enumerate() == before
        pool.apply_async(targets.double, (1,)).get(WAIT)
        pool.map_async(targets.double, range(100)).get(WAIT)
        assert len(threading.enumerate()) == len(before) + 1
    pool.join()
    assert threading.enumerate() == before


def test_an_apply_async_of_ones_own_is_called_by_apply():
    class Own(goproc.pool.Pool):
        calls = 0

        def apply_async(self, *args, **kwds):
            self.calls += 1
            return super().apply_async(*args, **kwds)

    with Own(1) as pool:
        assert pool.apply(targets.double, (2,)) == 4 and pool.calls == 1
    pool.join()


def test_a_thread_that_cannot_be_started(monkeypatch):
    """The pool works without it."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with goproc.Pool(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            result = pool.apply_async(targets.double, (2,))
            wait_until(result.ready)
            assert result.get(0) == 4
        assert pool.apply_async(targets.double, (3,)).get(WAIT) == 6
    pool.join()


def test_threads_that_are_greenlets(monkeypatch):
    """gevent puts functions of its own in the place of Python's: such a thread would block all others."""
    assert stdlib.are_threads_real()
    for name in ("_start_joinable_thread", "_start_new_thread"):
        if hasattr(threading, name):
            monkeypatch.setattr(threading, name, lambda *_, **__: None)
    assert not stdlib.are_threads_real()


def test_a_pool_whose_tasks_are_done_is_dropped(context):
    """Nobody holds it, or its result: its workers end when the task is done, as with multiprocessing."""

    def fire():
        pool = context.Pool(2)
        pool.apply_async(targets.double, (1,))
        return weakref.ref(pool), list(pool._pool)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # for being dropped without having been closed
        reference, processes = fire()
        wait_until(lambda: reference() is None)
        for process in processes:
            process.join(WAIT)
            assert process.exitcode is not None


def test_a_closed_pool_that_is_dropped_with_tasks_pending(context, tmp_path):
    """The results that somebody holds come, and then the workers end."""
    pool = context.Pool(1)
    results = [pool.apply_async(targets.wait_for_file, (tmp_path / "release", i)) for i in range(3)]
    processes, reference = list(pool._pool), weakref.ref(pool)
    pool.close()
    del pool
    gc.collect()
    (tmp_path / "release").touch()
    wait_until(lambda: reference() is None)
    for process in processes:
        process.join(WAIT)
        assert process.exitcode is not None
    assert [result.get(0) for result in results] == [0, 1, 2]


SUBMITS_IN_DEL = """
import gc
import sys
import goproc

class Cycle:
    def __init__(self):
        self.itself = self

    def __del__(self):
        late.append(submit(pool, 2))

def submit(pool, number):
    return pool.apply_async(pow, (number, 2))

def follow(pool, number):
    result = submit(pool, number)
    result.wait(0)
    return result

if __name__ == "__main__":
    context = goproc.get_context(sys.argv[1])
    for submit_now in submit, follow:
        for options in {}, {"retries": 1, "retry_on": KeyError}, {"maxtasksperchild": 100}:
            late, results = [], []
            gc.set_threshold(20, 5, 5)
            with context.Pool(2, **options) as pool:
                for number in range(300):
                    Cycle()
                    results.append(submit_now(pool, number))
                assert pool.map(abs, range(20)) == list(range(20))
                gc.collect()
                assert [result.get() for result in results] == [number**2 for number in range(300)]
                assert len(late) >= 300 and {result.get() for result in list(late)} == {4}
            gc.set_threshold(700)
            pool.join()
    submit_now, late = submit, []
    for threshold in range(1, 41, 2):  # the collector runs at another place each time, also in the pool's new thread
        with context.Pool(1) as pool:
            gc.collect()
            Cycle()
            gc.set_threshold(threshold)
            result = submit(pool, 3)
            gc.set_threshold(700)
            assert result.get() == 9
        pool.join()
    print("end")
"""


def test_objects_that_submit_tasks_when_they_are_collected(run_script, method, tmp_path):
    """The garbage collector runs at any time, in any call of the pool."""
    (tmp_path / "program.py").write_text(SUBMITS_IN_DEL)
    assert run_script(tmp_path / "program.py", method).stdout == "end\n"
