"""A program that starts processes only by fork, and so needs no engine: forks_only.py SCENARIO"""

import errno
import os
import resource
import signal
import sys
import threading
import time
from multiprocessing.connection import wait

import goproc
from goproc import _native
from goproc._common import calls, engine

context = goproc.get_context("fork")


def exit_codes():
    for target, argument, expected in (
        (sys.exit, 3, 3),
        (sys.exit, None, 0),
        (sys.exit, "a text", 1),
        (os._exit, 255, 255),
        (int, "no number", 1),
        (kill_self, signal.SIGSEGV, -signal.SIGSEGV),
    ):
        process = start(target, argument)
        process.join()
        assert process.exitcode == expected
        assert not process.is_alive()


def signals():
    for send, expected in ((goproc.Process.terminate, signal.SIGTERM), (goproc.Process.kill, signal.SIGKILL)):
        process = start(time.sleep, 60)
        send(process)
        process.join()
        assert process.exitcode == -expected
        send(process)  # the process has ended: nothing happens
    process = start(time.sleep, 60)
    os.kill(process.pid, signal.SIGKILL)
    wait([process.sentinel])
    process.terminate()  # also if nobody knows yet that the process has ended
    assert process.exitcode == -signal.SIGKILL


def joining():
    process = start(time.sleep, 60)
    for timeout in (0, -1, 0.01):
        process.join(timeout)
    assert process.is_alive() and process.exitcode is None
    seen = []
    threads = [threading.Thread(target=lambda: (process.join(), seen.append(process.exitcode))) for _ in range(6)]
    for thread in threads:
        thread.start()
    process.kill()
    for thread in threads:
        thread.join()
    assert seen == [-signal.SIGKILL] * 6


def children():
    first, second = start(time.sleep, 60), start(sys.exit, 3)
    wait([second.sentinel])
    assert os.path.exists(f"/proc/{second.pid}")  # until somebody asks
    assert goproc.active_children() == [first]
    assert not os.path.exists(f"/proc/{second.pid}")
    assert second.exitcode == 3
    first.kill()
    wait([first.sentinel])
    start(sys.exit, 0).join()
    assert not os.path.exists(f"/proc/{first.pid}")
    assert first.exitcode == -signal.SIGKILL


def given_back():
    start(sys.exit, 0).join()
    before = descriptors()
    processes = [start(sys.exit, 0) for _ in range(20)]
    assert len(descriptors()) == len(before) + 20
    for process in processes[:10]:
        process.join()
        process.close()
        try:
            process.join()
        except ValueError as error:
            assert "closed" in str(error)
    for process in processes[10:]:
        process.join()
    del process, processes
    assert descriptors() == before


def given_up_while_it_runs():
    """The next start releases the resources of such a process."""
    before = len(descriptors())
    process = start(time.sleep, 60)
    pid = process.pid
    goproc.process._children.discard(process)
    del process
    start(sys.exit, 0).join()
    assert os.path.exists(f"/proc/{pid}")
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    start(sys.exit, 0).join()
    assert not os.path.exists(f"/proc/{pid}")
    assert len(descriptors()) == before + 2  # the lifeline's


def stolen_status():
    process = start(sys.exit, 3)
    assert os.waitpid(-1, 0)[0] == process.pid
    process.join()
    assert process.exitcode == 255


def children_ignored():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(20):
        process = start(sys.exit, 3)
        process.join()
        assert process.exitcode == 255
        process.close()


def no_descriptors():
    """No descriptor is left for the lifeline, or, later, for the child's end of it or the sentinel."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = []
    for left in (0, 1, 2, 3, 4):
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        try:
            while True:
                fillers.append(os.dup(0))
        except OSError as error:
            assert error.errno == errno.EMFILE
        for _ in range(left):
            os.close(fillers.pop())
        for daemon in (False, True):
            process = context.Process(target=sys.exit, args=(3,), daemon=daemon)
            try:
                process.start()
            except OSError as error:
                assert error.errno == errno.EMFILE and left < 3
            else:
                process.join()
                assert process.exitcode == 3
                process.close()
        while fillers:
            os.close(fillers.pop())
    assert goproc.active_children() == []
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    exit_codes()


def stats():
    assert calls.stats() == counted(0, 0)
    first, second = start(time.sleep, 60), start(sys.exit, 3)
    wait([second.sentinel])
    assert calls.stats() == counted(2, 1)
    assert second.exitcode == 3
    first.kill()
    first.join()
    assert calls.stats() == counted(2, 0)
    engine.close()
    start(sys.exit, 0).join()
    assert calls.stats() == counted(3, 0)


def counted(forked, running):
    started = {"fork": forked, "spawn": 0, "forkserver": 0}
    return {"started": started, "tasks": 0, "lost": 0, "running": running}


def nested():
    process = start(descend, 3)
    process.join()
    assert process.exitcode == 0


def descend(depth):
    assert calls.stats() == counted(0, 0)
    assert goproc.active_children() == []
    if depth:
        process = start(descend, depth - 1)
        process.join()
        assert process.exitcode == 0
    check()


def the_parents_end():
    """A child sees it by the sentinel, although its own children, and others of its parent's, live on."""
    receiver, sender = context.Pipe(duplex=False)
    process = start(have_children, sender)
    assert receiver.recv() == "watching"
    pids = receiver.recv()
    process.kill()
    process.join()
    assert receiver.recv() == "the parent has ended"
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def have_children(sender):
    others = [start(time.sleep, 60), start(time.sleep, 60)]
    event = context.Event()
    others.append(start(watch_parent, sender, event))
    others.append(start(time.sleep, 60))
    event.wait()
    sender.send([process.pid for process in others])
    time.sleep(60)


def watch_parent(sender, event):
    parent = goproc.parent_process()
    assert parent.pid == os.getppid() and parent.is_alive()
    check()
    sender.send("watching")
    event.set()
    parent.join()
    sender.send("the parent has ended")
    time.sleep(60)


def daemons_of_threads():
    """Daemons live on when the thread that started them has ended."""
    started = []
    threads = [threading.Thread(target=lambda: started.append(start(time.sleep, 60, daemon=True))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({process.pid for process in started}) == 8
    assert all(process.is_alive() for process in started)
    # The end of the program terminates them.


def forked_by_the_user():
    """Such a child knows nothing of its parent's processes, and may start its own."""
    process = start(time.sleep, 60)
    pid = os.fork()
    if pid == 0:
        assert process.exitcode is None
        goproc.process._children.clear()
        exit_codes()
        assert calls.stats()["started"]["fork"] == 6
        check()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def very_many():
    start(sys.exit, 0).join()
    before = descriptors(), len(open("/proc/self/maps").readlines())
    for _ in range(150):
        processes = [start(sys.exit, 0, daemon=number % 2) for number in range(10)]
        for process in processes:
            process.join()
            assert process.exitcode == 0
    del process, processes
    assert descriptors() == before[0]
    assert len(open("/proc/self/maps").readlines()) < before[1] + 10
    assert calls.stats() == counted(1501, 0)


def start(target, *args, daemon=False):
    process = context.Process(target=target, args=args, daemon=bool(daemon))
    process.start()
    return process


def kill_self(signum):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signum)
    time.sleep(60)


def wait_for_end(pid):
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def descriptors():
    directory = os.open("/proc/self/fd", os.O_RDONLY)
    try:
        return set(os.listdir(directory)) - {str(directory)}
    finally:
        os.close(directory)


def check():
    """There is no engine, and no thread of one."""
    assert not engine.is_loaded()
    assert _native.engine_state() == 0
    deadline = time.monotonic() + 30
    while len(os.listdir("/proc/self/task")) > 1:  # a thread that has been joined may be there for a moment
        assert time.monotonic() < deadline
        time.sleep(0.001)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    check()
