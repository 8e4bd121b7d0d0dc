"""A program and all its children share one resource tracker, with every start method."""

import os
from multiprocessing import resource_tracker, shared_memory

import pytest

import goproc
from goproc import _native
from goproc._pool import nursery
from goproc._pool.nursery import Nursery

METHODS = ["fork", "spawn", "forkserver"]
WORKERS = nursery.TOGETHER  # as many as are cloned from one fork


def tracker():
    """The tracker's pipe: the same file in all processes that have the same tracker."""
    return os.fstat(resource_tracker.getfd()).st_ino


def send_tracker(connection):
    connection.send((tracker(), getattr(keeps(), "preserve_fd", False)))


def keeps():
    return getattr(resource_tracker, "_fork_intent", None)


def child_of(method, connection):
    process = goproc.get_context(method).Process(target=send_tracker, args=(connection,))
    process.start()
    process.join()
    assert process.exitcode == 0


def told_by(method, target, *args):
    here, there = goproc.Pipe(duplex=False)
    process = goproc.get_context(method).Process(target=target, args=(*args, there))
    process.start()
    there.close()
    try:
        return here.recv()
    finally:
        here.close()
        process.join()
        process.close()


def tracker_in_worker(_):
    return tracker(), os.getpid()


@pytest.mark.parametrize("method", METHODS)
def test_a_child_has_its_parents_tracker(method):
    assert told_by(method, send_tracker) == (tracker(), False)
    assert not getattr(keeps(), "preserve_fd", False)


def test_a_child_that_the_engine_has_forked(monkeypatch):
    monkeypatch.setattr(_native, "start", lambda daemon, record: False)  # as when no seat is left
    assert told_by("fork", send_tracker) == (tracker(), False)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("below", METHODS)
def test_a_grandchild(method, below):
    assert told_by(method, child_of, below) == (tracker(), False)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("workers", [1, WORKERS])
def test_workers(method, workers):
    with goproc.get_context(method).Pool(workers) as pool:
        assert {own for own, _ in pool.map(tracker_in_worker, range(20), 1)} == {tracker()}
        pool.close()
        pool.join()


@pytest.mark.slow
@pytest.mark.part("clones")
def test_workers_that_were_cloned_ahead(monkeypatch):
    forked = []
    fork_ahead = Nursery.fork_ahead
    monkeypatch.setattr(Nursery, "fork_ahead", lambda *args: forked.append(fork_ahead(*args)) or forked[-1])
    with goproc.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        found = pool.map(tracker_in_worker, range(100), 1)
        pool.close()
        pool.join()
    assert {own for own, _ in found} == {tracker()}
    assert len({pid for _, pid in found}) == 100
    assert True in forked


def increase(name):
    memory = shared_memory.SharedMemory(name)
    memory.buf[0] += 1
    memory.close()


@pytest.mark.parametrize("method", METHODS)
def test_shared_memory_outlives_the_children_that_attach_to_it(method):
    context = goproc.get_context(method)
    memory = shared_memory.SharedMemory(create=True, size=100)
    try:
        for _ in range(2):
            with context.Pool(1) as pool:
                pool.map(increase, [memory.name] * 3, 1)
                pool.close()
                pool.join()
            process = context.Process(target=increase, args=(memory.name,))
            process.start()
            process.join()
            assert process.exitcode == 0
        assert memory.buf[0] == 8
    finally:
        memory.close()
        memory.unlink()  # FileNotFoundError, had a child's tracker removed it


RAW_FORK = """
import os, sys
from multiprocessing import resource_tracker
library = __import__(sys.argv[1])

def fork():
    before = os.fstat(resource_tracker.getfd()).st_ino
    if (pid := os.fork()) == 0:
        fd = resource_tracker._resource_tracker._fd
        os._exit(fd is not None and os.fstat(fd).st_ino == before)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def main():
    print(fork())
    for fails in (False, True):
        process = library.get_context("fork").Process(target=lambda: print(fork(), flush=True))
        if fails:
            os.register_at_fork(before=lambda: 1 / 0)
        process.start()
        process.join()
    print(fork())

main()
"""


def test_a_fork_of_the_programs_own_is_left_as_it_is(run_script):
    """Later versions of Python close the tracker's pipe then."""
    theirs, ours = (run_script("-c", RAW_FORK, library).stdout for library in ("multiprocessing", "goproc"))
    assert ours == theirs != ""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_tracker_that_was_started_anew_is_kept(run_script, method):
    """The new pipe has the number of the former one. Names are registered and unregistered with the new tracker."""
    program = (
        "import goproc\n"
        "from multiprocessing import resource_tracker, shared_memory\n"
        f"context = goproc.get_context({method!r})\n"
        "if __name__ == '__main__':\n"
        "    for _ in range(3):\n"
        "        memory = shared_memory.SharedMemory(create=True, size=64)\n"
        "        pid = resource_tracker._resource_tracker._pid\n"
        "        process = context.Process(target=abs, args=(1,))\n"
        "        process.start()\n"
        "        process.join()\n"
        "        assert resource_tracker._resource_tracker._pid == pid\n"
        "        memory.close()\n"
        "        memory.unlink()\n"
        "        resource_tracker._resource_tracker._stop()\n"
    )
    done = run_script("-c", program)
    assert done.stderr == ""


AT_ONCE = """
import os, sys, threading
import goproc
from multiprocessing import resource_tracker

tracker = resource_tracker._resource_tracker
context = goproc.get_context(sys.argv[1])

def send_pipe(connection):
    connection.send(os.fstat(tracker._fd).st_ino)

def start(barrier, pipes):
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=send_pipe, args=(there,))
    barrier.wait()
    process.start()
    pipes.add(here.recv())
    process.join()
    here.close(); there.close()

if __name__ == "__main__":
    sys.setswitchinterval(1e-6)
    for _ in range(50):
        barrier, pipes = threading.Barrier(3), set()
        threads = [threading.Thread(target=start, args=(barrier, pipes)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert tracker._pid is None and len(pipes) == 1, (tracker._pid, pipes)
        tracker._stop()
"""


@pytest.mark.slow
@pytest.mark.part("late-tracker")
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_threads_that_start_the_first_processes_at_once(run_script, tmp_path, method):
    """The threads make one pipe, and start no tracker. A Dask worker does so when its two pools begin at once."""
    program = tmp_path / "program.py"
    program.write_text(AT_ONCE)
    assert run_script(program, method).stderr == ""


IN_A_HANDLER = """
import posix, signal, sys
import goproc
from multiprocessing import resource_tracker

context = goproc.get_context(sys.argv[1])
processes = []

def start(*_):
    processes.append(context.Process(target=abs, args=(1,)))
    processes[-1].start()

def interrupted_close(fd, close=posix.close):
    close(fd)
    posix.close = close
    signal.raise_signal(signal.SIGUSR1)

if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, start)
    pipe = posix.pipe

    def interrupted_pipe():
        posix.close, posix.pipe = interrupted_close, pipe
        return pipe()

    posix.pipe = interrupted_pipe
    start()
    assert len(processes) == 2, processes
    for process in processes:
        process.join()
    assert resource_tracker._resource_tracker._pid is None
"""


@pytest.mark.part("late-tracker")
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_signal_handler_that_starts_a_process_while_the_first_is_started(run_script, tmp_path, method):
    program = tmp_path / "program.py"
    program.write_text(IN_A_HANDLER)
    assert run_script(program, method).stderr == ""
