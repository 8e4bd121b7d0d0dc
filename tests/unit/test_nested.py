"""Nested pools: tasks that start processes and pools of their own, and what is left of these after a kill."""

import os
import signal
import subprocess
import sys
import time

import nested_targets as targets
import pytest
from helpers import SCRIPTS, wait_until

import goproc
import goproc.futures


def gone(pid):
    """Whether a process has ended. Somebody else may not have reaped it yet."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_task_may_use_a_pool(context, method):
    with context.Pool(2, nested=True) as pool:
        assert pool.map(targets.total_of_squares, [(method, 3), (method, 5), (method, 7)]) == [5, 30, 91]


def test_a_task_may_start_a_process(context, method):
    with context.Pool(1, nested=True) as pool:
        assert pool.apply(targets.exit_code_of_a_child, (method, 7)) == 7


def test_pools_in_pools_in_pools(context, method):
    with context.Pool(1, nested=True) as pool:
        assert pool.apply(targets.deep, (method, 2)) == 2


def test_without_nested_as_with_multiprocessing(context, method):
    with context.Pool(1) as pool:
        with pytest.raises(AssertionError, match="daemonic processes are not allowed to have children"):
            pool.apply(targets.exit_code_of_a_child, (method, 7))


@pytest.mark.slow
@pytest.mark.parametrize("daemon", [False, True])
def test_what_is_below_a_killed_worker_is_gone(context, method, daemon):
    """The child of a child, too, whatever start methods they are of."""
    with context.Pool(1, nested=True) as pool:
        for inner in "fork", "spawn", "forkserver":
            pids = pool.apply(targets.start_tree, (inner, daemon))
            assert not any(map(gone, pids))
            os.kill(pool._pool[0].pid, signal.SIGKILL)
            wait_until(lambda pids=pids: all(map(gone, pids)))
            pool.apply_async(int).wait()


@pytest.mark.slow
def test_a_killed_task_is_lost_with_its_pool(context, method):
    with context.Pool(1, nested=True) as pool:
        before = pool.apply(os.getpid)
        with pytest.raises(goproc.WorkerLostError):
            pool.apply(targets.die_with_a_pool, (method,))
        wait_until(lambda: gone(before))
        assert pool.apply(targets.total_of_squares, ((method, 3),)) == 5


@pytest.mark.slow
def test_terminate_ends_all(context, method):
    pool = context.Pool(2, nested=True)
    trees = pool.map(targets.start_tree_of, [(method, False)] * 2, chunksize=1)
    pids = [pid for tree in trees for pid in tree]
    result = pool.apply_async(time.sleep, (1000,))
    pool.terminate()
    pool.join()
    assert not result.ready() or not result.successful()
    wait_until(lambda: all(map(gone, pids)))


def test_a_cancelled_task_takes_its_processes_with_it(context, method):
    with context.Pool(1, nested=True) as pool:
        result = pool.apply_async(targets.start_tree_and_wait, (method,))
        pids = []

        def started():
            pids[:] = [pid for pid in map(int, _children_of(pool._pool[0].pid)) if pid not in pids]
            return pids

        wait_until(started)
        result.cancel()
        wait_until(lambda: all(map(gone, pids)))
        assert pool.apply(abs, (-1,)) == 1


def _children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def test_killing_the_program_ends_all(method):
    command = [sys.executable, "nested_tree.py", method]
    program = subprocess.Popen(command, cwd=SCRIPTS, stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in program.stdout.readline().split()]
    assert len(pids) == 4
    program.kill()
    program.wait()
    program.stdout.close()
    wait_until(lambda: all(map(gone, pids)))


@pytest.mark.slow
def test_processes_that_a_task_leaves_are_joined_at_the_workers_end(context, method, tmp_path):
    """As with multiprocessing: a process that ends in order waits for its children, unless they are daemons."""
    with context.Pool(1, nested=True) as pool:
        pool.apply(targets.write_later, (method, str(tmp_path / "written")))
        pool.close()
        pool.join()
    assert (tmp_path / "written").read_text() == "written"


def test_an_executor(context, method):
    with goproc.futures.ProcessPoolExecutor(1, context, nested=True) as executor:
        pids = executor.submit(targets.start_tree, method, False).result()
        worker = executor.submit(os.getpid).result()
        with pytest.raises(goproc.WorkerLostError):
            executor.submit(os.kill, worker, signal.SIGKILL).result()
        wait_until(lambda: all(map(gone, pids)))


def test_the_queue_driven_pool_refuses():
    class Own(goproc.pool.Pool):
        def _get_tasks(self, *args):  # one of its parts
            return super()._get_tasks(*args)

        @staticmethod
        def _worker_handler(*args):
            return None

    with pytest.raises(TypeError, match="nested"):
        Own(1, nested=True)
