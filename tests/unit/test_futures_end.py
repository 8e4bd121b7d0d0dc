"""ProcessPoolExecutor: its workers, its names that programs use, and its end, with each start method."""

import asyncio
import concurrent.futures
import gc
import os
import subprocess
import sys
import threading
import time
import weakref

import futures_targets as targets
import pytest
from helpers import THREADS_ARE_MEANT, wait_until

import goproc
from goproc.futures import BrokenProcessPool, ProcessPoolExecutor

pytestmark = THREADS_ARE_MEANT


def test_initializer(context):
    with ProcessPoolExecutor(2, context, targets.initialize, ("ready",)) as executor:
        assert [executor.submit(targets.read_state).result() for _ in range(4)] == ["ready"] * 4


def test_an_initializer_that_fails(context):
    with ProcessPoolExecutor(2, context, targets.refuse_to_begin) as executor:
        try:
            future = executor.submit(abs, -1)
        except BrokenProcessPool:
            pass
        else:
            with pytest.raises(BrokenProcessPool, match="ValueError: no service"):
                future.result()
        wait_until(lambda: executor._broken)
        with pytest.raises(BrokenProcessPool, match="not usable anymore"):
            executor.submit(abs, -1)
        with pytest.raises(BrokenProcessPool):
            executor.map(abs, [-1])


def test_arguments_that_are_none():
    for number in 0, -1:
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            ProcessPoolExecutor(number)
        with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
            ProcessPoolExecutor(1, goproc.get_context("spawn"), max_tasks_per_child=number)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        ProcessPoolExecutor(1, initializer=5)
    with pytest.raises(TypeError, match="max_tasks_per_child must be an integer"):
        ProcessPoolExecutor(1, max_tasks_per_child=1.5)
    with pytest.raises(ValueError, match="max_tasks_per_child is incompatible with the 'fork'"):
        ProcessPoolExecutor(1, goproc.get_context("fork"), max_tasks_per_child=1)
    with pytest.raises(TypeError):
        ProcessPoolExecutor("1")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_max_tasks_per_child(method):
    with ProcessPoolExecutor(1, goproc.get_context(method), max_tasks_per_child=3) as executor:
        pids = [executor.submit(targets.pid).result() for _ in range(7)]
        assert len(set(pids[:3])) == len(set(pids[3:6])) == 1 and len(set(pids)) == 3
        assert len(executor._processes) == 1


def test_max_tasks_per_child_takes_spawn():
    executor = ProcessPoolExecutor(1, max_tasks_per_child=3)
    assert executor._mp_context.get_start_method() == "spawn"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_are_started_when_they_are_needed(method, tmp_path):
    with ProcessPoolExecutor(4, goproc.get_context(method)) as executor:
        assert executor._processes == {}
        for number in range(3):
            assert executor.submit(targets.double, number).result() == 2 * number
        assert len(executor._processes) == 1
        futures = [executor.submit(targets.signal_and_wait, tmp_path / str(n), tmp_path / "release") for n in range(3)]
        assert len(executor._processes) == 3
        (tmp_path / "release").touch()
        concurrent.futures.wait(futures)
        assert len(list(executor.map(targets.double, range(20)))) == 20
        assert len(executor._processes) == 4


def test_fork_starts_all_workers():
    with ProcessPoolExecutor(3, goproc.get_context("fork")) as executor:
        assert executor.submit(abs, -1).result() == 1
        assert len(executor._processes) == 3


def test_workers_are_as_those_of_concurrent_futures(executor):
    name, daemon = executor.submit(targets.name_and_daemon).result()
    assert "Process-" in name and "Pool" not in name and not daemon


def test_nested_executors(executor):
    assert executor.submit(targets.nested, 10).result() == 90


def test_processes_that_programs_start_themselves(context):
    """As torch and others do, to have workers before the first call."""
    with ProcessPoolExecutor(2, context) as executor:
        for _ in range(2):
            executor._adjust_process_count()
        executor._start_executor_manager_thread()
        assert len(executor._processes) == 2
        assert executor.submit(abs, -1).result() == 1


def test_private_names_that_programs_read(executor, tmp_path):
    futures = [executor.submit(targets.signal_and_wait, tmp_path / str(n), tmp_path / "release") for n in range(5)]
    assert executor._max_workers == 2 and executor._broken is False
    assert executor._mp_context.get_start_method() in ("fork", "spawn", "forkserver")
    assert len(executor._pending_work_items) == 5 and executor._work_ids.qsize() == 3
    assert executor._queue_count == 5 and executor._call_queue.empty() and executor._result_queue.empty()
    assert {item.fn for item in executor._pending_work_items.values()} == {targets.signal_and_wait}
    with executor._shutdown_lock:
        assert all(process.is_alive() for process in executor._processes.values())
    (tmp_path / "release").touch()
    concurrent.futures.wait(futures)
    assert not executor._pending_work_items and executor._work_ids.empty()
    assert list(executor.map(targets.double, range(40))) and executor._queue_count == 45


def test_cancelling_the_futures_of_all_work_items(executor, tmp_path):
    """Programs do this to give up; calls that run are ended as well."""
    running = executor.submit(targets.signal_and_wait, tmp_path / "began", tmp_path / "release")
    names = [tmp_path / str(number) for number in range(9)]
    results = executor.map(targets.signal_and_wait, names, [tmp_path / "release"] * 9)
    wait_until((tmp_path / "began").exists)
    wait_until(names[0].exists)
    for item in executor._pending_work_items.values():
        item.future.cancel()
    assert running.cancelled()
    (tmp_path / "release").touch()
    with pytest.raises(concurrent.futures.CancelledError):
        list(results)
    assert not executor._pending_work_items and executor.submit(abs, -1).result() == 1


@pytest.mark.parametrize("number", [2.0, 1.5, "2"])
def test_a_number_of_workers_that_is_no_int(context, number):
    with pytest.raises(TypeError):
        ProcessPoolExecutor(number, context)


def test_shutdown(context):
    executor = ProcessPoolExecutor(2, context)
    futures = [executor.submit(targets.double, number) for number in range(50)]
    processes = list(executor._processes.values())
    executor.shutdown()
    assert all(future.done() for future in futures)
    assert [process.exitcode for process in processes] == [0] * len(processes)
    for call in (lambda: executor.submit(abs, 1), lambda: executor.map(abs, [1])):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            call()
    executor.shutdown()
    assert executor._processes is None
    assert [future.result() for future in futures] == [2 * number for number in range(50)]


def test_shutdown_without_waiting(context, tmp_path):
    executor = ProcessPoolExecutor(2, context)
    future = executor.submit(targets.signal_and_wait, tmp_path / "started", tmp_path / "release", "late")
    results = executor.map(targets.double, range(20))
    thread = executor._executor_manager_thread
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError):
        executor.submit(abs, 1)
    (tmp_path / "release").touch()
    assert future.result() == "late"
    assert list(results) == [2 * number for number in range(20)]
    thread.join()


def test_shutdown_that_cancels(context, tmp_path):
    executor = ProcessPoolExecutor(1, context)
    first = executor.submit(targets.signal_and_wait, tmp_path / "started", tmp_path / "release", "first")
    others = [executor.submit(targets.double, number) for number in range(20)]
    results = executor.map(targets.double, range(100))
    wait_until((tmp_path / "started").exists)
    executor.shutdown(wait=False, cancel_futures=True)
    concurrent.futures.wait(others)
    assert all(future.cancelled() for future in others)
    with pytest.raises(concurrent.futures.CancelledError):
        next(results)
    (tmp_path / "release").touch()
    assert first.result() == "first"


def test_shutdown_of_an_unused_executor():
    for end in ("shutdown", "terminate_workers", "kill_workers"):
        executor = ProcessPoolExecutor(1)
        getattr(executor, end)()
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.submit(abs, 1)


@pytest.mark.parametrize("end", ["terminate_workers", "kill_workers"])
def test_ending_the_workers(context, tmp_path, end):
    with ProcessPoolExecutor(1, context) as executor:
        first = executor.submit(targets.signal_and_wait, tmp_path / "started", tmp_path / "release")
        others = [executor.submit(targets.double, number) for number in range(5)]
        wait_until((tmp_path / "started").exists)
        (process,) = executor._processes.values()
        thread = executor._executor_manager_thread
        getattr(executor, end)()
        with pytest.raises(BrokenProcessPool):
            first.result()
        concurrent.futures.wait(others)
        assert all(future.cancelled() for future in others)
        with pytest.raises(RuntimeError):
            executor.submit(abs, 1)
        thread.join()
        assert not process.is_alive()


def test_an_executor_that_nobody_holds(context, tmp_path):
    executor = ProcessPoolExecutor(2, context)
    future = executor.submit(targets.signal_and_wait, tmp_path / "started", tmp_path / "release", "late")
    results = executor.map(targets.double, range(10))
    thread, processes = executor._executor_manager_thread, list(executor._processes.values())
    reference = weakref.ref(executor)
    del executor
    gc.collect()
    assert reference() is None
    (tmp_path / "release").touch()
    assert future.result() == "late"
    assert list(results) == [2 * number for number in range(10)]
    thread.join()
    assert not any(process.is_alive() for process in processes)


def test_one_executor_in_many_threads(context):
    with ProcessPoolExecutor(2, context) as executor:
        results = []

        def work(number):
            futures = [executor.submit(targets.double, number) for _ in range(100)]
            results.extend(future.result() for future in concurrent.futures.as_completed(futures))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == sorted(2 * number for number in range(8) for _ in range(100))


def test_a_subclass_that_overrides_submit():
    class Counting(ProcessPoolExecutor):
        count = 0

        def submit(self, fn, /, *args, **kwargs):
            self.count += 1
            return super().submit(fn, *args, **kwargs)

    with Counting(2) as executor:
        assert list(executor.map(targets.double, range(10), chunksize=2)) == [2 * number for number in range(10)]
        assert executor.count == 5


@pytest.mark.parametrize("is_derived", [True, False])
def test_a_submit_that_is_a_copy_of_concurrent_futures(is_derived, monkeypatch, context):
    """It is concurrent.futures' own executor, because such copies work with its inner parts."""

    def submit(self, fn, /, *args, **kwargs):
        future = concurrent.futures.Future()
        with self._shutdown_lock:
            item = concurrent.futures.process._WorkItem(future, fn, args, kwargs)
            self._pending_work_items[self._queue_count] = item
            self._work_ids.put(self._queue_count)
            self._queue_count += 1
            self._executor_manager_thread_wakeup.wakeup()
            if getattr(self, "_safe_to_dynamically_spawn_children", True):
                self._adjust_process_count()
            self._start_executor_manager_thread()
        return future

    if is_derived:
        derived = type("Derived", (ProcessPoolExecutor,), {"submit": submit})
    else:
        derived = ProcessPoolExecutor
        monkeypatch.setattr(ProcessPoolExecutor, "submit", submit)
    with derived(2, context) as executor:
        assert executor.submit(targets.double, 2).result(10) == 4
        assert list(executor.map(targets.double, range(10), chunksize=2)) == [2 * number for number in range(10)]


def test_a_submit_that_a_program_has_put_into_the_class(monkeypatch):
    """As libraries do that trace programs."""
    submit, traced = ProcessPoolExecutor.submit, []

    def tracing(self, fn, /, *args, **kwargs):
        traced.append(fn)
        return submit(self, fn, *args, **kwargs)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", tracing)
    with ProcessPoolExecutor(2) as executor:
        assert list(executor.map(targets.double, range(10), chunksize=2)) == [2 * number for number in range(10)]
        assert executor.submit(targets.double, 2).result() == 4
    assert len(traced) == 6


def test_a_subclass_that_starts_workers_itself():
    """It is concurrent.futures' own executor, as the engine's pool does not call its method."""

    class Own(ProcessPoolExecutor):
        called = False

        def _start_executor_manager_thread(self):
            self.called = True
            return super()._start_executor_manager_thread()

    with Own(2, goproc.get_context("spawn")) as executor:
        assert executor.submit(targets.double, 2).result() == 4
        assert list(executor.map(targets.double, range(4), buffersize=2)) == [0, 2, 4, 6]
        assert executor.called and executor._is_standard
        with pytest.raises(NotImplementedError):
            executor.with_options(timeout=1).submit(abs, 1)


def test_run_in_executor(context, tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(2, context) as executor:
            calls = [loop.run_in_executor(executor, targets.double, number) for number in range(20)]
            assert await asyncio.gather(*calls) == [2 * number for number in range(20)]
            with pytest.raises(ValueError):
                await loop.run_in_executor(executor, targets.fail, "too bad")
            slow = loop.run_in_executor(executor, targets.signal_and_wait, tmp_path / "started", tmp_path / "release")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(slow, 0.2)
            limited = executor.with_options(timeout=0.2)
            with pytest.raises(goproc.TaskTimeoutError):
                await loop.run_in_executor(limited, time.sleep, 60)

    asyncio.run(main())


def test_an_initializer_that_fails_is_logged(method):
    program = (
        "import futures_targets, goproc, goproc.futures\n"
        "if __name__ == '__main__':\n"
        f"    context = goproc.get_context({method!r})\n"
        "    executor = goproc.futures.ProcessPoolExecutor(1, context, futures_targets.refuse_to_begin)\n"
        "    print(type(executor.submit(abs, -1).exception()).__name__)\n"
    )
    folder = os.path.dirname(targets.__file__)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=folder)
    assert (done.stdout, done.returncode) == ("BrokenProcessPool\n", 0)
    assert done.stderr.startswith("Exception in initializer:\nTraceback") and "ValueError: no service" in done.stderr


def test_the_end_of_the_program_waits_for_calls(method):
    program = (
        "import goproc, goproc.futures, os, time\n"
        "if __name__ == '__main__':\n"
        f"    executor = goproc.futures.ProcessPoolExecutor(1, goproc.get_context({method!r}))\n"
        "    executor.submit(time.sleep, 0.3)\n"
        "    executor.submit(os.write, 1, b'done')\n"
        "    executor.map(os.write, [1], [b' twice'])\n"
        "    print(end='')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("done twice", "", 0)


def test_submit_when_the_program_ends():
    program = (
        "import atexit, goproc.futures\n"
        "executor = goproc.futures.ProcessPoolExecutor(1)\n"
        "executor.submit(abs, -1).result()\n"
        "def late():\n"
        "    try:\n"
        "        executor.submit(abs, -1)\n"
        "    except RuntimeError as error:\n"
        "        print(error)\n"
        "atexit.register(late)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("cannot schedule new futures after interpreter shutdown\n", "")


def test_no_thread_waits_for_the_garbage_collector(run_script):
    """Tests such as CPython's look at the threads that are left, without a collection."""
    code = """
import gc, threading, goproc.futures
gc.disable()

def use():
    with goproc.futures.ProcessPoolExecutor(1) as executor:
        assert executor.submit(abs, -1).result() == 1

if __name__ == "__main__":
    use()
    print([thread.name for thread in threading._dangling])
"""
    assert run_script("-c", code).stdout == "['MainThread']\n"
