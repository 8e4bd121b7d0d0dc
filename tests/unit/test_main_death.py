"""The main program is killed by SIGKILL: all processes that it has started end, except non-daemonic ones."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest
from helpers import SCRIPTS, SharedMemoryFiles

#: Within a second is the promise, and `make faults` shows what it takes. Here it must come at all, on a busy machine.
PATIENCE = 30

#: How the names begin of the files in which CPython's multiprocessing.heap has Arrays and Values. It makes each by
#: mkstemp(), and unlinks it next: a program that is killed in between leaves it.
ARENAS = ("pym-",)

#: How the names begin of semaphores. With fork CPython's SemLock makes each by sem_open(), and unlinks it next, in one
#: call of C: a program that is killed in between leaves it, on multiprocessing as here. With the other methods the
#: resource tracker unlinks them.
SEMAPHORES = ("sem.",)


class Victim:
    """A run of tests/scripts/victim.py."""

    def __init__(self, method, scenario, folder):
        self.mark = f"GOPROC_TEST_VICTIM={uuid.uuid4()}"
        self.folder = folder
        for name in ("started", "temporary"):
            (folder / name).mkdir()
        self._shared_memory = SharedMemoryFiles()
        name, value = self.mark.split("=")
        self.program = subprocess.Popen(
            [sys.executable, "victim.py", method, scenario, folder / "started"],
            cwd=SCRIPTS,
            env={**os.environ, "TMPDIR": str(folder / "temporary"), name: value},
            stdout=subprocess.PIPE,
            text=True,
        )

    def started(self):
        """Wait until all runs; return the pids of what must end with the program, and of what must live on."""
        end, live_on = (list(map(int, self.program.stdout.readline().split())) for _ in range(2))
        return end, live_on

    def kill(self):
        self.program.kill()
        self.program.wait()
        self.program.stdout.close()

    def alive(self):
        """The pids of all that the program has started, and what these have: they have its environment."""
        mark, alive = self.mark.encode(), set()
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    if mark in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                        alive.add(int(entry))
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    pass  # ended, a zombie, or somebody else's
        return alive

    def trackers(self):
        """The pids of its resource trackers: they live as long as any process that may use them."""
        return {pid for pid in self.alive() if "resource_tracker" in command_of(pid)}

    def wait_until_alone(self, *but):
        """Wait until nothing is alive any more but the given pids."""
        deadline = time.monotonic() + PATIENCE
        while left := self.alive().difference(but):
            assert time.monotonic() < deadline, sorted(map(command_of, left))
            time.sleep(0.002)

    def check_files(self, but=()):
        """Nothing of the program's is in the temporary folder or in the shared memory's, but what has such a prefix."""
        left = [str(path) for path in (self.folder / "temporary").rglob("*")]
        assert not left, left
        self._shared_memory.check(but)


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return "ended"


@pytest.fixture
def run_victim():
    victims = []

    def run(method, scenario):
        folder = Path(tempfile.mkdtemp(prefix="goproc-"))  # not in tmp_path: a socket's path has 107 bytes at most
        victims.append(Victim(method, scenario, folder))
        return victims[-1]

    yield run
    for victim in victims:
        victim.kill()
        for pid in victim.alive():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(victim.folder)


@pytest.mark.parametrize(
    "scenario", ["daemons", "from_a_thread_that_has_ended", "idle_pool", "busy_pool", "managers", "all_at_once"]
)
def test_nothing_is_left(run_victim, method, scenario):
    victim = run_victim(method, scenario)
    end, _ = victim.started()
    assert end and victim.alive().issuperset([victim.program.pid, *end])
    victim.kill()
    victim.wait_until_alone()
    victim.check_files()


def test_a_managers_server_that_cannot_shut_down_is_killed(run_victim, method):
    """The socket stays: nobody is left who could remove it."""
    victim = run_victim(method, "busy_manager")
    victim.started()
    victim.kill()
    victim.wait_until_alone()


def test_a_server_that_the_program_runs_by_itself_lives_on(run_victim, method):
    victim = run_victim(method, "server_of_the_users")
    _, (server,) = victim.started()
    victim.kill()
    victim.wait_until_alone(server, *victim.trackers())
    assert server in victim.alive()
    os.kill(server, signal.SIGKILL)
    victim.wait_until_alone()


@pytest.mark.parametrize(
    "scenario", ["not_a_daemon", "beside_a_fork_of_the_users", "beside_one_started_after_the_reading_end_was_closed"]
)
def test_what_is_no_daemon_lives_on(run_victim, method, scenario):
    victim = run_victim(method, scenario)
    (daemon,), (other,) = victim.started()
    victim.kill()
    victim.wait_until_alone(other, *victim.trackers())
    assert other in victim.alive()
    os.kill(other, signal.SIGKILL)
    victim.wait_until_alone()
    victim.check_files()


def test_a_child_with_a_pool_lives_on_with_it(run_victim, method):
    victim = run_victim(method, "pool_in_a_child")
    _, (child, worker) = victim.started()
    victim.kill()
    assert victim.alive().issuperset([child, worker])
    os.kill(child, signal.SIGKILL)
    victim.wait_until_alone()
    victim.check_files()


@pytest.mark.slow
def test_killed_at_any_moment(run_victim, method):
    """While it starts its processes, too."""
    victim = run_victim(method, "all_at_once")
    begin = time.monotonic()
    victim.started()
    whole = time.monotonic() - begin
    victim.kill()
    moments = random.Random(method)
    for _ in range(12):
        victim = run_victim(method, "all_at_once")
        time.sleep(moments.uniform(0.2, 1.1) * whole)
        victim.kill()
        victim.wait_until_alone()
        victim.check_files(but=ARENAS + (SEMAPHORES if method == "fork" else ()))
