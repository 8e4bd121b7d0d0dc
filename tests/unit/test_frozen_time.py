"""Timeouts in programs in which time stands still, as under freezegun: they are over when they should be."""

import ast
import concurrent.futures
import sys
import threading
import time
from pathlib import Path

import limit_targets
import pool_targets as targets
import pytest
from helpers import wait_until

import goproc
from goproc import _native

PACKAGE = Path(__file__).parents[2] / "python" / "goproc"
CLOCKS = "time", "monotonic", "perf_counter", "time_ns", "monotonic_ns", "perf_counter_ns"

SHORT, LONG = 0.1, 1000

# If a timeout is never over, pytest's is: it raises in the main thread, which waits.
pytestmark = pytest.mark.timeout(60)


def stopped(clock):
    """Return the clock, stopped. multiprocessing's own modules have it running, as under freezegun."""
    now = clock()
    return lambda: clock() if sys._getframe(1).f_globals["__name__"].startswith("multiprocessing") else now


@pytest.fixture
def freeze(monkeypatch):
    """A function that stops the clocks of module time, also where goproc's modules have imported them by name."""

    def freeze():
        clocks = {getattr(time, name): name for name in CLOCKS}
        fakes = {clock: stopped(clock) for clock in clocks}
        for module in [value for name, value in list(sys.modules.items()) if name.partition(".")[0] == "goproc"]:
            for name, value in list(vars(module).items()):
                if type(value) is type(len) and value in fakes:
                    monkeypatch.setattr(module, name, fakes[value])
        for clock, name in clocks.items():
            monkeypatch.setattr(time, name, fakes[clock])

    return freeze


def test_the_own_clock():
    """It is time.monotonic(), under a name that nobody replaces."""
    before = time.monotonic()
    now = _native.monotonic()
    assert type(now) is float and before <= now <= time.monotonic()


def uses_of_clocks(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time":
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (alias.name for alias in node.names)


def test_no_module_measures_by_a_clock_that_can_stand_still():
    found = {str(path.relative_to(PACKAGE)): set(uses_of_clocks(path)) & set(CLOCKS) for path in PACKAGE.rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == {"_dump/report.py": {"time"}}  # for its output


@pytest.mark.parametrize(
    "call",
    [
        lambda pool: pool.apply_async(time.sleep, (LONG,)).get(SHORT),
        lambda pool: pool.map_async(time.sleep, [LONG]).get(SHORT),
        lambda pool: pool.imap(time.sleep, [LONG]).next(SHORT),
        lambda pool: pool.imap_unordered(time.sleep, [LONG]).next(SHORT),
        lambda pool: pool.stream(targets.sleep, [LONG]).next(SHORT),
    ],
    ids=["get", "get of a map", "next", "next of imap_unordered", "next of a stream"],
)
def test_results_of_pools(context, freeze, call):
    with context.Pool(1) as pool:
        freeze()
        with pytest.raises(goproc.TimeoutError):
            call(pool)


def test_wait_for_a_result(context, freeze):
    with context.Pool(1) as pool:
        freeze()
        result = pool.apply_async(time.sleep, (LONG,))
        result.wait(SHORT)
        assert not result.ready()


def test_limits_of_tasks(context, freeze):
    with context.Pool(1) as pool:
        freeze()
        with pytest.raises(goproc.TaskTimeoutError):
            pool.apply_async(time.sleep, (LONG,), timeout=SHORT).get()
        with pytest.raises(goproc.TaskTimeoutError):
            pool.map(time.sleep, [LONG], task_timeout=SHORT)


def test_workers_start_and_are_replaced(context, freeze, tmp_path):
    freeze()
    with context.Pool(3) as pool:
        started, release = [tmp_path / str(number) for number in range(3)], tmp_path / "release"
        results = [pool.apply_async(targets.signal_and_wait, (path, release, 7)) for path in started]
        wait_until(lambda: all(path.exists() for path in started))
        release.touch()
        assert [result.get() for result in results] == [7, 7, 7]
        for _ in range(3):
            with pytest.raises(goproc.WorkerLostError):
                pool.apply(targets.end_by_sigkill)
        assert pool.map(targets.double, range(9)) == [2 * number for number in range(9)]


def test_workers_that_cannot_begin_at_first(context, freeze, tmp_path):
    freeze()
    with context.Pool(1, targets.begin_after, (tmp_path / "births", 6, "raises")) as pool:
        assert pool.apply(targets.double, (1,)) == 2


def test_pauses_between_attempts(context, freeze, tmp_path):
    freeze()
    with context.Pool(1, retries=2, retry_on=limit_targets.Passing, retry_delay=SHORT) as pool:
        assert pool.apply(limit_targets.fail_until, (tmp_path / "attempts", 3)) == 3


def test_progress(context, freeze, tmp_path):
    """Each further task ends when the one before it has been told."""
    told = [tmp_path / str(number) for number in range(4)]
    with context.Pool(1) as pool:
        freeze()
        items = [(None, told[0]), (told[1], None), (told[2], None)]
        pool.map(targets.wait_for_file_of, items, chunksize=1, progress=lambda done, total: told[done].touch())
    assert told[3].exists()


def test_executors(executor, freeze):
    freeze()
    try:
        with pytest.raises(goproc.TaskTimeoutError):
            executor.with_options(timeout=SHORT).submit(time.sleep, LONG).result()
        with pytest.raises(concurrent.futures.TimeoutError):
            next(executor.map(time.sleep, [LONG], timeout=SHORT))
        future = executor.submit(time.sleep, LONG)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(SHORT)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.exception(SHORT)
    finally:
        executor.kill_workers()


def test_locks(context, freeze):
    freeze()
    lock, event, condition, barrier = context.Lock(), context.Event(), context.Condition(), context.Barrier(2)
    lock.acquire()
    assert lock.acquire(timeout=SHORT) is False
    assert event.wait(SHORT) is False
    with condition:
        assert condition.wait(SHORT) is False
        assert condition.wait_for(lambda: False, SHORT) is False
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(SHORT)


def test_queues(context, freeze):
    freeze()
    queue, full = context.Queue(), context.Queue(1)
    full.put(1)
    with pytest.raises(goproc.queues.Empty):
        queue.get(timeout=SHORT)
    with pytest.raises(goproc.queues.Full):
        full.put(2, timeout=SHORT)
    assert full.get(timeout=LONG) == 1
    with context.Manager() as manager, pytest.raises(goproc.queues.Empty):
        manager.Queue().get(timeout=SHORT)


def test_the_condition_of_a_joinable_queue(context, freeze):
    freeze()
    queue = context.JoinableQueue()
    queue.put(1)
    with queue._cond:
        assert queue._cond.wait(timeout=SHORT) is False
        assert queue._cond.wait_for(lambda: False, SHORT) is False
    assert queue.get() == 1
    queue.task_done()
    queue.join()


def test_processes(context, freeze):
    freeze()
    process = context.Process(target=time.sleep, args=(LONG,))
    process.start()
    process.join(SHORT)
    assert process.exitcode is None
    assert goproc.connection.wait([process.sentinel], SHORT) == []
    process.kill()
    process.join(LONG)
    process.close()
    ours, theirs = context.Pipe()
    with ours, theirs:
        assert ours.poll(SHORT) is False
