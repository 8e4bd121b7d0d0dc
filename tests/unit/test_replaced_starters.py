"""Programs, debuggers, profilers and loaders that replace a function by which multiprocessing starts processes."""

import multiprocessing.spawn
import multiprocessing.util
import os
import signal
import sys
import types
from pathlib import Path

import pytest
import starter_targets as targets
from helpers import THREADS_ARE_MEANT, wait_until

import goproc
from goproc.futures import ProcessPoolExecutor

pytestmark = THREADS_ARE_MEANT

EXECUTING = ["spawn", "forkserver"]


@pytest.fixture
def counted(monkeypatch):
    """Return a function that replaces a function by one which notes its calls, and sets STARTED_BY meanwhile."""
    calls = []

    def replace(module, name):
        original = getattr(module, name)

        def started_by_the_program(*arguments, **keywords):
            calls.append(name)
            os.environ["STARTED_BY"] = name
            try:
                return original(*arguments, **keywords)
            finally:
                del os.environ["STARTED_BY"]

        monkeypatch.setattr(module, name, started_by_the_program)
        return calls

    return replace


def all_ways(context):
    """Start processes in all ways; return the set of values of STARTED_BY that they have seen."""
    queue = context.Queue()
    process = context.Process(target=targets.put, args=(queue, "process"))
    process.start()
    value, seen, arguments, parent = queue.get(timeout=60)
    process.join()
    assert (value, process.exitcode, parent) == ("process", 0, os.getpid())
    assert arguments == sys.argv[1:]
    marks = {seen}
    with context.Pool(2) as pool:
        results = pool.map(targets.marked, range(8), chunksize=1)
        assert [value for value, _ in results] == list(range(8))
        marks |= {mark for _, mark in results}
    with context.Pool(1, maxtasksperchild=1) as pool:
        marks |= {mark for _, mark in pool.map(targets.marked, range(3), chunksize=1)}
    with ProcessPoolExecutor(1, context) as executor:
        marks.add(executor.submit(targets.marked, 1).result()[1])
    return marks


@pytest.mark.parametrize("method", EXECUTING)
def test_spawnv_passfds(counted, method):
    """Viztracer adds itself to the command line, loaders of packed programs set the environment."""
    calls = counted(multiprocessing.util, "spawnv_passfds")
    assert all_ways(goproc.get_context(method)) == {"spawnv_passfds"}
    assert calls


@pytest.mark.parametrize("method", EXECUTING)
def test_fork_exec(counted, method):
    """Debuggers replace this one."""
    import _posixsubprocess

    calls = counted(_posixsubprocess, "fork_exec")
    assert all_ways(goproc.get_context(method)) == {"fork_exec"}
    assert calls


def test_os_fork(counted):
    calls = counted(os, "fork")
    all_ways(goproc.get_context("fork"))
    assert len(calls) >= 1 + 2 + 3 + 1


def test_the_command_line_of_spawn(monkeypatch):
    """multiprocessing's own main function runs in the child then."""

    def get_command_line(**keywords):
        numbers = ", ".join(f"{name}={number!r}" for name, number in keywords.items())
        program = "import os; os.environ['STARTED_BY'] = 'me'; from multiprocessing.spawn import spawn_main as f; "
        program += f"f({numbers})"
        return [sys.executable, "-c", program, "--multiprocessing-fork", *sys.argv[1:]]

    monkeypatch.setattr(sys, "argv", [sys.argv[0]])
    monkeypatch.setattr(multiprocessing.spawn, "get_command_line", get_command_line)
    assert all_ways(goproc.get_context("spawn")) == {"me"}


@pytest.mark.parametrize("method", ["fork", *EXECUTING])
def test_the_ends_of_such_processes(counted, method):
    if method == "fork":
        counted(os, "fork")
    else:
        counted(multiprocessing.util, "spawnv_passfds")
    context = goproc.get_context(method)
    process = context.Process(target=targets.leave, args=(3,))
    process.start()
    process.join(60)
    assert process.exitcode == 3
    started = context.Event()
    process = context.Process(target=targets.wait, args=(started,), daemon=True)
    process.start()
    assert started.wait(60) and process.is_alive() and process in goproc.active_children()
    process.terminate()
    process.join(60)
    assert process.exitcode == -signal.SIGTERM
    with context.Pool(1) as pool:
        pid = pool.apply(os.getpid)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pool.apply(os.getpid) != pid)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


PROGRAM = """
import multiprocessing, multiprocessing.util, os, sys
import starter_targets as targets
original = {module}.{name}
def mine(*arguments, **keywords):
    return original(*arguments, **keywords)
{module}.{name} = mine
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    started = context.Event()
    process = context.Process(target=targets.wait, args=(started,), daemon=True)
    process.start()
    started.wait()
    print(process.pid, flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("method", ["fork", *EXECUTING])
def test_daemons_end_with_a_killed_program(run_script, tmp_path, method):
    module, name = ("os", "fork") if method == "fork" else ("multiprocessing.util", "spawnv_passfds")
    (tmp_path / "program.py").write_text(PROGRAM.format(module=module, name=name, method=method))
    path = os.path.dirname(__file__)
    done = run_script("-m", "goproc", "program.py", cwd=tmp_path, status=-signal.SIGKILL, PYTHONPATH=path)
    pid = int(done.stdout)
    wait_until(lambda: not is_running(pid))


COUNTED = """
import multiprocessing, multiprocessing.util, sys
import starter_targets as targets
original = multiprocessing.util.spawnv_passfds
multiprocessing.util.spawnv_passfds = lambda *arguments: original(*arguments)
if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(3) as pool:
        pool.map(targets.marked, range(4))
"""


@pytest.mark.parametrize("method", EXECUTING)
def test_the_counters_and_the_log(run_script, tmp_path, method):
    (tmp_path / "program.py").write_text(COUNTED)
    environment = {"PYTHONPATH": os.path.dirname(__file__), "GOPROC_LOG": "info"}
    done = run_script("-m", "goproc", "--stats", "program.py", method, cwd=tmp_path, **environment)
    started = {"fork": 0, "spawn": 0, "forkserver": 0, method: 3}
    assert "started: " + ", ".join(f"{name} {count}" for name, count in started.items()) in done.stderr
    assert done.stderr.count("the program's own multiprocessing.util.spawnv_passfds") == 1


MAIN = """
import multiprocessing.spawn
original = multiprocessing.spawn._main
def mine(fd, parent_sentinel):
    import os
    os.environ["STARTED_BY"] = "main"
    return original(fd, parent_sentinel)
multiprocessing.spawn._main = mine
"""

USER = """
import multiprocessing, sys
import starter_targets as targets
if __name__ == "__main__":
    multiprocessing.set_forkserver_preload(["replacing", "__main__"])
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print(*sorted(set(pool.map(targets.marked, range(4)))))
"""


def test_the_main_function_of_children_is_replaced_in_the_fork_server(run_script, tmp_path):
    (tmp_path / "replacing.py").write_text(MAIN)
    (tmp_path / "program.py").write_text(USER)
    path = f"{os.path.dirname(__file__)}{os.pathsep}{tmp_path}"
    done = run_script("-m", "goproc", "program.py", "forkserver", cwd=tmp_path, PYTHONPATH=path)
    assert done.stdout == "(0, 'main') (1, 'main') (2, 'main') (3, 'main')\n"


@pytest.mark.parametrize("method", EXECUTING)
def test_the_main_function_of_children_is_replaced_at_the_start_of_each(run_script, tmp_path, method):
    (tmp_path / "sitecustomize.py").write_text(MAIN)
    (tmp_path / "program.py").write_text(USER.replace('"replacing", ', ""))
    path = f"{tmp_path}{os.pathsep}{os.path.dirname(__file__)}"
    done = run_script("-m", "goproc", "program.py", method, cwd=tmp_path, PYTHONPATH=path)
    assert done.stdout == "(0, 'main') (1, 'main') (2, 'main') (3, 'main')\n"


def test_a_function_that_raises(monkeypatch):
    def refuse(*_):
        raise OSError("no more processes here")

    assert isinstance(os.fork, types.BuiltinFunctionType)
    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr(multiprocessing.util, "spawnv_passfds", refuse)
    before = set(os.listdir("/proc/self/fd"))
    for method in ("fork", *EXECUTING):
        process = goproc.get_context(method).Process(target=targets.leave, args=(0,))
        with pytest.raises(OSError, match="no more processes here"):
            process.start()
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1  # the resource tracker's pipe
