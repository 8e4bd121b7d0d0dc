"""Workers cloned from one fork of the main program: they behave like forked workers, and leave nothing behind."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pool_targets as targets
import pytest
from helpers import THREADS_ARE_MEANT

import goproc
from goproc import _native
from goproc._pool import nursery as nursery_module
from goproc._pool.nursery import Nursery

MANY = 8

setting = 0  # what a program changes while its pool runs
counts = {"before": 0, "parent": 0, "child": 0}


@pytest.fixture
def context():
    return goproc.get_context("fork")


@pytest.fixture
def nurseries(monkeypatch):
    """A list of the nurseries that are made: (how, of how many workers)."""
    made = []

    def noted(name):
        real = getattr(Nursery, name)

        def fork(self, *arguments):
            made.append((name, len(self._processes)))
            return real(self, *arguments)

        monkeypatch.setattr(Nursery, name, fork)

    noted("fork_all")
    noted("fork_ahead")
    return made


@pytest.fixture
def workers_are_brisk(monkeypatch):
    """Each worker counts as one that lived briefly: workers are forked ahead also where little is done in 0.1 s."""
    monkeypatch.setattr(nursery_module, "_BRISK", 60)


@pytest.fixture(scope="module", autouse=True)
def count_forks():
    os.register_at_fork(
        before=lambda: count("before"), after_in_parent=lambda: count("parent"), after_in_child=lambda: count("child")
    )


def count(where):
    counts[where] += 1


def about_worker(_):
    time.sleep(0.02)  # so that each of the others has one, too
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "thread": threading.get_native_id(),
        "random": random.random(),
        "counts": dict(counts),
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "name": goproc.current_process().name,
        "daemon": goproc.current_process().daemon,
        "children": goproc.active_children(),
    }


def read_setting(_):
    return setting


def children():
    """The pids of this process's children, of whichever of its threads."""
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        try:
            found.update(map(int, Path(f"/proc/self/task/{task}/children").read_text().split()))
        except FileNotFoundError:
            pass  # a thread that has ended since
    return found


def all_workers(pool, function=about_worker, processes=MANY):
    """What the function returns in each worker, by pid."""
    found = {}
    while len(found) < processes:
        found.update((about["pid"], about) for about in pool.map(function, range(2 * processes), 1))
    return found


@pytest.mark.part("clones")
def test_they_are_what_forked_workers_are(context, nurseries):
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    before = dict(counts)
    try:
        with context.Pool(MANY) as pool:
            assert nurseries == [("fork_all", MANY)]
            started = {process.pid: process for process in pool._pool}
            assert set(started) <= set(process.pid for process in goproc.active_children())
            found = all_workers(pool)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert set(found) == set(started)
    assert len({about["random"] for about in found.values()}) == MANY
    for pid, about in found.items():
        assert about["parent"] == os.getpid()
        assert about["thread"] == pid
        assert about["name"] == started[pid].name
        assert about["daemon"] is True
        assert about["children"] == []
        assert about["mask"] == mask | {signal.SIGUSR2}
        assert about["counts"] == {**before, "before": before["before"] + 1, "child": before["child"] + 1}
    assert counts == {**before, "before": before["before"] + 1, "parent": before["parent"] + 1}


def test_nothing_but_the_workers_is_left_when_the_pool_is_there(context):
    before = children()
    with context.Pool(MANY) as pool:
        assert children() - before == {process.pid for process in pool._pool}


def test_a_few_workers_are_forked(context, nurseries):
    with context.Pool(2) as pool:
        assert pool.apply(os.getppid) == os.getpid()
    assert nurseries == []


def test_processes_that_are_not_ordinary_are_forked(nurseries):
    class Process(goproc.context.ForkProcess):
        def start(self):
            self.mark = os.getpid()
            super().start()

        def run(self):
            os.environ["GOPROC_TEST_MARK"] = str(self.mark)
            super().run()

    class Context(goproc.context.ForkContext):
        pass

    Context.Process = Process
    with Context().Pool(MANY) as pool:
        assert pool.apply(os.getenv, ("GOPROC_TEST_MARK",)) == str(os.getpid())
    assert nurseries == []


def test_where_siblings_cannot_be_forked(context, monkeypatch):
    class Unable:
        def __init__(self, most):
            pass

        def fork(self, count, turns):
            return None

    monkeypatch.setattr(_native, "Nursery", Unable)
    with context.Pool(MANY) as pool:
        assert set(all_workers(pool)) == {process.pid for process in pool._pool}


@pytest.mark.part("clones")
@THREADS_ARE_MEANT
def test_in_a_thread(context, nurseries):
    found = {}

    def run():
        with context.Pool(MANY) as pool:
            found.update(all_workers(pool))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert nurseries == [("fork_all", MANY)]
    assert all(about["thread"] == pid for pid, about in found.items())


def test_a_worker_has_a_pool_of_its_own(context):
    process = context.Process(target=nested)
    process.start()
    process.join()
    assert process.exitcode == 0


def nested():
    with goproc.get_context("fork").Pool(MANY) as pool:
        assert set(all_workers(pool)) == {process.pid for process in pool._pool}


def test_an_audit_hook_sees_each_of_them(run_script):
    code = """if True:
        import sys, goproc
        events = []
        sys.addaudithook(lambda event, arguments: events.append(event) if event == "os.fork" else None)
        with goproc.get_context("fork").Pool(8):
            pass
        print(len(events))
    """
    assert run_script("-c", code).stdout == "8\n"


def test_an_audit_hook_refuses(run_script):
    code = """if True:
        import sys, goproc
        refused = []
        def hook(event, arguments):
            if event == "os.fork":
                refused.append(event)
                raise RuntimeError("no")
        sys.addaudithook(hook)
        try:
            goproc.get_context("fork").Pool(8)
        except RuntimeError as error:
            print(error, len(refused))
    """
    assert run_script("-c", code).stdout == "no 1\n"


def fail():
    raise ValueError("on purpose")


@pytest.mark.slow
@pytest.mark.part("clones")
def test_an_initializer_that_fails(context, nurseries, capfd):
    with context.Pool(MANY, initializer=fail) as pool, pytest.raises(goproc.WorkerLostError):
        pool.apply(targets.nothing)
    assert nurseries


def wait_for_the_others(folder):
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < MANY:
        time.sleep(0.001)


def test_initializers_that_wait_for_each_other(context, tmp_path):
    with context.Pool(MANY, initializer=wait_for_the_others, initargs=(tmp_path,)) as pool:
        assert pool.apply(targets.double, (1,)) == 2


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_that_comes_before_its_turn_is_not_lost(context, tmp_path, sig):
    def note(number, frame):
        (tmp_path / str(os.getpid())).touch()

    old = signal.signal(sig, note)
    try:
        with context.Pool(MANY) as pool:
            last = pool._pool[-1].pid
            os.kill(last, sig)
            while not (tmp_path / str(last)).exists():
                time.sleep(0.001)
            signal.signal(sig, old)
    finally:
        signal.signal(sig, old)


@pytest.mark.slow
def test_the_pool_ends_before_its_workers_have_come_up(context):
    for _ in range(20):
        with context.Pool(MANY):
            pass


def test_pools_are_closed_before_their_workers_have_come_up(context):
    for _ in range(5):
        pool = context.Pool(MANY)
        pool.close()
        pool.join()


class Killer(threading.Thread):
    """Kills children of this process that are none of a pool's workers, some time after they have appeared."""

    def __init__(self, seed):
        super().__init__()
        self._random = random.Random(seed)
        self._before = children()
        self.killed = 0
        self.pools = []
        self._ended = threading.Event()
        self.start()

    def run(self):
        while not self._ended.is_set():
            known = {process.pid for process in goproc.active_children()}
            for pid in children() - self._before - known:
                time.sleep(self._random.random() * 0.004)
                # A clone that has been taken on meanwhile is a worker: one that is lost, as any worker may be.
                if pid not in {process.pid for process in goproc.active_children()}:
                    try:
                        os.kill(pid, signal.SIGKILL)
                        self.killed += 1
                    except ProcessLookupError:
                        pass
            time.sleep(0.0005)

    def end(self):
        self._ended.set()
        self.join()


@pytest.mark.slow
def test_the_template_is_killed_while_it_clones(context):
    killer = Killer(1)
    try:
        for _ in range(60):
            with context.Pool(MANY) as pool:
                assert pool.map(targets.double, range(40), 1) == list(range(0, 80, 2))
    finally:
        killer.end()
    assert killer.killed


@pytest.mark.slow
def test_what_is_forked_ahead_is_killed(context):
    killer = Killer(2)
    try:
        for _ in range(6):
            with context.Pool(2, maxtasksperchild=1, retries=5) as pool:
                assert pool.map(targets.double, range(80), 1) == list(range(0, 160, 2))
    finally:
        killer.end()
    assert killer.killed


@pytest.mark.slow
def test_the_template_is_killed_before_it_has_cloned_anything(context, monkeypatch):
    """Each worker is forked then."""
    real = _native.Nursery

    class Killed:
        def __init__(self, most):
            self._real = real(most)
            self.lifeline = -1

        def __getattr__(self, name):
            return getattr(self._real, name)

        def fork(self, count, turns):
            before = children()
            number = self._real.fork(count, turns)
            if number == -1:
                for pid in children() - before:
                    os.kill(pid, signal.SIGKILL)
            else:
                self.lifeline = self._real.lifeline
            return number

    monkeypatch.setattr(_native, "Nursery", Killed)
    for _ in range(10):
        with context.Pool(MANY) as pool:
            assert set(all_workers(pool)) == {process.pid for process in pool._pool}


@pytest.mark.slow
@pytest.mark.part("clones")
def test_replaced_again_and_again(context, nurseries, workers_are_brisk):
    with context.Pool(2, maxtasksperchild=1) as pool:
        pids = pool.map(targets.pid, range(100), 1)
    assert len(set(pids)) == 100
    assert ("fork_ahead", 32) in nurseries


@pytest.mark.slow
@pytest.mark.part("clones")
def test_replaced_workers_are_what_forked_workers_are(context, nurseries, workers_are_brisk):
    before = dict(counts)
    with context.Pool(2, maxtasksperchild=2) as pool:
        found = pool.map(about_worker, range(60), 1)
    assert nurseries
    pids = {about["pid"] for about in found}
    assert len(pids) >= 30
    assert len({about["name"] for about in found}) == len(pids)
    assert len({about["random"] for about in found}) == 60
    for about in found:
        assert about["parent"] == os.getpid()
        assert about["thread"] == about["pid"]
        assert about["counts"]["child"] == before["child"] + 1
        assert signal.SIGINT not in about["mask"]


@pytest.mark.slow
@pytest.mark.part("clones")
def test_replaced_workers_see_what_was_done_before_the_submission(context, nurseries, workers_are_brisk):
    global setting
    try:
        with context.Pool(2, maxtasksperchild=1) as pool:
            results = []
            for setting in range(1, 16):
                results.append((setting, pool.map_async(read_setting, range(20), 1)))
                if setting % 4 == 0:
                    results[-1][1].wait()
            # The first workers, and those that replace them while they wait for tasks, were forked before.
            old = 2
            for value, result in results:
                early = sum(seen < value for seen in result.get())
                assert early <= old
    finally:
        setting = 0
    assert any(how == "fork_ahead" for how, _ in nurseries)


def test_cancelling_ends_what_was_forked_ahead(context, tmp_path):
    before = children()
    with context.Pool(1, maxtasksperchild=1) as pool:
        quick = pool.map_async(targets.identity, range(10), 1)
        slow = pool.apply_async(targets.signal_and_wait, (tmp_path / "started", tmp_path / "release"))
        others = pool.map_async(targets.identity, range(100), 1)
        quick.wait()
        while not (tmp_path / "started").exists():
            time.sleep(0.001)
        assert others.cancel()
        assert children() - before == {process.pid for process in pool._pool}
        (tmp_path / "release").touch()
        slow.wait()


def test_what_was_forked_ahead_does_not_outlast_the_tasks(context):
    before = children()
    with context.Pool(2, maxtasksperchild=1) as pool:
        pool.map(targets.identity, range(50), 1)
        while children() - before != {process.pid for process in pool._pool}:
            time.sleep(0.001)  # the last workers are being replaced


def test_terminated_while_workers_are_replaced(context):
    for seconds in (0, 0.005, 0.01, 0.02, 0.05):
        pool = context.Pool(2, maxtasksperchild=1)
        result = pool.map_async(targets.identity, range(1000), 1)
        time.sleep(seconds)
        pool.terminate()
        pool.join()
        with pytest.raises(goproc.CancelledError):
            result.get()


@pytest.mark.slow
def test_closed_while_workers_are_replaced(context):
    pool = context.Pool(2, maxtasksperchild=3)
    result = pool.map_async(targets.identity, range(300), 1)
    pool.close()
    pool.join()
    assert result.get() == list(range(300))


@pytest.mark.slow
def test_not_needed_for_a_second(context, monkeypatch):
    """Workers that were forked ahead end by themselves; the next worker is forked."""
    monkeypatch.setattr(nursery_module, "_BRISK", 60)
    with context.Pool(1, maxtasksperchild=1) as pool:
        pids = pool.map(slow, [0, 0, 0, 1.3, 0, 0, 0], 1)
    assert len(set(pids)) == 7


def slow(seconds):
    time.sleep(seconds)
    return os.getpid()


def test_a_clone_cannot_be_what_it_is_not():
    nursery = _native.Nursery(3)
    record: list = []
    assert nursery.take(record) is False
    with pytest.raises(ValueError):
        nursery.stand_by()
    with pytest.raises(ValueError):
        nursery.fork(4, 0)
    with pytest.raises(ValueError):
        _native.Nursery(0)
    nursery.pass_on()
    nursery.retire()
    nursery.close()
    nursery.close()
    with pytest.raises(ValueError):
        nursery.fork(1, 0)
    assert record == []


def test_clones_that_are_not_taken_are_ended():
    before = children()
    nursery = _native.Nursery(5)
    if nursery.fork(5, 5) != -1:
        os._exit(0)
    nursery.retire()
    assert children() == before


@pytest.mark.slow
def test_the_main_program_is_killed_while_it_starts_a_pool():
    code = "import goproc; pool = goproc.get_context('fork').Pool(32); pool.map(abs, range(1000), 1)"
    for number in range(20):
        read, write = os.pipe()
        program = subprocess.Popen([sys.executable, "-c", code], pass_fds=[write])
        os.close(write)
        time.sleep(0.15 + 0.01 * number)
        program.kill()
        program.wait()
        assert _native.wait_readable(read, 30)  # at its end: nobody has the other end any more
        os.close(read)
