"""Processes that seem to have ended: their main thread is gone, and others go on; or a tracer has the status.

The kernel shows both as zombies, and nobody can wait for them yet. The programs call the kernel by ctypes.
"""

import signal

import pytest
from helpers import SCRIPTS

HELPERS = """
import ctypes, multiprocessing, os, platform, signal, subprocess, sys, threading, time
import refused

libc = ctypes.CDLL(None, use_errno=True)

def leave_main_thread(lock, told):
    def end():
        told.recv()
        os._exit(7)
    lock.acquire()
    threading.Thread(target=end).start()
    libc.syscall(ctypes.c_long({"x86_64": 60, "aarch64": 93}[platform.machine()]), 0)  # exit(2), of this thread

def is_zombie(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"

def wait_for_zombie(pid):
    while not is_zombie(pid):
        time.sleep(0.001)
"""

WITHOUT_MAIN_THREAD = (
    HELPERS
    + """
if __name__ == "__main__":
    method, calls = sys.argv[1:]
    for call in calls.split():
        refused.refuse(call, "EPERM")
    context = multiprocessing.get_context(method)
    lock, (told, tell) = context.Lock(), context.Pipe(duplex=False)
    process = context.Process(target=leave_main_thread, args=(lock, told))
    process.start()
    wait_for_zombie(process.pid)
    print(process.is_alive(), process.exitcode, lock.acquire(timeout=0.3))
    process.join(0.01)
    print(process.exitcode)
    tell.send("end")
    process.join()
    print(process.exitcode)
    process = context.Process(target=leave_main_thread, args=(context.Lock(), told))
    process.start()
    wait_for_zombie(process.pid)
    process.terminate()
    process.join()
    print(process.exitcode)
"""
)

TRACER = (
    HELPERS
    + """
PTRACE_SEIZE, WALL = 0x4206, 0x40000000
pid = int(sys.argv[1])
failed = libc.ptrace(PTRACE_SEIZE, pid, None, None) != 0
print("refused" if failed else "traced", flush=True)
if not failed:
    wait_for_zombie(pid)
    time.sleep(0.5)
    os.waitpid(pid, WALL)
"""
)

TRACED = (
    HELPERS
    + """
def end(kind):
    PR_SET_PTRACER = 0x59616D61
    libc.prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
    tracer = subprocess.Popen([sys.executable, "tracer.py", str(os.getpid())], stdout=subprocess.PIPE, text=True)
    if tracer.stdout.readline() != "traced\\n":
        os._exit(77)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(7)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    codes = []
    for kind in ("left", "killed"):
        process = context.Process(target=end, args=(kind,))
        process.start()
        process.join()
        codes.append(process.exitcode)
        process = context.Process(target=end, args=(kind,))
        process.start()
        process.join(300)
        codes.append(process.exitcode)
    print(codes)
"""
)


@pytest.mark.parametrize("calls", ["", "pidfd_open", "pidfd_open waitid"], ids=["pidfds", "tethers", "no waitid"])
def test_other_threads_go_on_without_the_main_thread(run_script, tmp_path, method, calls):
    (tmp_path / "program.py").write_text(WITHOUT_MAIN_THREAD)
    done = run_script("-m", "goproc", "program.py", method, calls, cwd=tmp_path, PYTHONPATH=str(SCRIPTS))
    assert done.stdout == f"True None False\nNone\n7\n{-signal.SIGTERM}\n"


def test_a_tracer_has_still_to_take_the_status(run_script, tmp_path, method):
    (tmp_path / "program.py").write_text(TRACED)
    (tmp_path / "tracer.py").write_text(TRACER)
    done = run_script("-m", "goproc", "program.py", method, cwd=tmp_path, PYTHONPATH=str(SCRIPTS))
    if "77" in done.stdout:
        pytest.skip("this system refuses ptrace")
    assert done.stdout == f"{[7, 7, -signal.SIGKILL, -signal.SIGKILL]}\n"
