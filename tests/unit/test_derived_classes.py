"""Classes of the program's own that derive from multiprocessing's or goproc's: contexts, events, and what starts."""

import os
import signal
import sys
import time
from multiprocessing import connection, process, util

import pytest
from helpers import THREADS_ARE_MEANT

import goproc
from goproc import popen_fork

PROGRAM = """
import os, sys
import {name}, {name}.context, {name}.managers, {name}.sharedctypes, {name}.synchronize
from ctypes import Structure, c_int
from {name}.context import {kind}Context, {kind}Process

class Noted({kind}Process):
    def run(self):
        os.write(1, b"run ")
        super().run()

class Context({kind}Context):
    Process = Noted

class Named({name}.synchronize.Event):
    def __init__(self, name):
        super().__init__(ctx={name}.get_context())
        self.name = name

class Point(Structure):
    _fields_ = [("x", c_int), ("y", c_int)]

class Parent:
    def pid(self):
        return os.getppid()

class Manager({name}.managers.BaseManager):
    pass

Manager.register("Parent", Parent)

def look(event, point):
    point.x += 1
    os.write(1, event.name.encode())
    event.set()

if __name__ == "__main__":
    {name}.set_start_method("{method}")
    with Context().Pool(1) as pool:
        assert pool.map(abs, [-1]) == [1]
    event, point = Named("name "), {name}.sharedctypes.Value(Point, 1, 2)
    event._cond, event._flag
    child = {name}.Process(target=look, args=(event, point))
    child.start()
    child.join()
    with Manager() as manager:
        started_by = type(manager._process._popen).__module__
        assert manager._ctx.get_start_method() == "{method}"
    print(event.is_set(), point.x, point.y, started_by.partition(".")[2])
"""

KINDS = {"fork": "Fork", "spawn": "Spawn", "forkserver": "ForkServer"}


@pytest.mark.part("locks")
@pytest.mark.parametrize("name", ["multiprocessing", "goproc"])
def test_a_program_with_classes_of_its_own(run_script, tmp_path, method, name):
    """As it is, and with goproc's name in the place of multiprocessing's."""
    program = PROGRAM.format(name="multiprocessing", kind=KINDS[method], method=method)
    (tmp_path / "theirs.py").write_text(program)
    (tmp_path / "ours.py").write_text(PROGRAM.format(name=name, kind=KINDS[method], method=method))
    theirs = run_script("theirs.py", cwd=tmp_path)
    ours = run_script(*(["-m", "goproc"] if name == "multiprocessing" else []), "ours.py", cwd=tmp_path)
    assert ours.stdout.replace("\n", "") == theirs.stdout.replace("\n", "")
    assert theirs.stdout.startswith("run name True 2 2 popen_")


def test_the_start_method_of_multiprocessing_counts_if_goproc_has_none(run_script):
    code = "import {}, goproc, goproc.managers, goproc.sharedctypes as s, multiprocessing as m; {}; "
    code += "print(goproc.managers.BaseManager()._ctx.get_start_method(), s.synchronized(s.RawValue('i')).get_lock())"
    chosen = run_script("-c", code.format("os", "m.set_start_method('spawn')"))
    assert chosen.stdout.startswith("spawn <RLock(")
    both = run_script("-c", code.format("os", "m.set_start_method('spawn'); goproc.set_start_method('fork')"))
    assert both.stdout.startswith("fork <RLock(")


class Forked(popen_fork.Popen):
    """Starts the process by its own call of os.fork(), as programs do that derive from multiprocessing's Popen."""

    def _launch(self, process_obj):
        read_end, write_end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(process_obj._bootstrap())
        os.close(write_end)
        self.sentinel = read_end
        self.finalizer = util.Finalize(self, os.close, (read_end,))


class ForkedProcess(process.BaseProcess):
    _start_method = "fork"

    @staticmethod
    def _Popen(process_obj):
        return Forked(process_obj)


def start(target, *args):
    child = ForkedProcess(target=target, args=args)
    child.start()
    return child


@THREADS_ARE_MEANT
def test_a_popen_that_starts_the_process_itself():
    child = start(sys.exit, 3)
    child.join()
    assert (child.exitcode, child.is_alive(), child in goproc.active_children()) == (3, False, False)
    sentinel = child.sentinel
    child.close()
    with pytest.raises(OSError):
        os.fstat(sentinel)


@THREADS_ARE_MEANT
@pytest.mark.parametrize("end, code", [("terminate", -signal.SIGTERM), ("kill", -signal.SIGKILL)])
def test_signals_for_such_a_process(end, code):
    child = start(time.sleep, 60)
    child.join(0.05)
    assert (child.exitcode, child.is_alive()) == (None, True)
    getattr(child, end)()
    assert connection.wait([child.sentinel], 60) == [child.sentinel]
    child.join()
    assert child.exitcode == code
    child.kill()


COPY = """
import io, os, sys
import {name}, {name}.context, {name}.popen_spawn_posix
from {name} import reduction, resource_tracker, spawn, util
from multiprocessing import context as tls

class Popen({name}.popen_spawn_posix.Popen):
    def _launch(self, process_obj):
        tracker_fd = resource_tracker.getfd()
        data, buffer = spawn.get_preparation_data(process_obj._name), io.BytesIO()
        tls.set_spawning_popen(self)
        try:
            reduction.dump(data, buffer)
            reduction.dump(process_obj, buffer)
        finally:
            tls.set_spawning_popen(None)
        self.sentinel, child_end = os.pipe()
        read_end, write_end = os.pipe()
        command = spawn.get_command_line(tracker_fd=tracker_fd, pipe_handle=read_end)
        self._fds += [tracker_fd, read_end, child_end]
        self.pid = util.spawnv_passfds(spawn.get_executable(), command, self._fds)
        os.close(read_end)
        os.close(child_end)
        with open(write_end, "wb") as file:
            file.write(buffer.getbuffer())

class Process({name}.context.SpawnProcess):
    @staticmethod
    def _Popen(process_obj):
        return Popen(process_obj)

def work(lock, queue, value):
    with lock:
        value.value += 1
    queue.put(2)
    sys.exit(3)

if __name__ == "__main__":
    context = {name}.get_context("spawn")
    lock, queue, value = context.Lock(), context.Queue(), context.Value("i", 0)
    process = Process(target=work, args=(lock, queue, value))
    process.start()
    process.join()
    print(value.value, queue.get(), process.exitcode)
"""


@pytest.mark.part("locks")
@pytest.mark.part("queues")
@pytest.mark.parametrize("name", ["multiprocessing", "goproc"])
def test_a_popen_that_executes_an_interpreter_itself(run_script, tmp_path, name):
    """As multiprocessing's own Popen does; so the child runs multiprocessing's main function."""
    (tmp_path / "program.py").write_text(COPY.format(name=name))
    options = ["-m", "goproc"] if name == "multiprocessing" else []
    assert run_script(*options, "program.py", cwd=tmp_path).stdout == "1 2 3\n"
