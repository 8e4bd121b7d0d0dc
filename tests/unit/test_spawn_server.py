"""Spawned children come from the spawn server, and find the same state as in an interpreter executed for each."""

import os
import resource
import signal
import sys
import time
from pathlib import Path

import process_targets as targets
import pytest

import goproc
from goproc import popen_spawn_posix
from goproc._common import engine
from goproc._start.prefork import STANDBYS


@pytest.fixture
def context():
    popen_spawn_posix._spawned_before = True  # as after a first process
    popen_spawn_posix.stop_server()
    return goproc.get_context("spawn")


def start(context, target, *args, **options):
    process = context.Process(target=target, args=args, **options)
    process.start()
    return process


def exit_code(context):
    process = start(context, targets.exit_with, 3)
    process.join()
    return process.exitcode


def server():
    pid = engine.call("ServerPid", "spawn")
    assert pid > 0
    return pid


def children():
    found = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(map(int, (task / "children").read_text().split()))
        except FileNotFoundError:
            pass  # a thread that has ended since
    return found


def standing_by(before):
    """The pids of the children that the server has forked ahead, once all of them are there."""
    deadline = time.monotonic() + 30
    while True:
        pids = children() - before - {server()}
        if len(pids) == STANDBYS:
            return pids
        assert time.monotonic() < deadline, pids
        time.sleep(0.005)


def gone(pids):
    deadline = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline, pids
        time.sleep(0.005)


@pytest.mark.slow
def test_a_child_inherits_what_an_interpreter_executed_for_it_would(run_script, tmp_path):
    seen = []
    for library in ("multiprocessing", "goproc"):
        (tmp_path / library).mkdir()
        script = Path(__file__).parents[1] / "scripts" / "inherited.py"
        said = run_script(script, library, cwd=tmp_path / library).stdout
        said = said.replace(str(script), "SCRIPT")  # its folder may be called goproc, too
        seen.append(said.replace(library, "LIBRARY").splitlines())
    assert len(seen[0]) == 32
    for plain, own in zip(*seen, strict=True):
        assert own == plain


@pytest.mark.part("standby", "spawn-server")
def test_children_that_stand_by(context):
    """These children are started next. It does not matter if one is killed. They end with the server."""
    before = children()
    assert exit_code(context) == 3
    pids = standing_by(before)
    process = start(context, targets.exit_with, 3)
    process.join()
    assert process.pid in pids and process.exitcode == 3
    process.close()
    for pid in (pids := standing_by(before)):
        os.kill(pid, signal.SIGKILL)
    gone(pids)  # none is left as a zombie
    assert exit_code(context) == 3
    assert not pids & (pids := standing_by(before))
    popen_spawn_posix.stop_server()
    gone(pids)


@pytest.mark.part("standby", "spawn-server")
def test_children_that_are_killed_before_they_stand_by(context):
    """Whether or not the engine has heard of them: they are reaped, and others are started."""
    before = children()
    for _ in range(20):
        assert exit_code(context) == 3
        for _ in range(500):  # after such a loss the server may fork no process ahead until the next start
            if pids := children() - before - {server()}:
                break
            time.sleep(0.0002)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        gone(pids)


# The first fork ahead goes on, in the server and in the new process, when there is the file "go": as if neither were
# given a processor.
HELD_SERVER = """
import sys
if "--multiprocessing-fork" in sys.orig_argv:
    import _socket, os, time
    pair, pidfd_open, forks = _socket.socketpair, os.pidfd_open, []

    def hold():
        while len(forks) > 1 and not os.path.exists(os.path.dirname(__file__) + "/go"):
            time.sleep(0.01)

    class Held(_socket.socket):
        def close(self):
            hold()
            super().close()

    def held_pair(*arguments):
        ours, theirs = pair(*arguments)
        forks.append(ours)
        return ours, Held(fileno=theirs.detach())

    def held_pidfd_open(pid):
        hold()
        return pidfd_open(pid)

    _socket.socketpair, os.pidfd_open = held_pair, held_pidfd_open
"""

STOPPED_WHILE_IT_FORKS = """
import os, time
import goproc
from goproc import popen_spawn_posix
from goproc._common import engine

def children():
    found = set()
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as file:
            found.update(map(int, file.read().split()))
    return found

if __name__ == "__main__":
    for _ in range(2):
        process = goproc.get_context("spawn").Process(target=abs, args=(1,))
        process.start()
        process.join()
    server = engine.call("ServerPid", "spawn")
    while not children() - {server}:
        time.sleep(0.001)
    popen_spawn_posix.stop_server()
    print(len(children()))
    open("go", "w").close()
    while children():
        time.sleep(0.01)
    print("none is left")
"""


@pytest.mark.slow
@pytest.mark.part("standby", "late-tracker", "spawn-server")
def test_the_server_is_stopped_while_it_forks(run_script, tmp_path):
    """On a busy machine the server, and a process that it has forked, may not run for seconds. No zombie is left."""
    (tmp_path / "sitecustomize.py").write_text(HELD_SERVER)
    (tmp_path / "program.py").write_text(STOPPED_WHILE_IT_FORKS)
    done = run_script("program.py", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.stdout == "1\nnone is left\n"


@pytest.mark.parametrize("pause", [0, 0.001, 0.003, 0.01, 0.03])
def test_the_server_is_killed(context, pause):
    before = children()
    for _ in range(10):
        assert exit_code(context) == 3
        time.sleep(pause)  # it forks ahead meanwhile
        if (pid := engine.call("ServerPid", "spawn")) > 0:  # else one that stood by when it was killed has been taken
            os.kill(pid, signal.SIGKILL)
    popen_spawn_posix.stop_server()
    gone(children() - before)


@pytest.mark.part("spawn-server")
def test_the_server_is_stopped(context):
    """While a process is asked for: signals are served; the process is there when the server goes on."""
    assert exit_code(context) == 3
    pid = server()
    os.kill(pid, signal.SIGSTOP)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGCONT))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        processes = [start(context, targets.exit_with, 3) for _ in range(STANDBYS + 1)]
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [3] * len(processes)


def test_more_descriptors_than_can_be_sent(context):
    """Then an interpreter is executed."""
    pipes = [context.Pipe() for _ in range(130)]
    process = context.Process(target=len, args=(pipes,))
    process.start()
    process.join()
    assert process.exitcode == 0
    for ends in pipes:
        for end in ends:
            end.close()
    assert exit_code(context) == 3


def test_descriptors_keep_their_numbers_up_to_the_limit(context):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reader, writer = os.pipe()
    highest = soft - 1
    os.dup2(writer, highest)
    try:
        process = context.Process(target=targets.write_to, args=(targets.Inherited(highest), b"text"))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert os.read(reader, 100) == b"text"
    finally:
        for fd in (reader, writer, highest):
            os.close(fd)


SITE = {
    "thread": "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
    "trace": "import sys; sys.settrace(lambda *_: None)",
    "exit function": "import atexit; atexit.register(print, 'left')",
}

PROGRAM = """
import goproc
from goproc._common import engine

if __name__ == "__main__":
    context = goproc.get_context("spawn")
    for _ in range(2):
        process = context.Process(target=print, args=("ran",))
        process.start()
        process.join()
    print(engine.call("ServerPid", "spawn"))
"""


@pytest.mark.parametrize("what", SITE)
def test_the_interpreters_start_leaves_what_a_fork_would_lose_or_double(run_script, tmp_path, what):
    """Then an interpreter is executed for each child."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nif '--multiprocessing-fork' in sys.orig_argv: exec({SITE[what]!r})"
    )
    (tmp_path / "program.py").write_text(PROGRAM)
    output = run_script(tmp_path / "program.py", PYTHONPATH=str(tmp_path)).stdout
    assert output == ("ran\nleft\n" if what == "exit function" else "ran\n") * 2 + "0\n"


def test_a_command_line_of_the_programs_own_is_executed_each_time(run_script, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    output = run_script(tmp_path / "program.py", GOPROC_PYTHON=f"env {os.path.realpath('/proc/self/exe')}")
    assert output.stdout.endswith("\n0\n")


EXIT = """
import atexit
import goproc

class Ends:
    def __del__(self):
        print("deleted")

def child():
    global ends
    ends = Ends()
    atexit.register(print, "left")

if __name__ == "__main__":
    for _ in range(3):
        process = goproc.get_context("spawn").Process(target=child)
        process.start()
        process.join()
"""


def test_a_child_ends_as_an_interpreter_does(run_script, tmp_path):
    (tmp_path / "program.py").write_text(EXIT)
    output = run_script(tmp_path / "program.py").stdout
    if sys.version_info >= (3, 15):  # there the end of an interpreter may leave such objects alone
        output = output.replace("deleted\n", "")
        assert output == "left\n" * 3
    else:
        assert output == "left\ndeleted\n" * 3


def test_a_server_closes_everything_if_its_client_ends_meanwhile(run_script):
    assert run_script("prefork_without_client.py", options=["-X", "dev"]).stderr == ""
