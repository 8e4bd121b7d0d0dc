"""Process, with each start method: its life, its attributes, its end, and the calls that are refused."""

import gc
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from multiprocessing.connection import wait
from pathlib import Path

import process_targets as targets
import pytest
from helpers import THREADS_ARE_MEANT, wait_until

import goproc
from goproc import popen_fork


def start(context, target, *args, **options):
    process = context.Process(target=target, args=args, **options)
    process.start()
    return process


def ask(context, target, *args):
    """Run target(connection, *args) in a child and return what it sends."""
    receiver, sender = context.Pipe(duplex=False)
    process = start(context, target, sender, *args)
    sender.close()
    with receiver:
        answer = receiver.recv()
    process.join()
    assert process.exitcode == 0
    return answer


def test_life(context):
    event = context.Event()
    process = context.Process(target=targets.wait_for, args=(event,), name="a name")
    assert (process.pid, process.ident, process.exitcode, process.is_alive()) == (None, None, None, False)
    with pytest.raises(ValueError, match="process not started"):
        _ = process.sentinel
    process.start()
    assert process.pid == process.ident > 0
    assert process.exitcode is None
    assert process.is_alive()
    assert process in goproc.active_children()
    assert wait([process.sentinel], 0) == []
    assert "started" in repr(process) and "a name" in repr(process)
    event.set()
    process.join()
    assert wait([process.sentinel], 0) == [process.sentinel]
    assert (process.exitcode, process.is_alive()) == (0, False)
    assert process not in goproc.active_children()
    assert "stopped exitcode=0" in repr(process)
    process.close()
    with pytest.raises(ValueError, match="process object is closed"):
        process.join()


@pytest.mark.parametrize(
    "target, argument, exitcode",
    [
        (targets.exit_with, 3, 3),
        (targets.exit_with, None, 0),
        (targets.exit_with, "a text", 1),
        (targets.leave_with, 7, 7),
        (targets.raise_value_error, "the text", 1),
        (targets.end_by, signal.SIGSEGV, -signal.SIGSEGV),
        (targets.end_by, signal.SIGKILL, -signal.SIGKILL),
        (targets.end_by, signal.SIGTERM, -signal.SIGTERM),
    ],
)
def test_exit_codes(context, target, argument, exitcode, capfd):
    process = start(context, target, argument)
    process.join()
    assert process.exitcode == exitcode
    if target is targets.raise_value_error:
        error = capfd.readouterr().err
        assert f"Process {process.name}:" in error and "ValueError: the text" in error


def test_exit_code_that_is_too_large(method, capfd):
    """As with multiprocessing: an error of os._exit() in a forked child, the interpreter's own answer in another."""
    process = start(goproc.get_context(method), targets.exit_with, 1 << 70)
    process.join()
    error = capfd.readouterr().err
    assert (process.exitcode, "OverflowError" in error) == ((255, False) if method == "spawn" else (1, True))


def test_exit_code_is_kept_whoever_asks(context):
    process = start(context, targets.exit_with, 5)
    seen = []

    def join():
        process.join()
        seen.append(process.exitcode)

    threads = [threading.Thread(target=join) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [5] * 8
    assert [process.exitcode for _ in range(10)] == [5] * 10


def test_join_with_timeout(context):
    event = context.Event()
    process = start(context, targets.wait_for, event)
    before = time.monotonic()
    process.join(0)
    process.join(-1)
    process.join(0.05)
    assert 0.05 <= time.monotonic() - before < 5
    assert process.is_alive()
    event.set()
    process.join(30)
    assert process.exitcode == 0
    process.join(0)


def test_terminate_and_kill(context):
    process = start(context, targets.sleep)
    process.terminate()
    process.join()
    assert process.exitcode == -signal.SIGTERM
    process.terminate()  # of one that has ended: nothing

    receiver, sender = context.Pipe(duplex=False)
    process = start(context, targets.ignore_sigterm, sender)
    assert receiver.recv() == "ready"
    process.terminate()
    process.join(0.05)
    assert process.is_alive()
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    sender.close()
    receiver.close()


def test_what_the_child_sees(context, method):
    seen = ask(context, targets.describe_self)
    assert seen["parent"] == (os.getpid(), goproc.current_process().name, True)
    assert seen["pid"] == seen["ident"] != os.getpid()
    assert seen["alive"] and not seen["daemon"]
    assert seen["start_method"] == method
    assert seen["authkey"] == bytes(goproc.current_process().authkey)
    assert (seen["argv"], seen["cwd"], seen["stdin"]) == (sys.argv, os.getcwd(), "")


def test_authentication_key(context):
    """As with multiprocessing: a process has the key that it was made with, and a key is sent to children only."""
    me = goproc.current_process()
    with pytest.raises(TypeError, match="security reasons"):
        pickle.dumps(me.authkey)
    before = bytes(me.authkey)
    ask(context, targets.describe_self)  # the fork server, if that is the method, runs from here on
    me.authkey = b"the second key"
    try:
        receiver, sender = context.Pipe(duplex=False)
        second = context.Process(target=targets.describe_self, args=(sender,))
        third = context.Process(target=targets.describe_self, args=(sender,))
        third.authkey = b"the third key"
        me.authkey = before
        for process, key in ((second, b"the second key"), (third, b"the third key")):
            process.start()
            assert receiver.recv()["authkey"] == key
            process.join()
    finally:
        me.authkey = before
        receiver.close()
        sender.close()


def test_a_finalizer_that_programs_call(context):
    """Programs call the one of multiprocessing's Popen for processes that have died, so that no descriptor is left."""
    event = context.Event()
    process = start(context, event.wait)
    process._popen.finalizer()  # nothing is lost while it runs
    assert process.is_alive()
    event.set()
    process.join()
    process._popen.finalizer()
    process._popen.finalizer()
    assert not os.path.exists(f"/proc/self/fd/{process.sentinel}")
    assert process.exitcode == 0
    process.close()


def test_default_process_uses_the_default_method():
    seen = ask(goproc, targets.describe_self)
    assert seen["start_method"] == goproc.get_start_method()


class Doubling(goproc.Process):
    """Overrides run()."""

    def __init__(self, connection, value):
        super().__init__()
        self.connection = connection
        self.value = value

    def run(self):
        self.connection.send(2 * self.value)


def test_subclass():
    receiver, sender = goproc.Pipe(duplex=False)
    process = Doubling(sender, 21)
    process.start()
    assert receiver.recv() == 42
    process.join()
    receiver.close()
    sender.close()


def test_daemon(context):
    process = start(context, targets.sleep, daemon=True)
    assert process.daemon
    with pytest.raises(AssertionError, match="process has already started"):
        process.daemon = False
    process.terminate()
    process.join()
    receiver, sender = context.Pipe(duplex=False)
    process = start(context, targets.start_child_of_daemon, sender, daemon=True)
    assert receiver.recv() == "daemonic processes are not allowed to have children"
    process.join()
    receiver.close()
    sender.close()


def test_refusals(context):
    event = context.Event()
    process = context.Process(target=targets.wait_for, args=(event,))
    with pytest.raises(AssertionError, match="can only join a started process"):
        process.join()
    with pytest.raises(AttributeError):
        process.terminate()
    process.start()
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        process.start()
    with pytest.raises(ValueError, match="Cannot close a process while it is still running"):
        process.close()
    with pytest.raises(TypeError):
        process.join("soon")
    event.set()
    process.join()
    with pytest.raises(TypeError):
        context.Process(target=targets.nothing, args=3)
    with pytest.raises(AssertionError):
        context.Process(target=targets.nothing, name=3).name = 4
    with pytest.raises(AssertionError, match="group argument must be None"):
        context.Process("group")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_unpicklable_target(method):
    process = goproc.get_context(method).Process(target=lambda: None)
    with pytest.raises((AttributeError, __import__("pickle").PicklingError), match="lambda"):
        process.start()
    assert process.pid is None
    assert goproc.active_children() == []


def test_missing_interpreter():
    goproc.set_executable("/nowhere/python")
    try:
        with pytest.raises(FileNotFoundError):
            goproc.get_context("spawn").Process(target=targets.nothing).start()
    finally:
        goproc.set_executable(sys.executable)


@pytest.mark.parametrize("second", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("third", ["fork", "spawn", "forkserver"])
def test_nested_three_deep(context, second, third):
    assert ask(context, targets.start_nested, [second, third]) == third


@THREADS_ARE_MEANT
def test_started_by_threads_that_end(context):
    """The thread that starts a process may end before it; others are busy all the while."""
    processes = []
    event = context.Event()
    busy = threading.Event()
    workers = [threading.Thread(target=lambda: busy.wait(30)) for _ in range(3)]

    def start_one():
        processes.append(start(context, targets.wait_for, event))

    starters = [threading.Thread(target=start_one) for _ in range(4)]
    for thread in workers + starters:
        thread.start()
    for thread in starters:
        thread.join()
    assert len({process.pid for process in processes}) == 4
    assert all(process.is_alive() for process in processes)
    event.set()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    busy.set()
    for thread in workers:
        thread.join()


def test_parents_object_in_a_forked_child():
    context = goproc.get_context("fork")
    event = context.Event()
    process = start(context, targets.wait_for, event)
    polled, representation, *refused = ask(context, lambda connection: targets.ask_about(process, connection))
    event.set()
    process.join()
    assert polled is None
    assert "unknown" in representation
    assert refused == ["can only join a child process", "can only test a child process", "cannot start a process twice"]


@THREADS_ARE_MEANT
def test_forked_by_the_user():
    """os.fork(), then goproc with each start method in the child, which inherits a dead engine."""
    start(goproc, targets.nothing).join()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for method in ("fork", "spawn", "forkserver"):
                process = start(goproc.get_context(method), targets.exit_with, 4)
                process.join()
                assert process.exitcode == 4
            __import__("multiprocessing.util").util._exit_function()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


@THREADS_ARE_MEANT
def test_terminated_by_a_process_that_is_not_its_parent(context):
    """As with multiprocessing: a server's worker, forked by os.fork(), ends what the server had started."""
    process = start(context, targets.sleep)
    receiver, sender = goproc.Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            receiver.recv()
            process.terminate()
            process.kill()
            status = 0
        finally:
            os._exit(status)
    process.kill()
    process.join()
    sender.send("gone")
    assert os.waitpid(pid, 0)[1] == 0


def test_forked_child_has_none_of_the_engines_descriptors():
    context = goproc.get_context("fork")
    event = context.Event()
    others = [start(context, targets.wait_for, event) for _ in range(3)]
    mine = {int(number) for number in os.listdir("/proc/self/fd")}
    present = ask(context, targets.send_descriptors)
    event.set()
    for process in others:
        process.join()
    assert not any("pidfd" in what for what in present.values()), present
    # What it has that its parent has not: the lifeline, and the null device in the place of stdin.
    assert len([number for number in present if number not in mine]) <= 2, present


def test_forked_child_has_nothing_of_the_parents_pools():
    """It has neither their descriptors nor their memory: it would keep both for as long as it lives."""
    context = goproc.get_context("fork")
    with context.Pool(1) as pool:
        assert pool.apply(bytes, (bytearray(1 << 20),)) == bytes(1 << 20)
        present = ask(context, targets.send_descriptors)
        mapped = ask(context, targets.send_mappings)
    pool.join()
    kinds = ("anon_inode", "memfd", "cgroup")
    inherited = ("goproc-locks", "goproc-heap")  # a child may use its parent's locks and values
    others = [what for what in present.values() if not any(name in what for name in inherited)]
    assert not [what for what in others if any(kind in what for kind in kinds)], present
    assert not [line for line in mapped if "goproc-pool" in line]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_children_inherit_little(method):
    present = ask(goproc.get_context(method), targets.send_descriptors)
    for number in (0, 1, 2):
        present.pop(number)
    null = [number for number, what in present.items() if what == "/dev/null"]  # in the place of stdin
    ctypes = [number for number, what in present.items() if "libffi" in what]  # which keeps its own file open
    # Besides that: the lifeline and the resource tracker's pipe.
    assert len(present) - len(null) - len(ctypes) <= 2, present


def test_environment_of_a_spawned_child(monkeypatch):
    monkeypatch.setitem(os.environb, b"GOPROC_TEST_\xff", b"\xfe=\n\"'")
    assert ask(goproc.get_context("spawn"), targets.send_environment, b"GOPROC_TEST_\xff") == b"\xfe=\n\"'"


def test_the_garbage_collector_is_on(context):
    assert ask(context, targets.send_collecting) == (True, True)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_limits_are_the_programs(method):
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] - 1, before[1]))
    try:
        assert ask(goproc.get_context(method), targets.send_limits) == (before[0] - 1, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
def test_many(context, method):
    count = 20 if method == "spawn" else 200
    for _ in range(count // 10):
        processes = [start(context, targets.exit_with, number) for number in range(10)]
        for number, process in enumerate(processes):
            process.join()
            assert process.exitcode == number


def is_gone(pid):
    """Whether the process has ended and has been waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("given_up", ["at once", "by nobody", "after a join that timed out"])
def test_a_process_that_nobody_joins_is_reaped(context, given_up):
    """By whoever looks at all children, such as the next start(), or at once if the program has dropped it."""
    process = start(context, targets.sleep)
    pid = process.pid
    if given_up == "after a join that timed out":
        process.join(0.01)
    os.kill(pid, signal.SIGKILL)
    if given_up == "at once":
        goproc.process._children.discard(process)
        del process

    def is_reaped():
        if given_up != "at once":
            goproc.active_children()
        return is_gone(pid)

    wait_until(is_reaped)
    if given_up != "at once":
        process.join()
        assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_program_that_waits_for_its_children_itself(run_script, tmp_path, method):
    """os.wait() and os.waitpid() get the status of each child, as with multiprocessing, also with an engine."""
    (tmp_path / "program.py").write_text(WAITING.format(method=method))
    lines = run_script("-m", "goproc", tmp_path / "program.py").stdout.splitlines()
    assert lines == ["[3, 4, 5]", "6", "7", "True"]


WAITING = """
import multiprocessing, os, sys
from multiprocessing.connection import wait
context = multiprocessing.get_context({method!r})
def leave(event, status):
    event.wait()
    sys.exit(status)
if __name__ == "__main__":
    with context.Pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1
        pool.close()
        pool.join()
    event = context.Event()
    children = [context.Process(target=leave, args=(event, status)) for status in (3, 4, 5)]
    for child in children:
        child.start()
    event.set()
    for child in children:
        wait([child.sentinel])
    statuses = {{}}
    while len(statuses) < 3:
        pid, status = os.wait()
        if pid in [child.pid for child in children]:
            statuses[pid] = os.waitstatus_to_exitcode(status)
    print([statuses[child.pid] for child in children])
    for status in (6, 7):
        child = context.Process(target=sys.exit, args=(status,))
        child.start()
        if status == 6:
            wait([child.sentinel])
        print(os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]))
    child.join()
    print(child.exitcode is not None)
"""


def test_the_status_is_kept_once_whoever_waits(context):
    """Joined by many threads, polled by others, and reaped by the engine, all at the same time."""
    for status in range(10):
        process = start(context, targets.exit_with, status)
        seen = []

        def ask(process=process, seen=seen):
            wait([process.sentinel])
            process.is_alive()
            process.join()
            seen.append(process.exitcode)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [status] * 6


def test_more_processes_than_there_are_seats(monkeypatch):
    """Then the engine's own functions start processes. Processes of both kinds behave alike."""
    from goproc import _native

    context = goproc.get_context("fork")
    first = start(context, targets.sleep)
    monkeypatch.setattr(_native, "start", lambda daemon, record: False)
    second = start(context, targets.exit_with, 5)
    second.join()
    assert second.exitcode == 5
    assert first.is_alive()
    first.terminate()
    first.join()
    assert first.exitcode == -signal.SIGTERM


def test_seats_are_used_again():
    """The numbers of descriptors and of processes stay as they are, whatever has been started before."""
    context = goproc.get_context("fork")
    for _ in range(3):
        before = len(os.listdir("/proc/self/fd"))
        processes = [start(context, targets.exit_with, 0) for _ in range(20)]
        assert len(os.listdir("/proc/self/fd")) == before + 20
        for process in processes:
            process.join()
            process.close()
        assert len(os.listdir("/proc/self/fd")) == before


def test_the_fork_server_dies():
    from goproc.forkserver import _forkserver

    context = goproc.get_context("forkserver")
    event = context.Event()
    process = start(context, targets.wait_for, event)
    server = _forkserver._forkserver_pid
    os.kill(server, signal.SIGKILL)
    event.set()
    process.join(30)
    assert process.exitcode in (0, 255)
    second = start(context, targets.exit_with, 3)
    second.join()
    assert second.exitcode == 3
    assert _forkserver._forkserver_pid not in (None, server)


def standing_by(server):
    """The pids of the children that the fork server has forked ahead, once all of them are there."""
    from goproc._start.prefork import STANDBYS

    deadline = time.monotonic() + 30
    while True:
        pids = [int(pid) for pid in Path(f"/proc/{server}/task/{server}/children").read_text().split()]
        if len(pids) == STANDBYS:
            return pids
        assert time.monotonic() < deadline, pids
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.part("standby")
def test_children_that_stand_by():
    """These children are started next. It does not matter if one is killed. They end with the server."""
    from goproc.forkserver import _forkserver

    context = goproc.get_context("forkserver")
    first = start(context, targets.nothing)
    first.join()
    server = _forkserver._forkserver_pid
    pids = standing_by(server)
    process = start(context, targets.exit_with, 3)
    process.join()
    assert process.pid in pids and process.exitcode == 3
    for pid in (pids := standing_by(server)):
        os.kill(pid, signal.SIGKILL)
        while os.path.exists(f"/proc/{pid}"):
            time.sleep(0.005)
    process = start(context, targets.exit_with, 4)
    process.join()
    assert process.exitcode == 4
    assert not set(pids) & set(pids := standing_by(server))
    _forkserver._stop()
    deadline = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_child_that_stood_by_is_as_if_started_now(tmp_path, monkeypatch):
    """The working folder, the arguments and the name are those of the moment of its start."""
    context = goproc.get_context("forkserver")
    start(context, targets.nothing).join()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["here", "now"])
    folder, arguments, name, identity, children, number = ask(context, targets.send_surroundings)
    assert (folder, arguments, name) == (str(tmp_path), ["here", "now"], f"ForkServerProcess-{identity[0]}")
    assert len(identity) == 1 and children == [] and number == 1


@pytest.mark.parametrize("enabled", [True, False])
def test_a_forked_child_collects_garbage_as_its_parent_does(enabled):
    (gc.enable if enabled else gc.disable)()
    try:
        assert ask(goproc.get_context("fork"), targets.send_whether_collecting) is enabled
    finally:
        gc.enable()


def test_the_folder_of_the_fork_server_is_removed(tmp_path, monkeypatch, capfd):
    from goproc.forkserver import _forkserver

    _forkserver._stop()
    context = goproc.get_context("forkserver")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    start(context, targets.nothing).join()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").rmdir()
    for _ in range(5):
        process = start(context, targets.exit_with, 3)
        process.join()
        assert process.exitcode == 3
    standing_by(_forkserver._forkserver_pid)
    assert capfd.readouterr().err == ""


LOGGING = """
import logging
import multiprocessing

multiprocessing.log_to_stderr(logging.INFO)

if __name__ == "__main__":
    process = multiprocessing.get_context("forkserver").Process(name="only")
    process.start()
    process.join()
"""


def test_what_a_forkserver_child_logs(run_script, tmp_path):
    """A child logs as much as with multiprocessing, whose children have two handlers if the main module sets one."""
    (tmp_path / "program.py").write_text(LOGGING)
    said = [
        run_script(*how, str(tmp_path / "program.py")).stderr.count("child process calling self.run()")
        for how in ([], ["-m", "goproc"])
    ]
    assert said[0] == said[1] > 0


@pytest.mark.parametrize("action", ["always", "error"])
def test_warns_about_python_threads(action):
    """The warning is that of os.fork(), from Python 3.12 on. Before 3.15 it is dropped if it is made an exception."""
    warns = action == "always" and sys.version_info >= (3, 12)
    raises = action == "error" and sys.version_info >= (3, 15)
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    process = goproc.get_context("fork").Process(target=targets.nothing)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter(action)
            if raises:
                with pytest.raises(DeprecationWarning, match="is multi-threaded"):
                    process.start()
                assert process.pid is None and process not in goproc.active_children()
            else:
                process.start()
        if not raises:
            process.join()
            assert process.exitcode == 0
        assert ["is multi-threaded" in str(warning.message) for warning in caught] == [True] * warns
    finally:
        done.set()
        thread.join()


def test_a_process_object_that_is_there_when_all_modules_have_been_cleared():
    """It lives so long if the program has taken multiprocessing's exit function away."""
    popen_fork._forget(1, is_loaded=lambda: True, forget_entry=None)
