"""Programs that replace other functions of multiprocessing and concurrent.futures than those that start processes."""

import concurrent.futures.process
import multiprocessing.queues
import os
import sys
from multiprocessing import connection

import futures_targets
import process_targets
import pytest
from helpers import THREADS_ARE_MEANT

import goproc
import goproc.synchronize
from goproc.futures import ProcessPoolExecutor

pytestmark = THREADS_ARE_MEANT


@pytest.mark.part("manager-connections")
@pytest.mark.parametrize("name", ["send", "recv", "_send", "_recv_bytes"])
def test_methods_of_connections_to_a_manager(context, monkeypatch, name):
    """Programs replace them to count, to log, or to send larger messages."""
    original = getattr(connection.Connection, name)
    calls = []

    def counted(self, *arguments):
        calls.append(name)
        return original(self, *arguments)

    monkeypatch.setattr(connection.Connection, name, counted)
    with context.Manager() as manager:
        shared = manager.dict()
        calls.clear()
        for number in range(5):
            shared[number] = number
        assert len(calls) >= 5
        assert shared.copy() == {number: number for number in range(5)}
    monkeypatch.undo()
    with context.Manager() as manager:
        assert manager.list([1]).pop() == 1
    assert goproc.active_children() == []


def test_the_main_function_of_an_executors_workers(monkeypatch, tmp_path):
    """The executor is concurrent.futures' own then, because the engine's workers do not call that function."""
    original = concurrent.futures.process._process_worker

    def noted(*arguments, **keywords):
        (tmp_path / "noted").touch()
        return original(*arguments, **keywords)

    monkeypatch.setattr(concurrent.futures.process, "_process_worker", noted)
    with ProcessPoolExecutor(1, goproc.get_context("fork")) as executor:
        assert executor.submit(futures_targets.double, 4).result() == 8
    assert (tmp_path / "noted").exists()


class LockOfMultiprocessing(goproc.synchronize.Lock):
    """A lock with the arguments of multiprocessing's: a profiler's, which counts the time that is spent waiting."""

    def __init__(self, ctx=None):
        super().__init__(ctx=ctx or goproc.get_context())


@pytest.mark.part("locks")
def test_the_class_of_locks(context, monkeypatch):
    monkeypatch.setattr(goproc.synchronize, "Lock", LockOfMultiprocessing)
    lock = context.Lock()
    assert type(lock) is LockOfMultiprocessing
    with lock:
        assert not lock.acquire(False)
    with pytest.raises(TypeError):
        context.Lock(abandoned="take")
    queue = type("OwnQueue", (multiprocessing.queues.Queue,), {})(ctx=context)
    queue.put(4)
    assert queue.get() == 4


@pytest.mark.parametrize("function", [sys.exit, int], ids=["raises", "returns"])
@pytest.mark.parametrize("with_fork", [False, True], ids=["", "with fork"])
def test_the_function_that_ends_a_child(context, monkeypatch, function, with_fork):
    """Profilers replace os._exit by sys.exit, to be asked for their figures at the end."""
    monkeypatch.setattr(os, "_exit", function)
    if with_fork:
        fork = os.fork
        monkeypatch.setattr(os, "fork", lambda: fork())
    for status in 0, 3:
        process = context.Process(target=process_targets.exit_with, args=(status,))
        process.start()
        process.join()
        assert process.exitcode == status
    with context.Pool(3) as pool:
        assert pool.map(futures_targets.double, range(9)) == list(range(0, 18, 2))
        pool.close()
        pool.join()
        assert [worker.exitcode for worker in pool._pool] == [0, 0, 0]


def test_what_the_function_that_ends_a_child_raises(monkeypatch, capfd):
    def fail(status):
        raise RuntimeError(f"the status is {status}")

    monkeypatch.setattr(os, "_exit", fail)
    process = goproc.get_context("fork").Process(target=process_targets.nothing)
    process.start()
    process.join()
    assert process.exitcode == 1
    assert "RuntimeError: the status is 0" in capfd.readouterr().err


CONTEXTS = """
import multiprocessing, multiprocessing.context as names, sys, threading

def noted(kind, name):
    original = getattr(kind, name)
    def replacement(*arguments, **keywords):
        print(kind.__name__, name, flush=True)
        return original(*arguments, **keywords)
    setattr(kind, name, staticmethod(replacement) if name == "_Popen" else replacement)

if __name__ == "__main__":
    method = sys.argv[1]
    kind = {"fork": names.ForkProcess, "spawn": names.SpawnProcess, "forkserver": names.ForkServerProcess}[method]
    noted(kind, "_Popen")
    for name in ("Event", "Queue", "JoinableQueue", "Pool"):
        noted(names.BaseContext, name)
    context = multiprocessing.get_context(method)
    print(context.Event().is_set())
    context.JoinableQueue(3).put(1)
    queue = context.Queue()
    process = context.Process(target=queue.put, args=("from the child",))
    process.start()
    print(queue.get())
    process.join()
    with context.Pool(1) as pool:
        print(pool.map(abs, [-1]))
    names.BaseContext.Lock = lambda self: threading.Lock()
    print(type(context.Lock()).__name__)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_methods_of_contexts_and_processes(run_script, tmp_path, method):
    """Where there are no semaphores, programs put locks of threads in the place of the contexts' locks."""
    (tmp_path / "program.py").write_text(CONTEXTS)
    ours = run_script("-m", "goproc", "program.py", method, cwd=tmp_path)
    theirs = run_script("program.py", method, cwd=tmp_path)
    assert "Process _Popen\n" in ours.stdout and ours.stdout == theirs.stdout
