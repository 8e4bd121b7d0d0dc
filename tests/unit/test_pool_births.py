"""Pools whose workers cannot begin at first, and can later, when a service that their initializer needs is there."""

import os
import threading
import time

import pool_targets as targets
import pytest
from helpers import wait_until

import goproc
from goproc import WorkerLostError
from goproc._pool import crew

WAIT = 30


@pytest.fixture
def impatient(monkeypatch):
    """Pending tasks fail soon."""
    monkeypatch.setattr(crew, "_PATIENCE", 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raises", "exits", "finds nonsense", "finds nothing"])
def test_tasks_wait_for_workers_that_can_begin_later(context, how, tmp_path):
    """The tasks are done as soon as workers can begin, whoever waits, and all workers come up."""
    births = tmp_path / "births"
    with context.Pool(2, targets.begin_after, (births, 8, how)) as pool:
        result, mapped = pool.apply_async(targets.double, (1,)), pool.map_async(targets.double, range(20))
        assert result.get(WAIT) == 2
        assert mapped.get(WAIT) == [2 * i for i in range(20)]
        wait_until(lambda: len(pool._pool) == 2)
        assert births.stat().st_size >= 8
    pool.join()


@pytest.mark.slow
def test_they_wait_though_nobody_looks(context, tmp_path):
    with context.Pool(1, targets.begin_after, (tmp_path / "births", 6, "raises")) as pool:
        pool.apply_async(targets.touch, (tmp_path / "done",))
        wait_until((tmp_path / "done").exists)
    pool.join()


def test_they_wait_without_a_thread_of_the_pool(tmp_path):
    with goproc.Pool(1, targets.begin_after, (tmp_path / "births", 6, "raises")) as pool:
        assert pool.apply(targets.double, (2,)) == 4
        assert pool.map(targets.double, range(3)) == [0, 2, 4]
    pool.join()


def test_close_and_join_wait_for_them(tmp_path):
    pool = goproc.Pool(2, targets.begin_after, (tmp_path / "births", 8, "raises"))
    results = [pool.apply_async(targets.double, (i,)) for i in range(3)]
    pool.close()
    pool.join()
    assert [result.get(0) for result in results] == [0, 2, 4]


@pytest.mark.parametrize("end", ["terminate", "close"])
def test_a_pool_can_be_ended_between_attempts(end, tmp_path):
    """Only pending tasks wait for the end of the pause."""
    births = tmp_path / "births"
    pool = goproc.Pool(1, targets.begin_after, (births, 10**6, "raises"))
    result = None if end == "close" else pool.apply_async(targets.double, (1,))
    if result:
        wait_until(lambda: births.exists() and births.stat().st_size > 5)
    getattr(pool, end)()
    pool.join()
    if result:
        with pytest.raises(goproc.CancelledError):
            result.get(0)


@pytest.mark.slow
def test_a_pool_that_has_failed_its_tasks_recovers(context, impatient, tmp_path):
    """The failed tasks do not run later; those that follow do, all workers come up, and no attempt is made in vain."""
    births, allowed = tmp_path / "births", tmp_path / "allowed"
    with context.Pool(2, targets.begin_when_there_is, (births, allowed)) as pool:
        failed = [pool.apply_async(targets.touch, (tmp_path / f"failed {i}",)) for i in range(5)]
        iterated = pool.imap(targets.touch, [tmp_path / f"failed imap {i}" for i in range(5)])
        for result in failed:
            with pytest.raises(WorkerLostError, match="workers in a row ended before they took a task"):
                result.get(WAIT)
        with pytest.raises(WorkerLostError):
            iterated.next(WAIT)
        with pytest.raises(WorkerLostError, match="FileNotFoundError"):
            pool.apply_async(targets.double, (1,)).get(WAIT)
        allowed.touch()

        def works():
            try:
                return pool.apply(targets.double, (4,)) == 8
            except WorkerLostError:
                return False

        wait_until(works)
        wait_until(lambda: len(pool._pool) == 2)
        assert pool.map(targets.double, range(20)) == [2 * i for i in range(20)]
        assert not list(tmp_path.glob("failed*"))
    pool.join()


@pytest.mark.slow
def test_workers_that_began_go_on_while_others_cannot(impatient, tmp_path):
    """The tasks of the workers that began do not fail."""
    births = tmp_path / "births"
    with goproc.Pool(2, targets.begin_first, (births,)) as pool:
        release = tmp_path / "release"
        result = pool.apply_async(targets.wait_for_file, (release, 7))
        wait_until(lambda: births.exists() and births.stat().st_size > 8)
        others = pool.map_async(targets.double, range(3))
        time.sleep(2 * crew._PATIENCE)  # longer than tasks wait for workers when none can begin
        release.touch()
        assert result.get(WAIT) == 7
        assert others.get(WAIT) == [0, 2, 4]
    pool.join()


def test_a_long_task_does_not_keep_other_workers_from_coming_up(tmp_path):
    """The first worker that begins is enough for that, before it has delivered anything."""
    release = tmp_path / "release"
    with goproc.Pool(2, targets.begin_after, (tmp_path / "births", 6, "raises")) as pool:
        long = pool.apply_async(targets.wait_for_file, (release, 1))
        short = pool.apply_async(targets.double, (2,))
        assert short.get(WAIT) == 4
        release.touch()
        assert long.get(WAIT) == 1
    pool.join()


@pytest.mark.slow
def test_workers_that_cannot_be_started_for_a_while(monkeypatch):
    """The system has no room for further processes; then it has."""
    refused = []
    start = goproc.get_context("fork").Process.start

    def refuse(process):
        if len(refused) < 5 and armed.is_set():
            refused.append(process)
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return start(process)

    armed = threading.Event()
    monkeypatch.setattr(goproc.get_context("fork").Process, "start", refuse)
    with goproc.get_context("fork").Pool(1) as pool:
        assert pool.apply(targets.double, (1,)) == 2
        armed.set()
        with pytest.raises(WorkerLostError):
            pool.apply(os._exit, (1,))
        assert pool.apply(targets.double, (2,)) == 4
        assert len(refused) == 5
    pool.join()
