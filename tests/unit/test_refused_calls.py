"""The kernel refuses system calls that goproc makes and multiprocessing does not: tests/scripts/refused.py."""

import os
import signal
import sys
import time

import pytest
from helpers import SCRIPTS, in_own_mounts

CALLS = [
    "pidfd_open",
    "pidfd_send_signal",
    "waitid",
    "pidfd_open+waitid",
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


@pytest.mark.parametrize("call", ["memfd_create", "ftruncate", "madvise", "fcntl F_ADD_SEALS"])
@pytest.mark.parametrize("error", ["EINVAL", "EOPNOTSUPP"])
def test_what_is_asked_of_a_call_is_refused(run_script, tmp_path, call, error, method):
    program = (
        "import multiprocessing, sys\n"
        "import refused\n"
        "if __name__ == '__main__':\n"
        "    refused.refuse(sys.argv[1], sys.argv[2])\n"
        "    context = multiprocessing.get_context(sys.argv[3])\n"
        "    with context.Pool(2) as pool:\n"
        "        print(pool.map(abs, [-1, 2]))\n"
        "    process = context.Process(target=print, args=('a process',))\n"
        "    process.start()\n"
        "    process.join()\n"
    )
    (tmp_path / "program.py").write_text(program)
    done = run_script("-m", "goproc", tmp_path / "program.py", call, error, method, PYTHONPATH=str(SCRIPTS))
    assert done.stdout == "[1, 2]\na process\n"
    assert done.stderr.count("RuntimeWarning: this system refuses a system call that pools need") == 1


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


@pytest.mark.skipif(os.getuid() != 0, reason="takes a mount namespace")
@pytest.mark.parametrize("call", ["none", "pidfd_open+waitid"])
def test_without_proc(call, method):
    done = in_own_mounts("umount -l /proc", sys.executable, SCRIPTS / "refused.py", call, "ENOSYS", method)
    assert done.stdout == "done\n", done.stderr


NESTED = """
import multiprocessing, sys

def nested():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(abs, [-1, -2]), flush=True)

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.apply(abs, (-1,))
        process = multiprocessing.get_context("fork").Process(target=nested)
        process.start()
        process.join()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="takes a mount namespace")
@pytest.mark.parametrize("others", [[], ["/dev/shm", "/var/tmp"]], ids=["one", "all"])
def test_copies_of_the_engine_in_folders_that_are_mounted_with_noexec(tmp_path, others):
    """A nested pool needs a copy: it is in another folder; or the pool is multiprocessing's own, with a warning."""
    mounts = [f"mount -t tmpfs -o noexec tmpfs '{folder}'" for folder in [tmp_path, *others]]
    program = ["env", f"TMPDIR={tmp_path}", sys.executable, "-m", "goproc", "-c", NESTED]
    done = in_own_mounts(" && ".join(["umount -l /proc", *mounts]), *program)
    assert done.stdout == "[1, 2]\n", done.stderr
    assert ("a forked process needs a copy of it" in done.stderr) == bool(others)


@pytest.mark.skipif(os.getuid() != 0, reason="takes a mount namespace")
def test_daemons_end_with_their_parent_without_proc(method):
    done = in_own_mounts("umount -l /proc", sys.executable, SCRIPTS / "refused.py", "none", "ENOSYS", method, "killed")
    assert done.returncode == -9
    for pid in map(int, done.stdout.split()):
        deadline = time.monotonic() + 30
        while os.path.exists(f"/proc/{pid}/exe"):
            assert time.monotonic() < deadline, f"process {pid} lives on"
            time.sleep(0.005)


@pytest.mark.skipif(os.getuid() != 0, reason="takes root to become somebody else")
def test_changed_user(run_script, method):
    assert run_script("changed_user.py", method).stdout == "done\n"


NO_PIDFDS = """
import multiprocessing, os, resource, signal, sys, time
import refused

def fork_and_leave():
    if os.fork() == 0:
        os.close(1), os.close(2)
        time.sleep(30)  # it must not keep the sentinel of its parent from being ready
    sys.exit(3)

if __name__ == "__main__":
    refused.refuse("pidfd_open", "EPERM")
    if sys.argv[2] == "no engine":
        resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))
    else:
        def by_the_program(*arguments, original=getattr(os, "fork") if sys.argv[1] == "fork" else None):
            return original(*arguments)
        if sys.argv[1] == "fork":
            os.fork = by_the_program
        else:
            import multiprocessing.util
            original = multiprocessing.util.spawnv_passfds
            multiprocessing.util.spawnv_passfds = lambda *arguments: original(*arguments)
    context = multiprocessing.get_context(sys.argv[1])
    process = context.Process(target=fork_and_leave)
    process.start()
    process.join(20)
    print(process.exitcode)
    process = context.Process(target=time.sleep, args=(1000,), daemon=True)
    process.start()
    process.join(0.1)
    print(process.exitcode)
    process.terminate()
    process.join(20)
    print(process.exitcode)
    with context.Pool(2) as pool:
        print(pool.map(abs, [-1, -2]))
"""


@pytest.mark.parametrize("how", ["no engine", "by the program"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_no_pidfds_for_processes_that_the_engine_does_not_start(run_script, tmp_path, method, how):
    (tmp_path / "program.py").write_text(NO_PIDFDS)
    options = ["-W", "ignore", "-m", "goproc"]
    # MALLOC_ARENA_MAX: as in test_limits.py, else the threads of multiprocessing's own pool may find no addresses.
    variables = {"PYTHONPATH": str(SCRIPTS), "MALLOC_ARENA_MAX": "1"}
    done = run_script("program.py", method, how, options=options, cwd=tmp_path, **variables)
    assert done.stdout == f"3\nNone\n{-signal.SIGTERM}\n[1, 2]\n"
