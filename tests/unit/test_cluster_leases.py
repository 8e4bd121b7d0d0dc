"""Who may run which task of a cluster's pool: leases, withdrawal by terminate(), and machines that join late."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import cluster_targets as targets
import pytest
from helpers import wait_until

pytest.importorskip("distributed", reason="goproc.cluster needs distributed")

import goproc
from goproc import cluster


def exists(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# ---- leases


@pytest.mark.slow
def test_a_machine_that_is_suspended(machines, tmp_path):
    """Tasks that it had begun are lost, others run elsewhere. It ends its workers, comes back, and gets work."""
    connection = machines("local:2x1")
    suspended = connection.machines.processes[1]
    ran = tmp_path / "ran"
    with cluster.Pool(connection.client, lost_after=1.5) as pool:
        pids = set(pool.map(targets.slow_pid, range(40), chunksize=1))
        assert len(pids) == 2
        of_suspended = {pid for pid in pids if targets.parent(targets.parent(pid)) == suspended.pid}
        assert len(of_suspended) == 1
        results = [pool.apply_async(targets.note, (str(ran), number, 0.01)) for number in range(200)]
        wait_until(lambda: len(targets.noted(ran)) > 20)
        suspended.send_signal(signal.SIGSTOP)
        lost = [number for number, result in enumerate(results) if is_lost(result, number)]
        assert 1 <= len(lost) <= 40
        suspended.send_signal(signal.SIGCONT)
        wait_until(lambda: not any(map(exists, of_suspended)))

        def parents():
            return {targets.parent(parent) for parent in pool.starmap(slow_parent, [()] * 40, chunksize=1)}

        wait_until(lambda: suspended.pid in parents())
    times = targets.noted(ran)
    assert max(times.values()) == 1
    assert set(range(200)) - set(lost) <= set(times)


def slow_parent():
    targets.slow_pid()
    return os.getppid()


def is_lost(result, number):
    try:
        assert result.get(60) == number
    except goproc.WorkerLostError as error:
        assert "has not answered for" in str(error) and "note(" in str(error)
        return True
    return False


@pytest.mark.slow
def test_a_machine_that_is_suspended_with_retries(machines, tmp_path):
    connection = machines("local:2x1")
    ran = tmp_path / "ran"
    with cluster.Pool(connection.client, lost_after=1.5, retries=1) as pool:
        pool.map(targets.slow_pid, range(40), chunksize=1)
        result = pool.starmap_async(targets.note, [(str(ran), number, 0.01) for number in range(200)], chunksize=1)
        wait_until(lambda: len(targets.noted(ran)) > 20)
        connection.machines.processes[1].send_signal(signal.SIGSTOP)
        assert result.get(60) == list(range(200))
        connection.machines.processes[1].send_signal(signal.SIGCONT)
    times = targets.noted(ran)
    assert set(times) == set(range(200)) and max(times.values()) <= 2


PROGRAM = """
import sys, cluster_targets as targets, goproc
from goproc import cluster

if __name__ == "__main__":
    address, path = sys.argv[1:]
    with cluster.Pool(address, lost_after=1.5) as pool:
        for result in [pool.apply_async(targets.note_pid_and_wait, (path,)) for _ in range(2)]:
            try:
                result.get(60)
            except goproc.WorkerLostError as error:
                print("lost:", error)
        while len(set(pool.map(targets.slow_pid, range(40), chunksize=1, return_exceptions=True))) < 2:
            pass
        print("goes on")
"""


@pytest.mark.slow
def test_a_program_that_is_suspended(machines, tmp_path):
    """The machines end its workers. When it goes on, its tasks are lost, and the machines take part again."""
    connection = machines("local:2x1")
    pids = tmp_path / "pids"
    command = [sys.executable, "-c", PROGRAM, connection.client.scheduler.address, str(pids)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    program = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: len(targets.noted(pids)) == 2)
        program.send_signal(signal.SIGSTOP)
        wait_until(lambda: not any(map(exists, targets.noted(pids))))
        program.send_signal(signal.SIGCONT)
        lines = program.communicate(timeout=60)[0].splitlines()
    finally:
        program.kill()
        program.wait()
    assert len(lines) == 3 and lines[2] == "goes on"
    assert all(line.startswith("lost: the machine machine-") and "note_pid_and_wait(" in line for line in lines[:2])
    assert max(targets.noted(pids).values()) == 1 and len(targets.noted(pids)) == 2


# ---- withdrawal


@pytest.mark.slow
def test_terminate_withdraws_what_has_not_begun(machines, tmp_path):
    """Machines have tasks ahead, granted and held. After terminate() none of them begins."""
    connection = machines("local:2x1")
    ran = tmp_path / "ran"
    with cluster.Pool(connection.client) as pool:
        pool.map(targets.double, range(2000), chunksize=1)  # machines look fast, so they are given much
        results = [pool.apply_async(targets.note_and_wait, (str(ran), number)) for number in range(200)]
        wait_until(lambda: len(targets.noted(ran)) == 2)
        assert sum(driver.seat.load for driver in pool._crew.drivers.values()) > 10
        workers = [worker.pid for worker in pool._pool]
    for result in results:
        with pytest.raises(goproc.CancelledError):
            result.get(60)
    wait_until(lambda: not any(map(exists, workers)))
    with cluster.Pool(connection.client) as pool:
        assert pool.map(targets.double, range(100), chunksize=1) == [2 * i for i in range(100)]
    assert len(targets.noted(ran)) == 2 and max(targets.noted(ran).values()) == 1


@pytest.mark.slow
def test_closing_an_iterator_withdraws_the_rest(machines, tmp_path):
    connection = machines("local:2x1")
    ran = tmp_path / "ran"
    with cluster.Pool(connection.client) as pool:
        stream = pool.stream(note_and_yield, [(str(ran), number) for number in range(200)])
        next(stream)
        stream.close()
        assert pool.map(targets.double, range(100), chunksize=1) == [2 * i for i in range(100)]
        begun = len(targets.noted(ran))
        assert begun < 100
        pool.map(targets.slow_pid, range(100), chunksize=1)
        assert len(targets.noted(ran)) == begun and max(targets.noted(ran).values()) == 1


def note_and_yield(argument):
    path, number = argument
    yield targets.note(path, number, 0.02)


# ---- machines that join late


@pytest.mark.slow
def test_a_machine_that_joins_late_gets_its_part_of_a_map(machines, tmp_path):
    """The first machine stops at an item until the late one has done a hundred: these had been given to the first."""
    connection = machines("local:1x1")
    ran, pids = tmp_path / "ran", tmp_path / "pids"
    with cluster.Pool(connection.client) as pool:
        pool.map(targets.double, range(2000), chunksize=1)  # the machine looks fast
        (first,) = set(pool.map(targets.slow_pid, range(20), chunksize=1))
        items = [(str(ran), str(pids), first, number) for number in range(400)]
        result = pool.starmap_async(targets.note_and_let_others, items, chunksize=1)
        wait_until(lambda: len(targets.noted(ran)) > 50)
        connection.machines.add("late", 2)
        assert result.get(60) == list(range(400))
        assert pool._processes == 3
    assert targets.noted(ran) == {number: 1 for number in range(400)}
    shares = targets.noted(pids)
    assert len(shares) == 3 and shares[first] < 300


@pytest.mark.slow
def test_a_machine_that_joins_late_gets_its_part_of_an_iteration(machines, tmp_path):
    connection = machines("local:1x1")
    ran, pids = tmp_path / "ran", tmp_path / "pids"
    with cluster.Pool(connection.client) as pool:
        pool.map(targets.double, range(2000), chunksize=1)
        (first,) = set(pool.map(targets.slow_pid, range(20), chunksize=1))
        items = [(str(ran), str(pids), first, number) for number in range(1000)]
        result = pool.imap_unordered(targets.note_and_let_others_too, items)
        wait_until(lambda: len(targets.noted(ran)) > 50)
        connection.machines.add("late")
        assert sorted(result) == list(range(1000))
    assert targets.noted(ran) == {number: 1 for number in range(1000)}
    assert len(targets.noted(pids)) == 2
