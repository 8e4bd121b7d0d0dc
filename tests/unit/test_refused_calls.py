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
    "sigaltstack",
]


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_refused_call(run_script, call, error, method):
    if call == "clone3" and error == "EPERM":
        return  # the C library takes that for a refusal of threads
    assert "done" in run_script("refused.py", call, error, method).stdout


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
