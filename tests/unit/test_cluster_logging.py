"""Log records of a cluster's workers reach the main program's handlers: Pool(log=True), and goproc.logging.relay()."""

import itertools
import logging
import signal
import threading
from collections import Counter

import cluster_targets as targets
import logging_targets
import pytest
from helpers import wait_until

import goproc
import goproc.logging

pytest.importorskip("distributed", reason="goproc.cluster needs distributed")

import distributed

from goproc import cluster


@pytest.mark.slow
def test_records_of_all_machines(client, handler):
    with cluster.Pool(client, log=True) as pool:
        pids = pool.map(logging_targets.say_number, range(40), chunksize=1)
        assert goproc.logging.flush()
        names = {driver.name for driver in pool._crew.drivers.values()}
        assert sorted(handler.texts) == sorted(f"number {number}" for number in range(40))
    assert Counter(record.process for record in handler.records) == Counter(pids)
    for record in handler.records:
        assert (record.name, record.levelname, record.args) == ("relayed.targets", "INFO", None)
        assert (record.taskFunction, record.funcName) == ("say_number", "say")
        assert "PoolWorker" in record.processName
    assert {record.machineName for record in handler.records} == names
    assert all(name.startswith("machine-") for name in names)


def test_relay(client, relay, handler):
    with cluster.Pool(client) as pool:
        pool.map(logging_targets.say_number, range(8), chunksize=1)
        assert relay.flush()
        assert sorted(handler.texts) == sorted(f"number {number}" for number in range(8))
    logging_targets.say("here")
    assert handler.records[-1].machineName == ""


@pytest.mark.slow
def test_without_a_relay_nothing_comes(client, handler):
    with cluster.Pool(client) as pool:
        pool.map(logging_targets.say_number, range(8), chunksize=1)
        assert goproc.logging.flush()
    assert handler.texts == []


def test_two_pools_on_the_same_machines(client, handler):
    """Only the pool with log=True relays, though both have workers in the same processes of Dask."""
    with cluster.Pool(client) as quiet, cluster.Pool(client, log=True) as loud:
        quiet.map(logging_targets.say_number, range(8), chunksize=1)
        loud.map(logging_targets.say_number, range(100, 104), chunksize=1)
    assert sorted(handler.texts) == [f"number {number}" for number in range(100, 104)]


@pytest.mark.slow
def test_many_records_in_order(client, handler):
    with cluster.Pool(client, log=True) as pool:
        pool.starmap(logging_targets.say_many, [(producer, 2500) for producer in range(4)], chunksize=1)
    assert len(handler.records) == 10_000
    for producer in range(4):
        mine = [text for text in handler.texts if text.startswith(f"{producer} ")]
        assert mine == [f"{producer} {number}" for number in range(2500)]


@pytest.mark.slow
def test_messages_that_are_sent_again(client, handler, monkeypatch):
    """When a connection breaks after the machine has answered, no record is lost, and none comes twice."""
    from goproc._cluster.driver import Driver

    call, numbers = Driver._call, itertools.count()

    async def call_and_lose(self, packed):
        answer = await call(self, packed)
        if next(numbers) % 3 == 1:
            raise OSError("the connection broke")
        return answer

    with cluster.Pool(client, log=True) as pool:
        monkeypatch.setattr(Driver, "_call", call_and_lose)
        for _ in range(4):
            pool.starmap(logging_targets.say_many, [(0, 25)] * 4, chunksize=1)
    assert Counter(handler.texts) == {f"0 {number}": 16 for number in range(25)}
    assert next(numbers) > 10


@pytest.mark.slow
def test_leaving_the_block_waits_for_records_of_tasks_that_run(client, handler):
    with cluster.Pool(client, log=True) as pool:
        pool.apply(logging_targets.say, ("first",))
        pool.apply_async(say_and_wait)
        wait_until(lambda: "begun" in handler.texts)
    assert handler.texts == ["first", "begun"]


def say_and_wait():
    logging_targets.log.info("begun")
    signal.pause()


def test_close_and_join(client, handler):
    pool = cluster.Pool(client, log=True)
    pool.starmap_async(logging_targets.say_many, [(producer, 500) for producer in range(4)], chunksize=1)
    pool.close()
    pool.join()
    assert len(handler.records) == 2000


def test_a_worker_that_is_killed_after_it_logged(client, handler):
    with cluster.Pool(client, log=True) as pool:
        with pytest.raises(goproc.WorkerLostError):
            pool.apply(logging_targets.say_and_die, ("the last words",))
        assert goproc.logging.flush()
        assert handler.texts == ["the last words"]
        with pytest.raises(goproc.WorkerLostError):
            pool.apply(logging_targets.say_and_leave, ("farewell",))
        assert pool.apply(targets.double, (4,)) == 8
    assert handler.texts == ["the last words", "farewell"]


def test_an_initializer_that_logs(client, handler):
    with cluster.Pool(client, initializer=logging_targets.say, initargs=("begins",), log=True) as pool:
        assert pool.apply(targets.double, (4,)) == 8
        wait_until(lambda: len(handler.texts) == 4)  # one machine may begin later than the other
    assert handler.texts == ["begins"] * 4
    assert {record.taskFunction for record in handler.records} == {""}
    assert len({record.process for record in handler.records}) == 4


def test_levels(client, handler):
    with cluster.Pool(client, processes=1, log=True) as pool:
        pool.apply(logging_targets.log_each_level)
    assert handler.texts == ["level 20", "level 25", "level 30", "silent"]
    handler.records.clear()
    logging.getLogger("relayed").setLevel(logging.DEBUG)
    with cluster.Pool(client, processes=1, log=True) as pool:
        pool.apply(logging_targets.log_each_level)
    assert handler.texts == ["level 10", "level 20", "level 25", "level 30", "loud", "silent"]


def test_warnings_and_tracebacks(client, handler):
    with cluster.Pool(client, processes=1, log=True) as pool:
        pool.apply(logging_targets.warn)
        pool.apply(logging_targets.fail_in_thread)
        pool.apply(logging_targets.log_error)
    warning, error, caught = handler.records
    assert warning.name == "py.warnings" and "UserWarning: take care" in warning.getMessage()
    assert (error.name, error.getMessage()) == ("goproc.tracebacks", "Exception in thread failing:")
    assert "ValueError: wrong" in error.exc_text and "ValueError: wrong" in caught.exc_text
    assert all(record.machineName.startswith("machine-") for record in handler.records)


def test_large_records(client, handler):
    with cluster.Pool(client, processes=2, log=True) as pool:
        pool.map(logging_targets.log_large, [3_000_000] * 6, chunksize=1)
        pool.apply(logging_targets.log_large, (100_000,))
    assert [len(text) for text in handler.texts] == [3_000_000] * 6 + [100_000]
    assert {type(record.msg) for record in handler.records} == {str}


def test_a_slow_handler_bounds_what_is_kept(client, handler):
    """While a handler is busy, workers that log wait; other tasks go on, and nothing is lost."""
    go_on = threading.Event()
    held = threading.Event()

    class Slow(logging.Handler):
        def emit(self, record):
            held.set()
            go_on.wait()

    slow = Slow()
    logging.getLogger("relayed").addHandler(slow)
    try:
        with cluster.Pool(client, log=True) as pool:
            result = pool.starmap_async(logging_targets.log_sized, [(200, 50_000)] * 2, chunksize=1)
            held.wait()
            assert pool.map(targets.double, range(100), chunksize=1) == [2 * i for i in range(100)]
            assert not result.ready()
            assert not goproc.logging.flush(timeout=0.1)
            go_on.set()
            result.get(60)
            assert goproc.logging.flush()
            assert len(handler.records) == 400
    finally:
        go_on.set()
        logging.getLogger("relayed").removeHandler(slow)


def test_flush_in_a_handler_and_the_pools_end(client, handler):
    answers = []

    class Flushing(logging.Handler):
        def emit(self, record):
            answers.append(goproc.logging.flush())

    flushing = Flushing()
    logging.getLogger("relayed").addHandler(flushing)
    try:
        with cluster.Pool(client, log=True) as pool:
            pool.apply(logging_targets.say, ("once",))
    finally:
        logging.getLogger("relayed").removeHandler(flushing)
    assert answers == [False] and handler.texts == ["once"]


def test_stop(client, handler, capfd):
    stopped = goproc.logging.relay()
    with cluster.Pool(client, processes=1) as pool:
        pool.apply(logging_targets.say, ("in time",))
        stopped.stop()
        assert handler.texts == ["in time"]
        pool.apply(logging_targets.say, ("too late", logging.WARNING))
    assert handler.texts == ["in time"]
    assert capfd.readouterr().err.splitlines()[-1] == "too late"


@pytest.mark.slow
def test_in_a_child(client, relay, handler):
    """A child of the main program has a pool on the cluster: the records go on to the main program."""
    process = goproc.get_context("spawn").Process(target=pool_in_a_child, args=(client.scheduler.address,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert relay.flush()
    assert sorted(handler.texts) == [f"number {number}" for number in range(4)]
    assert all(record.machineName.startswith("machine-") for record in handler.records)


def pool_in_a_child(address):
    with cluster.Pool(address) as pool:
        pool.map(logging_targets.say_number, range(4), chunksize=1)


@pytest.mark.slow
def test_a_client_that_was_closed_before_its_pool(machines, handler):
    """Nothing comes any more, and nobody waits for it."""
    address = machines("local:1x1").client.scheduler.address
    with distributed.Client(address, set_as_default=False) as client:
        pool = cluster.Pool(client, log=True)
        pool.apply(logging_targets.say, ("in time",))
        assert goproc.logging.flush()
    assert goproc.logging.flush()
    pool.terminate()
    pool.join()
    assert handler.texts == ["in time"]


@pytest.mark.slow
def test_a_suspended_machine_does_not_hold_up_the_end(machines, handler):
    connection = machines("local:2x1")
    with cluster.Pool(connection.client, lost_after=60, log=True) as pool:
        pool.map(logging_targets.say_number, range(20), chunksize=1)
        assert goproc.logging.flush()
        connection.machines.processes[1].send_signal(signal.SIGSTOP)
    connection.machines.processes[1].send_signal(signal.SIGCONT)
    assert len(handler.records) == 20


@pytest.mark.slow
def test_a_lost_machine(machines, handler):
    """What has come from a machine before it is lost is handled, and the pool's end does not wait for it."""
    connection = machines("local:2x1")
    with cluster.Pool(connection.client, log=True) as pool:
        pool.map(logging_targets.say_number, range(20), chunksize=1)
        assert goproc.logging.flush()
        connection.machines.processes[1].kill()
        pool.map(targets.slow_double, range(20), chunksize=1, return_exceptions=True)
        assert goproc.logging.flush()
    assert len(handler.records) == 20


PROGRAM = """
import logging, multiprocessing, sys, time
from concurrent.futures import ProcessPoolExecutor
import goproc, goproc.logging
from goproc import cluster

class Slow(logging.StreamHandler):
    def emit(self, record):
        time.sleep(0.01)
        print(record.machineName[:9], record.taskFunction, record.getMessage()[:10].strip())

def work(number):
    logging.getLogger("numbers").info("number %d %s", number, 50_000 * " ")

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, handlers=[Slow()])
    goproc.logging.relay()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, lines",
    [
        ([], "pool = cluster.Pool('local:1x1'); pool.map(work, range(60))"),
        (["--cluster", "local:1x1"], "pool = multiprocessing.Pool(); pool.map(work, range(60))"),
        (
            ["--cluster", "local:1x1", "--futures"],
            "executor = ProcessPoolExecutor(); list(executor.map(work, range(60)))",
        ),
    ],
    ids=["cluster.Pool", "Pool", "executor"],
)
def test_at_the_programs_end(run_script, tmp_path, options, lines):
    """A program that does not close its pool, with handlers that are slow: all records are handled."""
    program = tmp_path / "program.py"
    program.write_text(f"{PROGRAM}    {lines}\n")
    done = run_script("-m", "goproc", *options, program)
    assert done.stdout.splitlines() == [f"machine-0 work number {number}" for number in range(60)], done.stderr
