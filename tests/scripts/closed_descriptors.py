"""A program closes all descriptors above 2, as daemons do, and opens files: closed_descriptors.py SCENARIO METHOD"""

import ctypes
import os
import signal
import sys
import tempfile
import threading
import time

import goproc

HIGHEST = 70000


def succeed(value):
    return value + 1


def close_all(highest=HIGHEST):
    os.closerange(3, highest)


def anonymous():
    """The epolls and eventfds with high numbers, which are the Go runtime's: their kinds by number."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            pass  # that of the listing itself
    return {fd: kind for fd, kind in found.items() if fd >= 1024 and kind.startswith("anon_inode:[event")}


class Files:
    """Files of the program's, which get the numbers that have been closed. They must stay as they are."""

    def __init__(self):
        self._files = [tempfile.TemporaryFile() for _ in range(40)]
        for number, file in enumerate(self._files):
            file.write(b"%d" % number)
            file.flush()

    def check(self):
        for number, file in enumerate(self._files):
            file.seek(0)
            assert file.read() == b"%d" % number, f"file {number} (descriptor {file.fileno()})"


def use(context):
    for daemon in (False, True):
        process = context.Process(target=succeed, args=(1,), daemon=daemon)
        process.start()
        process.join()
        assert process.exitcode == 0
    with context.Pool(2) as pool:
        assert pool.map(succeed, range(4)) == [1, 2, 3, 4]
        assert pool.apply_async(len, (b"x" * 300_000,)).get() == 300_000


def between_two(context):
    """Processes and pools are used before the descriptors are closed, and others afterwards."""
    use(context)
    close_all()
    files = Files()
    use(context)
    use(context)
    files.check()


def after_a_process(context):
    """Only a process is started before the descriptors are closed."""
    process = context.Process(target=succeed, args=(1,))
    process.start()
    process.join()
    before = anonymous()
    close_all()
    files = Files()
    use(context)
    files.check()
    # The engine writes to the eventfd of its runtime: nothing else may have got that number.
    assert before.items() <= anonymous().items(), (before, anonymous())


def one_by_one(context):
    """A loop closes the usual numbers, while a daemon runs."""
    process = context.Process(target=time.sleep, args=(3600,), daemon=True)
    process.start()
    for fd in range(3, 1024):
        try:
            os.close(fd)
        except OSError:
            pass
    files = Files()
    assert process.is_alive()
    use(context)
    process.terminate()
    process.join()
    # The fork server cannot tell the status of its child any more.
    assert process.exitcode in (-signal.SIGTERM, 255 if context.get_start_method() == "forkserver" else -signal.SIGTERM)
    files.check()


def while_joining(context):
    """A signal handler closes the descriptors, and opens files, while the program waits for the end of processes."""
    opened = []

    def close_and_open(signum, frame):
        close_all()
        opened.append(Files())

    signal.signal(signal.SIGALRM, close_and_open)
    for timeout in None, 60:
        process = context.Process(target=time.sleep, args=(1.5,))
        process.start()
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        process.join(timeout)
        assert not process.is_alive()
        # The fork server cannot tell the status of its child any more.
        assert process.exitcode in (0, 255 if context.get_start_method() == "forkserver" else 0)
    assert len(opened) == 2
    for files in opened[1:]:
        files.check()
    use(context)


def pool_in_use(context):
    """A pool is in use: its tasks end, with a result or an error, and the pool can be ended."""
    pool = context.Pool(2)
    pool.map(succeed, range(4))
    close_all()
    files = Files()
    for submit in (lambda: pool.map_async(succeed, [1]), lambda: pool.apply_async(len, (b"x" * 300_000,))):
        try:
            submit().get(60)
        except goproc.TimeoutError:
            raise
        except Exception as error:
            print("a task of the old pool:", type(error).__name__, error)
    pool.terminate()
    pool.join()
    use(context)
    files.check()


def orphans(context):
    """The fork server ends because of it. Nobody reaps its children when they have ended, as in many containers."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: they become children of this process
    child = os.fork()
    if child == 0:
        pool = context.Pool(2)
        pool.map(succeed, range(4))
        close_all(1000)
        files = Files()
        pool.terminate()
        pool.join()
        use(context)
        files.check()
        print("done with orphans", flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def in_child(context):
    """A child closes the descriptors, and uses pools: the double fork of daemons, by hand."""
    use(context)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        try:
            os.dup2(writing, 2)
            close_all()
            files = Files()
            use(context)
            use(context)
            files.check()
            os.write(2, b"done")
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, "rb") as file:
        assert file.read() == b"done"


def in_worker(context):
    """A task closes the descriptors: the pool goes on, or the task is lost."""
    with context.Pool(1) as pool:
        pool.apply_async(close_all).get(60)
        assert pool.apply_async(succeed, (1,)).get(60) == 2
        try:
            assert pool.apply_async(bytes, (300_000,)).get(60) == bytes(300_000)
        except goproc.TimeoutError:
            raise
        except Exception as error:
            print("a large result:", type(error).__name__, error)
        assert pool.apply_async(succeed, (2,)).get(60) == 3


SCENARIOS = (between_two, after_a_process, one_by_one, while_joining, pool_in_use, orphans, in_child, in_worker)

if __name__ == "__main__":
    scenario, method = sys.argv[1:]
    {function.__name__: function for function in SCENARIOS}[scenario](goproc.get_context(method))
    assert threading.active_count() < 10
    print("done")
