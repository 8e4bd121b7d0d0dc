"""goproc.cluster: the same Pool on the machines of a Dask cluster. Here the machines are processes of this machine."""

import functools
import json
import os
import threading
import time
from collections import Counter

import cluster_targets as targets
import pytest
from cluster_targets import noted
from helpers import wait_until

pytest.importorskip("distributed", reason="goproc.cluster needs distributed")

import goproc
from goproc import cluster


def test_map(pool):
    assert pool.map(targets.double, range(1000)) == [2 * i for i in range(1000)]
    assert pool.map(targets.double, range(100), chunksize=1) == [2 * i for i in range(100)]
    assert os.getpid() not in pool.map(targets.pid, range(20), chunksize=1)


def test_all_machines_take_part(pool):
    pids = set(pool.map(targets.pid, range(400), chunksize=1))
    assert len(pids) == 4 == pool._processes == len(pool._pool)


def test_large_data(pool):
    data = [os.urandom(3 << 20) for _ in range(6)]
    assert pool.map(bytes, data, chunksize=1) == data


def test_errors_have_the_traceback_of_the_worker(pool):
    with pytest.raises(KeyError, match="7") as caught:
        pool.apply(targets.fail, (7,))
    assert "cluster_targets.py" in str(caught.value.__cause__)
    assert [str(error) for error in pool.map(targets.fail, range(3), return_exceptions=True)] == ["0", "1", "2"]


def test_functions_without_a_name(pool):
    base = 30
    assert pool.map(lambda x: base + x, range(3)) == [30, 31, 32]


def test_initializer(client):
    with cluster.Pool(client, initializer=targets.set_state, initargs=("set",)) as pool:
        assert pool.map(targets.get_state, range(8), chunksize=1) == ["set"] * 8


@pytest.mark.slow
def test_what_is_of_main_travels_by_value(run_script, tmp_path):
    run_script("cluster_main.py", timeout=60, TMPDIR=str(tmp_path))
    assert not list(tmp_path.iterdir()), "local machines leave files"


def test_fewer_processes(client):
    with cluster.Pool(client, processes=1) as pool:
        assert len(set(pool.map(targets.pid, range(100), chunksize=1))) == 1
    pool.join()


def test_close_and_join(client):
    pool = cluster.Pool(client)
    result = pool.map_async(targets.double, range(100), chunksize=1)
    pool.close()
    pool.join()
    assert result.get(0) == [2 * i for i in range(100)]
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(targets.double, (1,))


def test_stream(pool):
    assert sorted(pool.stream(targets.count, [3, 2])) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert sum(1 for _ in pool.stream(targets.count, [1000])) == 1000


def test_maxtasksperchild(client):
    with cluster.Pool(client, maxtasksperchild=2) as pool:
        pids = Counter(pool.map(targets.pid, range(20), chunksize=1))
    assert max(pids.values()) <= 2


def test_shared_objects_go_once_to_each_machine(pool):
    data = os.urandom(3 << 20)
    with goproc.share(data) as handle:
        found = pool.map(targets.digest_and_place, [handle] * 40, chunksize=1)
        assert {digest for digest, _ in found} == {targets.digest_and_place(data)[0]}
        sizes = [memoryview(pickled).nbytes for pickled in targets.pickled_by(pool._submitter.form, handle)]
        assert sum(sizes) < 200
        wait_until(lambda: all(driver._contents for driver in pool._crew.drivers.values()))
    wait_until(lambda: not any(driver._contents for driver in pool._crew.drivers.values()))
    with pytest.raises(ValueError, match="closed"):
        pool.apply(targets.length, (handle,))


def test_shared_objects_in_an_initializer(client):
    with goproc.share(bytes(1 << 20)) as handle:
        with cluster.Pool(client, initializer=targets.set_state, initargs=(handle,)) as pool:
            assert [len(state) for state in pool.map(targets.get_state, range(4), chunksize=1)] == [1 << 20] * 4


def test_large_arguments_that_come_again(pool):
    data = os.urandom(2 << 20)
    digest = targets.digest_and_place(data)[0]
    found = pool.starmap(targets.digest_and_place, [(data, i) for i in range(20)], chunksize=1)
    assert [place for _, place in found] == list(range(20)) and {text for text, _ in found} == {digest}
    found = pool.map(functools.partial(targets.digest_and_place, data), range(20), chunksize=1)
    assert {text for text, _ in found} == {digest}


# ---- faults


def test_lost_worker(pool):
    with pytest.raises(
        goproc.WorkerLostError, match=r"pid \d+ on the machine machine-\d \(tcp://.*kill_myself"
    ) as lost:
        pool.apply(targets.kill_myself)
    assert lost.value.machine.startswith("machine-")
    assert pool.map(targets.double, range(10)) == list(range(0, 20, 2))


def test_lost_worker_with_retries(client, tmp_path):
    with cluster.Pool(client, retries=2) as pool:
        with pytest.raises(goproc.WorkerLostError):
            pool.apply(targets.note_and_kill, (str(tmp_path / "ran"),))
    assert noted(tmp_path / "ran") == {1: 3}


@pytest.mark.slow
def test_timeout(pool):
    with pytest.raises(goproc.TaskTimeoutError, match=r"0\.2 s"):
        pool.apply(time.sleep, (60,), timeout=0.2)
    results = pool.map(time.sleep, [0, 60, 0], task_timeout=0.5, return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["NoneType", "TaskTimeoutError", "NoneType"]


def test_cancel(pool, tmp_path):
    ran = tmp_path / "ran"
    tasks = [(str(ran), i) for i in range(50)]
    result = pool.starmap_async(targets.note_and_wait, tasks, chunksize=1)
    wait_until(lambda: len(noted(ran)) == 4)
    assert result.cancel()
    with pytest.raises(goproc.CancelledError):
        result.get(30)
    assert pool.map(targets.double, range(10)) == list(range(0, 20, 2))
    assert len(noted(ran)) <= 20 and set(noted(ran).values()) == {1}


@pytest.mark.slow
def test_an_initializer_that_raises(client):
    with cluster.Pool(client, initializer=targets.fail, initargs=("no",)) as pool:
        with pytest.raises(goproc.WorkerLostError, match="KeyError: 'no'"):
            pool.apply(targets.double, (1,))


def test_locks_cannot_travel(client, pool):
    lock = goproc.Lock()
    with pytest.raises(RuntimeError, match="initializer.*Manager"):
        cluster.Pool(client, initializer=targets.set_state, initargs=(lock,))
    with pytest.raises(RuntimeError, match="inheritance"):
        pool.apply(targets.double, (lock,))
    reader, writer = goproc.Pipe()
    with pytest.raises(RuntimeError, match="cannot be sent to another machine"):
        pool.apply(targets.double, (reader,))
    reader.close(), writer.close()


@pytest.mark.slow
def test_lost_machine(machines, tmp_path):
    connection = machines("local:2x1")
    ran = tmp_path / "ran"
    with cluster.Pool(connection.client) as pool:
        results = [pool.apply_async(targets.note, (str(ran), i, 0.02)) for i in range(300)]
        wait_until(lambda: len(noted(ran)) > 30)
        connection.machines.processes[1].kill()
        lost = 0
        for i, result in enumerate(results):
            try:
                assert result.get(60) == i
            except goproc.WorkerLostError as error:
                assert "machine-0" in str(error) and "its process has ended" in str(error) and "note" in str(error)
                lost += 1
        assert 1 <= lost <= 20
    times = noted(ran)
    assert max(times.values()) == 1
    assert 300 - lost <= len(times) <= 300


@pytest.mark.slow
def test_machines_that_only_the_scheduler_reaches(machines, monkeypatch):
    connection = machines("local:2x1")

    def unreachable(address):
        raise OSError(f"no route to {address}")

    monkeypatch.setattr(connection.client, "rpc", unreachable)
    with cluster.Pool(connection.client) as pool:
        assert pool.map(targets.double, range(1000), chunksize=1) == [2 * i for i in range(1000)]
        block = bytes(300_000)
        assert pool.apply(bytes, (block,)) == block
        results = [pool.apply_async(time.sleep, (600,)) for _ in range(2)]
        wait_until(lambda: all(driver.seat.granted for driver in pool._crew.drivers.values()))
        for process in connection.machines.processes[1:]:
            process.kill()
        for result in results:
            with pytest.raises(goproc.WorkerLostError, match="its process has ended"):
                result.get(60)


@pytest.mark.slow
def test_lost_machine_with_retries(machines):
    connection = machines("local:2x1")
    with cluster.Pool(connection.client, retries=1) as pool:
        result = pool.map_async(targets.slow_double, range(300), chunksize=1)
        small = pool.map_async(targets.double, range(10000))
        wait_until(lambda: result._number_left < 270)
        connection.machines.processes[1].kill()
        assert result.get(60) == [2 * i for i in range(300)]
        assert small.get(60) == [2 * i for i in range(10000)]


@pytest.mark.slow
def test_a_machine_that_joins(machines):
    connection = machines("local:1x1")
    with cluster.Pool(connection.client) as pool:
        assert len(set(pool.map(targets.pid, range(50), chunksize=1))) == 1
        connection.machines.add("late")
        wait_until(lambda: len(set(pool.map(targets.pid, range(50), chunksize=1))) == 2)


@pytest.mark.slow
def test_scheduler_lost(machines):
    connection = machines("local:1x1")
    with cluster.Pool(connection.client, reconnect_timeout=1) as pool:
        result = pool.apply_async(time.sleep, (600,))
        queued = [pool.apply_async(time.sleep, (600,)) for _ in range(20)]
        wait_until(lambda: pool._crew.control.begun(result._job))
        connection.machines.processes[0].kill()
        with pytest.raises(goproc.WorkerLostError, match="machine-0"):
            result.get(60)
        with pytest.raises(goproc.WorkerLostError, match="the scheduler .* is gone"):
            queued[-1].get(60)
        with pytest.raises(goproc.WorkerLostError, match="the scheduler .* is gone"):
            pool.apply(time.sleep, (0,))


@pytest.mark.slow
def test_a_scheduler_that_comes_back(machines):
    connection = machines("local:1x1")
    with cluster.Pool(connection.client, reconnect_timeout=60) as pool:
        pool.apply(targets.double, (1,))
        connection.machines.processes[0].kill()
        connection.machines.processes[1].wait()  # Dask's workers end when they have lost their scheduler
        result = pool.apply_async(targets.double, (21,))
        connection.machines._start("scheduler", connection.machines.scheduler.rpartition(":")[2]).stdout.readline()
        connection.machines.add("new")
        assert result.get(60) == 42


@pytest.mark.slow
def test_nothing_runs_on_when_the_program_is_killed(tmp_path):
    import signal
    import subprocess
    import sys
    from pathlib import Path

    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import time, cluster_targets as targets
from goproc.cluster import Pool
pool = Pool("local:2x1")
pool.starmap(targets.note_pid_and_wait, [({str(tmp_path / "pids")!r},)] * 2, chunksize=1)
"""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    program = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(temporary)})
    pids = tmp_path / "pids"
    wait_until(lambda: len(noted(pids)) == 2)
    workers = list(noted(pids))
    program.send_signal(signal.SIGKILL)
    program.wait()
    killed = time.monotonic()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers))
    assert time.monotonic() - killed < 10
    wait_until(lambda: not list(temporary.glob("goproc-*")) and not list(temporary.glob("dask-*")))


@pytest.mark.slow
def test_stragglers_are_taken_back(machines):
    """A machine that is busy for long gives what it has not begun to the other one."""
    connection = machines("local:2x1")
    with cluster.Pool(connection.client) as pool:
        pool.map(targets.double, range(2000), chunksize=1)  # machines look fast now
        long = pool.apply_async(time.sleep, (600,))
        wait_until(lambda: pool._crew.control.begun(long._job))
        assert pool.map_async(targets.double, range(2000), chunksize=1).get(30) == [2 * i for i in range(2000)]


# ---- arguments


def test_addresses_that_are_none(monkeypatch, tmp_path):
    monkeypatch.delenv("GOPROC_CLUSTER", raising=False)
    for address, error, text in (
        (None, ValueError, "GOPROC_CLUSTER"),
        (5, TypeError, "int is not the address of a cluster"),
        ("local:0", ValueError, "local:2x4 means"),
        ("local:2x", ValueError, "local:2x4 means"),
        ("nonsense", ValueError, "is not the address of a cluster"),
        (str(tmp_path / "absent"), ValueError, "there is no scheduler file"),
    ):
        with pytest.raises(error, match=text):
            cluster.Pool(address)


@pytest.mark.slow
def test_a_scheduler_that_is_not_there():
    with pytest.raises(ConnectionError, match="cannot be reached within 1 s"):
        cluster.Pool("tcp://127.0.0.1:9", reconnect_timeout=1)


def test_address_of_the_environment(client, monkeypatch, tmp_path):
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"type": "Scheduler", "address": client.scheduler.address, "workers": {}}))
    for address in client.scheduler.address, str(file):
        monkeypatch.setenv("GOPROC_CLUSTER", address)
        with cluster.Pool() as pool:
            assert pool.apply(targets.double, (4,)) == 8
        pool.join()


def test_options_that_are_wrong(client):
    for options, text in (
        ({"start_method": "fork"}, "start_method must be"),
        ({"lost_after": 0}, "lost_after must be"),
        ({"retries": -1}, "retries must be"),
    ):
        with pytest.raises(ValueError, match=text):
            cluster.Pool(client, **options)
    with pytest.raises(TypeError, match="unexpected"):
        cluster.Pool(client, nonsense=1)


def test_from_several_threads(pool):
    def work(results, i):
        results[i] = [pool.apply(functools.partial(targets.double, i)) for _ in range(20)]

    results: dict = {}
    threads = [threading.Thread(target=work, args=(results, i)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: [2 * i] * 20 for i in range(4)}
