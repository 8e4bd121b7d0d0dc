"""A program that loads the engine after it has started processes by fork: engine_later.py SCENARIO

A pool loads the engine, or a process that is started by another method.
"""

import os
import resource
import signal
import sys
import threading
import time
from multiprocessing.connection import wait

import goproc
from goproc import _native
from goproc._common import calls, engine

context = goproc.get_context("fork")


def by_a_pool():
    watched_from_then_on(lambda: pool_of(2))


def by_a_spawned_process():
    def load():
        process = goproc.get_context("spawn").Process(target=int)
        process.start()
        process.join()
        assert process.exitcode == 0

    watched_from_then_on(load)


def watched_from_then_on(load):
    """The engine watches processes that run, that have ended, and that have been given up."""
    running, ended, joined = start(time.sleep, 60), start(sys.exit, 3), start(sys.exit, 4)
    killed, given_up = start(time.sleep, 60), start(time.sleep, 60)
    joined.join()
    wait([ended.sentinel])
    pid = given_up.pid
    goproc.process._children.discard(given_up)
    del given_up
    assert not engine.is_loaded()
    load()
    assert engine.is_loaded()
    os.kill(killed.pid, signal.SIGTERM)
    wait([killed.sentinel])
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_gone(pid))
    assert running.is_alive() and running in goproc.active_children()
    running.terminate()
    running.join()
    codes = [process.exitcode for process in (running, ended, joined, killed)]
    assert codes == [-signal.SIGTERM, 3, 4, -signal.SIGTERM]
    after = start(sys.exit, 5)
    wait([after.sentinel])
    assert after.exitcode == 5
    stats = calls.stats()
    assert stats["running"] == 0 and stats["started"]["fork"] >= 6


def while_a_thread_joins():
    process = start(time.sleep, 60)
    seen = []
    thread = threading.Thread(target=lambda: (process.join(), seen.append(process.exitcode)))
    thread.start()
    engine.load()
    process.kill()
    thread.join()
    assert seen == [-signal.SIGKILL]


def while_threads_fork():
    """A child of that moment has no engine, or an inherited one; either way it can load its own."""
    gate = threading.Barrier(4)
    codes = []

    def fork():
        gate.wait()
        for _ in range(5):
            process = start(use_an_engine)
            process.join()
            codes.append(process.exitcode)

    threads = [threading.Thread(target=fork) for _ in range(3)]
    for thread in threads:
        thread.start()
    gate.wait()
    engine.load()
    for thread in threads:
        thread.join()
    assert codes == [0] * 15
    assert calls.stats()["started"]["fork"] == 15


def use_an_engine():
    assert not engine.is_loaded()
    process = start(sys.exit, 3)
    assert not engine.is_loaded()
    engine.load()
    process.join()
    assert process.exitcode == 3


def children_of_a_parent_with_one():
    """Such children need no engine, either, to start processes by fork."""
    pool_of(1)
    process = start(fork_only)
    process.join()
    assert process.exitcode == 0
    process = start(use_an_engine)
    process.join()
    assert process.exitcode == 0


def fork_only():
    assert _native.engine_state() == 2
    assert calls.stats()["started"]["fork"] == 0
    process = start(time.sleep, 60)
    process.terminate()
    process.join()
    assert process.exitcode == -signal.SIGTERM
    assert _native.engine_state() == 2
    assert len(os.listdir("/proc/self/task")) == 1


def when_no_seat_is_left():
    """The engine starts and watches the processes for which no seat is left."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    reader, writer = os.pipe()
    processes = [start(read, reader, writer) for _ in range(1024)]
    assert not engine.is_loaded()
    processes += [start(read, reader, writer) for _ in range(3)]
    assert engine.is_loaded()
    assert calls.stats()["running"] == 1027
    os.close(writer)
    for process in processes:
        process.join()
        assert process.exitcode == 7
    assert calls.stats()["started"]["fork"] == 1027


def read(reader, writer):
    os.close(writer)
    os.read(reader, 1)
    sys.exit(7)


def pool_of(workers):
    with context.Pool(workers) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
        pool.close()
        pool.join()


def start(target, *args):
    process = context.Process(target=target, args=args)
    process.start()
    return process


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


def by_a_thread_that_forks():
    """The end of this thread is also the end of the child: no Go may run in it."""
    codes = []

    def fork():
        with context.Pool(1) as pool:
            assert pool.map(abs, [-1]) == [1]
        pid = os.fork()
        if pid:
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
    assert codes == [0]


if __name__ == "__main__":
    globals()[sys.argv[1]]()
