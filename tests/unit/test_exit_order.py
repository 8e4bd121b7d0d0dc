"""The end of a program: the order of its exit functions, and what the last exit functions can still do."""

import gc
import os
import time
import warnings

import inside_targets as inside
import pytest

from goproc._common import calls
from goproc._pool import crew

ORDERS = [("fork", "nothing"), ("fork", "process"), ("fork", "pool"), ("fork", "queue"), ("fork", "lock")]
ORDERS += [("spawn", "process"), ("spawn", "pool"), ("forkserver", "process"), ("forkserver", "pool")]


@pytest.mark.parametrize("method, first", ORDERS)
def test_order(method, first, run_script):
    """The order is multiprocessing's, in the program and in its child, and whatever of goproc is used first."""
    wanted = run_script("exit_order.py", "multiprocessing", method, first)
    assert wanted.stdout.count("main program:") == 5 and wanted.stderr == ""
    imported = run_script("exit_order.py", "goproc", method, first)
    installed = run_script("exit_order.py", "multiprocessing", method, first, options=["-m", "goproc"])
    counted = run_script("exit_order.py", "goproc", method, first, GOPROC_STATS="1")
    assert imported.stdout.splitlines() == wanted.stdout.splitlines() and imported.stderr == ""
    assert installed.stdout.splitlines() == wanted.stdout.splitlines() and installed.stderr == ""
    assert counted.stdout.splitlines() == wanted.stdout.splitlines()
    assert counted.stderr.startswith("goproc: processes started")


@pytest.mark.parametrize("end", ["terminate", "leave", "drop"])
def test_workers_without_a_task_run_their_exit_functions(context, end, tmp_path, monkeypatch):
    """They get the time that they need, also on a busy machine. With multiprocessing they mostly have it, too."""
    monkeypatch.setattr(crew, "_LEAVING", 60)
    file = tmp_path / "ends"
    for _ in range(5):
        pool = context.Pool(2, inside.finalize, (file,))
        pool.map(abs, range(10), 1)
        while pool._taskqueue.qsize() or calls.pool_up(pool._crew.number) < 2:
            pass
        workers = list(pool._pool)
        if end == "leave":
            with pool:
                pass
        elif end == "terminate":
            pool.terminate()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # for being dropped without having been closed
            del pool
            gc.collect()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        del workers, worker
    assert file.read_text().split() == ["end"] * 10


def test_the_counters_leave_the_order_as_it_is(run_script):
    """Also when multiprocessing has registered its exit function before goproc is imported."""
    code = """
import atexit
import multiprocessing.util
atexit.register(print, "registered before goproc is imported")
import goproc
multiprocessing.util.Finalize(None, print, ["finalizer"], exitpriority=0)
goproc.get_context("fork").Pool(2).map(abs, [1])
"""
    done = run_script("-c", code, GOPROC_STATS="1")
    assert done.stdout.splitlines() == ["registered before goproc is imported", "finalizer"]
    assert "tasks done: 1" in done.stderr


def test_the_engine_serves_until_the_very_end(method, run_script):
    """Exit functions that run after multiprocessing's can start processes, make pools, and get results."""
    done = run_script("after_exit.py", method)
    *lines, pids = done.stdout.splitlines()
    done_late = ["process 3", "pool [5, 4, 3, 2, 1]", "result [1]", "lost result CancelledError", "child (None, 4)"]
    assert lines == ["end", *done_late]
    assert done.stderr == ""
    for pid in pids.split()[1:]:
        deadline = time.monotonic() + 10
        while os.path.exists(f"/proc/{pid}"):
            assert time.monotonic() < deadline, "a process is left"


def test_a_result_that_an_exit_function_fetches(method, run_script):
    """An exit function that was registered before the pool was made finds it as it was."""
    code = """
import atexit, sys, time
import goproc, goproc.pool
atexit.register(lambda: print(result.get(), pool.close(), pool.join()))
if __name__ == "__main__":
    pool = goproc.get_context(sys.argv[1]).Pool(2)
    result = pool.map_async(time.sleep, [0.1] * 4)
"""
    assert run_script("-c", code, method).stdout == "[None, None, None, None] None None\n"
