"""The kernel refuses system calls that goproc makes and multiprocessing does not: tests/scripts/refused.py."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"

CALLS = [
    "pidfd_open",
    "pidfd_send_signal",
    "waitid",
    "memfd_create",
    "fcntl F_SETSIG",
    "eventfd2",
    "epoll_create1",
    "close_range",
    "sched_getaffinity",
    "clone3",
    "prctl PR_GET_TID_ADDRESS",
    "fallocate",
    "ftruncate",
    "sigaltstack",
    "madvise",
    "sendmsg",
    "recvfrom",
]


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_refused_call(run_script, call, error, method):
    if call == "clone3" and error == "EPERM":
        return  # the C library takes that for a refusal of threads
    if call == "sendmsg" and method == "forkserver":
        return  # nor can multiprocessing do without it there
    assert "done" in run_script("refused.py", call, error, method).stdout


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_that_cannot_be_ended_leaves_no_noise(run_script, tmp_path, method):
    program = (
        "import multiprocessing, os, sys\n"
        "import refused\n"
        "def read(end, other):\n"
        "    other.close()\n"
        "    end.poll(None)\n"
        "if __name__ == '__main__':\n"
        "    refused.refuse('kill', 'EPERM')\n"
        "    context = multiprocessing.get_context(sys.argv[1])\n"
        "    end, other = context.Pipe()\n"
        "    process = context.Process(target=read, args=(end, other), daemon=True)\n"
        "    process.start()\n"
        "    context.Pool(2).map(int, [1])\n"
    )
    (tmp_path / "program.py").write_text(program)
    done = run_script("-m", "goproc", tmp_path / "program.py", method, PYTHONPATH=str(SCRIPTS))
    assert "PermissionError" in done.stderr  # as with multiprocessing, which ends its daemons
    assert "NoneType" not in done.stderr


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_locks_and_queues_of_installed_goproc(run_script, tmp_path, method):
    program = (
        "import multiprocessing, sys\n"
        "import refused\n"
        "if __name__ == '__main__':\n"
        "    refused.refuse('ftruncate', 'EPERM')\n"
        "    context = multiprocessing.get_context(sys.argv[1])\n"
        "    refused.locks_and_queues(context)\n"
        "    with context.Pool(2) as pool:\n"
        "        print(pool.map(abs, [-1, 2]))\n"
    )
    (tmp_path / "program.py").write_text(program)
    done = run_script("-W", "ignore", "-m", "goproc", tmp_path / "program.py", method, PYTHONPATH=str(SCRIPTS))
    assert done.stdout == "[1, 2]\n"


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition", "BoundedSemaphore"])
def test_locks_that_must_survive_a_kill_are_not_replaced(run_script, kind):
    code = (
        "import goproc, refused\n"
        "refused.refuse('ftruncate', 'EPERM')\n"
        "context = goproc.get_context('spawn')\n"
        f"context.{kind}()\n"
        f"try: context.{kind}(abandoned='take')\n"
        "except PermissionError as error: print(error)\n"
    )
    assert "ftruncate" in run_script("-c", code).stdout


def _without_proc(*command):
    """Run a command where there is no /proc."""
    unshare = ["unshare", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True, timeout=60).returncode:
        # The root of a chroot is no mount, which could be made private. So all mounts must be private already.
        assert " shared:" not in Path("/proc/self/mountinfo").read_text()
        unshare += ["--propagation", "unchanged"]
    script = 'umount -l /proc && exec "$@"'
    return subprocess.run([*unshare, "sh", "-c", script, "sh", *command], capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(os.getuid() != 0, reason="takes a mount namespace")
def test_without_proc(method):
    done = _without_proc(sys.executable, SCRIPTS / "refused.py", "none", "ENOSYS", method)
    assert done.stdout == "done\n", done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="takes a mount namespace")
def test_daemons_end_with_their_parent_without_proc(method):
    done = _without_proc(sys.executable, SCRIPTS / "refused.py", "none", "ENOSYS", method, "killed")
    assert done.returncode == -9
    for pid in map(int, done.stdout.split()):
        deadline = time.monotonic() + 30
        while os.path.exists(f"/proc/{pid}/exe"):
            assert time.monotonic() < deadline, f"process {pid} lives on"
            time.sleep(0.005)


@pytest.mark.skipif(os.getuid() != 0, reason="takes root to become somebody else")
def test_changed_user(run_script, method):
    assert run_script("changed_user.py", method).stdout == "done\n"
