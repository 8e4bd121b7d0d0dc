"""sibling.c finds where the C library keeps a thread's id, in any layout; if it does not, goproc forks no siblings.

To simulate other layouts, a preloaded library replaces functions of the C library that sibling.c calls
(capi/native/clone/sibling.c).
"""

import os
import shlex
import shutil
import subprocess

import pytest

ANSWERS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef DESCRIBED
const uint32_t _thread_db_pthread_tid[3] = {32, 1, DESCRIBED};
#endif

#ifdef CLEARED
/* The address that the kernel clears: one whose value is the thread's id, but which is not the C library's. */
static int other;
int prctl(int option, ...) {
    unsigned long words[4];
    va_list list;
    va_start(list, option);
    for (int i = 0; i < 4; i++)
        words[i] = va_arg(list, unsigned long);
    va_end(list);
    if (option == 40) { /* PR_GET_TID_ADDRESS */
        other = (int)syscall(SYS_gettid);
        *(int **)words[0] = &other;
        return CLEARED;
    }
    return (int)syscall(SYS_prctl, option, words[0], words[1], words[2], words[3]);
}
#endif

#ifdef SILENT
int pthread_getcpuclockid(pthread_t thread, clockid_t *clock) {
    return ESRCH;
}
#endif

#ifdef ASKS_THE_KERNEL
int pthread_getcpuclockid(pthread_t thread, clockid_t *clock) {
    *clock = ~(clockid_t)syscall(SYS_gettid) << 3 | 6;
    return 0;
}
#endif
"""

WHERE = {
    "as it is": "",
    "a wrong description": "-DDESCRIBED=64",
    "an impossible description": "-DDESCRIBED=0xfffffff0u",
    "only found by searching": "-DDESCRIBED=64 -DCLEARED=0",
    "nothing cleared": "-DDESCRIBED=64 -DCLEARED=-1",
}

PROGRAM = """
import logging, os, signal, sys, threading, time
import goproc
from goproc import popen_spawn_posix
from goproc._pool import nursery

def about(_=None):
    # Both ask the C library for the id that it has kept.
    right = ~threading.get_native_id() << 3 | 6
    try:
        clock = time.pthread_getcpuclockid(threading.get_ident())
    except ProcessLookupError:
        clock = right if sys.argv[1:] == ["silent"] else None
    received = []
    signal.signal(signal.SIGUSR1, lambda number, _: received.append(number))
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
    with open("/proc/self/cmdline") as file:
        cloned = "spawn_server" in file.read()
    return os.getpid(), clock == right, received == [signal.SIGUSR1], cloned

def tell(connection):
    connection.send(about())

if __name__ == "__main__":
    goproc.log_to_stderr(logging.DEBUG)
    forked = []
    fork_all = nursery.Nursery.fork_all
    nursery.Nursery.fork_all = lambda self: forked.append(fork_all(self)) or forked[-1]
    for _ in range(2):
        with goproc.get_context("fork").Pool(nursery.TOGETHER) as pool:
            found = pool.map(about, range(100), 1)
            assert all(right and received for _, right, received, _ in found), found
    print(*forked)

    context = goproc.get_context("spawn")
    for _ in range(4):
        here, there = context.Pipe()
        process = context.Process(target=tell, args=(there,))
        process.start()
        pid, right, received, cloned = here.recv()
        assert (pid, right, received) == (process.pid, True, True)
        process.join()
        assert process.exitcode == 0
        here.close()
        there.close()
        print(cloned)
"""


@pytest.fixture
def run_with(run_script, tmp_path):
    def run(flags, *arguments):
        (tmp_path / "answers.c").write_text(ANSWERS)
        compiler = shlex.split(os.environ.get("CC", "gcc"))
        if shutil.which(compiler[0]) is None:
            pytest.skip("this test compiles, and there is no compiler")
        library = tmp_path / "answers.so"
        command = [*compiler, *flags.split(), "-shared", "-fPIC", "-o", library, tmp_path / "answers.c", "-ldl"]
        subprocess.run(command, check=True)
        (tmp_path / "program.py").write_text(PROGRAM)
        return run_script(tmp_path / "program.py", *arguments, options=["-W", "error"], LD_PRELOAD=str(library))

    return run


@pytest.mark.part("clones", "spawn-server")
@pytest.mark.parametrize("where", WHERE)
def test_the_place_is_found(run_with, where):
    done = run_with(WHERE[where])
    assert done.stdout.split() == ["True", "True", "False", "True", "True", "True"]
    assert "one by one" not in done.stderr and "interpreter is executed" not in done.stderr


@pytest.mark.part("clones", "spawn-server")
@pytest.mark.parametrize(("flags", "tried"), [("-DSILENT", "False"), ("-DASKS_THE_KERNEL", "True")])
def test_where_it_cannot_be_known(run_with, flags, tried):
    """Only the way to start a process changes. The log says so, and no descriptor is left open."""
    done = run_with(flags, "silent")
    assert done.stdout.split() == [tried] * 2 + ["False"] * 4
    assert done.stderr.count("workers are forked one by one") == (1 if tried == "False" else 2)
    assert done.stderr.count("an interpreter is executed for each spawned process") == 1
    assert "Warning" not in done.stderr and "Traceback" not in done.stderr
