"""What a fault costs an executor: one future. With each start method."""

import concurrent.futures
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import futures_targets as targets
import pytest
from helpers import THREADS_ARE_MEANT, wait_until

import goproc
from goproc.futures import BrokenProcessPool, ProcessPoolExecutor, WorkerLostError

pytestmark = THREADS_ARE_MEANT

FAULTS = {
    "killed": (targets.kill_self, (), -signal.SIGKILL),
    "left": (targets.leave, (3,), 3),
    "crashed": (targets.crash, (), -signal.SIGSEGV),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lost_worker_costs_one_future(executor, fault):
    function, arguments, exitcode = FAULTS[fault]
    before = [executor.submit(targets.double, number) for number in range(5)]
    lost = executor.submit(function, *arguments)
    after = [executor.submit(targets.double, number) for number in range(5)]
    with pytest.raises(BrokenProcessPool) as caught:
        lost.result()
    error = caught.value
    assert isinstance(error, goproc.WorkerLostError) and type(error) is WorkerLostError
    assert (error.exitcode, error.function) == (exitcode, function.__name__)
    assert f"terminated abruptly with exit code {exitcode}" in str(error.__cause__)
    assert [future.result() for future in before + after] == 2 * [2 * number for number in range(5)]
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is WorkerLostError and str(copy) == str(error)
    assert executor.submit(abs, -1).result() == 1 and not executor._broken


def test_a_lost_worker_costs_one_item_of_a_map(executor):
    results = executor.map(targets.kill_self_if, [0, 1, 0, 1, 0])
    assert next(results) == 0
    with pytest.raises(WorkerLostError) as caught:
        next(results)
    assert caught.value.index == 1
    assert list(executor.map(targets.double, range(100)))[-1] == 198


def test_all_workers_are_killed_again_and_again(executor):
    for _ in range(5):
        futures = [executor.submit(targets.kill_self) for _ in range(2)]
        assert all(isinstance(future.exception(), WorkerLostError) for future in futures)
        assert executor.submit(targets.double, 2).result() == 4


def test_idle_workers_are_killed(executor):
    assert executor.submit(abs, -1).result() == 1
    killed = list(executor._processes.values())
    for process in killed:
        os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not any(process.is_alive() for process in killed))
    assert list(executor.map(targets.double, range(20))) == [2 * number for number in range(20)]


def test_each_lost_future_has_an_exception_of_its_own(executor):
    errors = [executor.submit(targets.kill_self).exception() for _ in range(3)]
    assert len({id(error) for error in errors}) == 3


def test_errors_of_the_same_name_that_a_call_raises(executor):
    """They come from the call, and are not taken for errors of the pool."""
    for error in goproc.CancelledError("mine"), goproc.WorkerLostError(1, 2), concurrent.futures.CancelledError():
        caught = executor.submit(targets.raise_it, error).exception()
        assert type(caught) is type(error) and "in raise_it" in str(caught.__cause__)


def test_callbacks_and_waiters_are_told_of_a_lost_worker(executor):
    told = []
    lost = executor.submit(targets.kill_self)
    lost.add_done_callback(told.append)
    assert concurrent.futures.wait([lost]).done == {lost}
    wait_until(lambda: told == [lost])


def test_a_worker_that_is_lost_after_the_shutdown(context, tmp_path):
    executor = ProcessPoolExecutor(2, context)
    futures = [executor.submit(targets.signal_and_die, tmp_path / str(number), tmp_path / "go") for number in range(4)]
    executor.shutdown(wait=False)
    (tmp_path / "go").touch()
    assert all(isinstance(future.exception(), WorkerLostError) for future in futures)


@pytest.mark.slow  # other workers are tried for five seconds
def test_an_initializer_that_ends_the_worker(context):
    with ProcessPoolExecutor(2, context, targets.leave, (1,)) as executor:
        future = executor.submit(abs, -1)
        assert isinstance(future.exception(), BrokenProcessPool)


def test_large_data_of_a_lost_call(executor):
    data = b"x" * (8 << 20)
    with pytest.raises(WorkerLostError):
        executor.submit(targets.kill_self, data).result()
    assert len(executor.submit(targets.identity, data).result()) == len(data)


def test_interrupt_of_a_call(method, tmp_path):
    """Ctrl-C reaches all processes of the terminal: what runs raises KeyboardInterrupt, as with concurrent.futures."""
    started, waits = tmp_path / "started", tmp_path / "waits"
    program = (
        "import futures_targets, goproc, goproc.futures, sys\n"
        "if __name__ == '__main__':\n"
        f"    with goproc.futures.ProcessPoolExecutor(2, goproc.get_context({method!r})) as executor:\n"
        f"        future = executor.submit(futures_targets.wait_for_interrupt, {str(started)!r})\n"
        "        try:\n"
        f"            open({str(waits)!r}, 'w').close()\n"
        "            future.result()\n"
        "        except KeyboardInterrupt:\n"
        "            print('interrupted')\n"
        "        print(type(future.exception()).__name__, executor.submit(abs, -1).result())\n"
    )
    folder = os.path.dirname(targets.__file__)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        start_new_session=True,
    )
    try:
        wait_until(lambda: started.exists() and waits.exists())
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=30) == ("interrupted\nKeyboardInterrupt 1\n", "")
    finally:
        process.kill()
        process.communicate()


def test_a_signal_handler_that_raises_loses_no_result():
    class Raised(Exception):
        pass

    def handle(signum, frame):
        nonlocal armed
        if armed:  # else it would raise where nothing catches it
            armed = False
            raise Raised

    def send():
        for _ in range(50):
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.0005)

    armed, sender = False, threading.Thread(target=send)
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with ProcessPoolExecutor(2) as executor:
            futures = [executor.submit(targets.double, number) for number in range(3000)]
            results = {}
            sender.start()
            while len(results) < len(futures):
                try:
                    armed = True
                    for future in futures:
                        results[future] = future.result()
                    armed = False
                except Raised:
                    pass
            sender.join()
            assert [results[future] for future in futures] == [2 * number for number in range(3000)]
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.slow
def test_the_main_program_is_killed(method, tmp_path):
    program = (
        "import futures_targets, goproc, goproc.futures, os\n"
        "if __name__ == '__main__':\n"
        f"    executor = goproc.futures.ProcessPoolExecutor(2, goproc.get_context({method!r}))\n"
        "    print(*{executor.submit(futures_targets.slow_pid).result() for _ in range(2)}, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    folder = os.path.dirname(targets.__file__)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=folder)
    assert done.returncode == -signal.SIGKILL
    for pid in map(int, done.stdout.split()):
        wait_until(lambda pid=pid: not os.path.exists(f"/proc/{pid}"))


def test_a_fork_of_a_program_with_an_executor():
    """The child can end, and make an executor of its own."""
    program = (
        "import goproc, goproc.futures, os\n"
        "context = goproc.get_context('fork')\n"
        "executor = goproc.futures.ProcessPoolExecutor(1, context)\n"
        "assert executor.submit(abs, -1).result() == 1\n"
        "executor.submit(print, 'parent', flush=True).result()\n"
        "if os.fork() == 0:\n"
        "    with goproc.futures.ProcessPoolExecutor(1, context) as own:\n"
        "        own.submit(print, 'child', flush=True).result()\n"
        "    os._exit(0)\n"
        "assert os.wait()[1] == 0\n"
        "assert executor.submit(abs, -2).result() == 2\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("parent\nchild\n", "", 0)


inherited = ProcessPoolExecutor(1, goproc.get_context("fork"))


def use_inherited():
    return inherited.submit(abs, -1).result()


def test_a_worker_that_uses_the_executor_that_it_inherited():
    """The first call forks it, and holds a lock meanwhile: it must not wait for that lock."""
    try:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="belongs to the parent process"):
                inherited.submit(use_inherited).result(30)
    finally:
        inherited.shutdown()


def test_submitting_while_another_thread_shuts_down(context):
    for _ in range(5):
        executor, futures, refused = ProcessPoolExecutor(2, context), [], threading.Event()

        def submit(executor=executor, futures=futures, refused=refused):
            try:
                while True:
                    futures.append(executor.submit(targets.double, 1))
            except RuntimeError as error:
                assert "after shutdown" in str(error)
                refused.set()

        threads = [threading.Thread(target=submit) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda futures=futures: len(futures) > 50)
        executor.shutdown()
        for thread in threads:
            thread.join()
        assert refused.is_set() and {future.result() for future in futures} == {2}


def test_many_executors_leave_nothing(context):
    """The check after each test finds what is left."""
    for number in range(8):
        executor = ProcessPoolExecutor(1, context)
        assert executor.submit(targets.double, number).result() == 2 * number
        if number % 2:
            executor.shutdown()
        del executor
    time.sleep(0)


def test_a_thread_that_cannot_be_started(monkeypatch):
    """The call raises the error, as with concurrent.futures, and no worker is left."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    executor = ProcessPoolExecutor(1, goproc.get_context("fork"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            executor.submit(targets.double, 1)
    assert not goproc.active_children()
    executor.shutdown()
