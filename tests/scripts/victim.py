"""A program for others to kill: victim.py METHOD SCENARIO FOLDER

It starts the processes of the scenario. Then it prints two lines, the pids of the processes that must end with it, and
the pids of those that must go on; and waits. Each started process makes a file in FOLDER when it is running.
"""

import fcntl
import os
import stat
import sys
import threading
import time
from collections import deque
from itertools import repeat
from pathlib import Path

import goproc


def loop(started):
    """Never return from C, where no signal handler of Python's runs, nor let another thread run."""
    Path(started).touch()
    deque(repeat(None), maxlen=0)


def sleep(started):
    Path(started).touch()
    time.sleep(120)


def daemons():
    return [start(target, daemon=True) for target in (loop, sleep)], []


def from_a_thread_that_has_ended():
    processes = []
    thread = threading.Thread(target=lambda: processes.append(start(loop, daemon=True)))
    thread.start()
    thread.join()
    return processes, []


def idle_pool():
    pool = keep(context.Pool(2))
    pool.map(abs, range(10))
    return pool._pool, []


def busy_pool():
    pool = keep(context.Pool(2))
    for _ in range(2):
        pool.apply_async(loop, (new_file(),))
    return pool._pool, []


def pool_in_a_child():
    """The child, which is no daemon, lives on, and so does its pool: its main program is the child."""
    receiver, sender = keep(goproc.Pipe(duplex=False))
    child = start(own_a_pool, new_file(), sender)
    return [], [child.pid, receiver.recv()]


def own_a_pool(started, in_pool, sender):
    with goproc.Pool(1) as pool:
        sender.send(pool.apply(os.getpid))
        pool.apply_async(loop, (in_pool,))
        sleep(started)


def not_a_daemon():
    return [start(loop, daemon=True)], [start(sleep)]


def beside_a_fork_of_the_users():
    """A child of os.fork() lives on, and keeps nothing open by which others would know that the program lives."""
    end = [start(loop, daemon=True)]
    file = new_file()
    pid = os.fork()
    if pid == 0:
        sleep(file)
    return end, [pid]


def beside_one_started_after_the_reading_end_was_closed():
    """The program closes the end of its lifeline that children get. Those of before still notice its death."""
    end = [start(loop, daemon=True)]
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            is_lifeline = number > 1000 and stat.S_ISFIFO(os.fstat(number).st_mode)
        except OSError:  # the listing's own
            continue
        if is_lifeline and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            os.close(number)
    return end, [start(sleep)]


def managers():
    """Servers of managers, of which one has memory with a name."""
    from goproc.managers import SharedMemoryManager

    manager = keep(context.Manager())
    keep(manager.dict(), manager.Pool(1))
    memory = keep(SharedMemoryManager(ctx=context))
    memory.start()
    keep(memory.SharedMemory(100))
    return [manager._process, memory._process], []


def busy_manager():
    """A manager's server that lets no other thread run."""
    from goproc.managers import BaseManager

    class Manager(BaseManager):
        pass

    Manager.register("loop", loop)
    manager = keep(Manager(ctx=context))
    manager.start(sys.setswitchinterval, (100,))
    threading.Thread(target=manager.loop, args=(new_file(),), daemon=True).start()
    return [manager._process], []


def server_of_the_users():
    """A server that a child runs by itself lives on with the child, which is no daemon."""
    return [], [start(serve)]


def serve(started):
    from goproc.managers import SyncManager

    server = SyncManager(("127.0.0.1", 0)).get_server()
    Path(started).touch()
    server.serve_forever()


def all_at_once():
    """All kinds of children, and objects of the standard library that have names, if only while they are made."""
    keep(context.Manager().dict())
    keep(context.Lock(), context.Queue(), context.Event(), context.Array("i", 10))
    return daemons()[0] + idle_pool()[0] + busy_pool()[0], []


kept = []
files = []


def keep(*things):
    kept.extend(things)
    return things[0]


def new_file():
    files.append(folder / f"started-{len(files)}")
    return files[-1]


def start(target, *args, daemon=False):
    process = context.Process(target=target, args=(new_file(), *args), daemon=daemon)
    process.start()
    return process


if __name__ == "__main__":
    context, folder = goproc.get_context(sys.argv[1]), Path(sys.argv[3])
    end, live_on = globals()[sys.argv[2]]()
    while not all(file.exists() for file in files):
        time.sleep(0.001)
    for processes in (end, live_on):
        print(*[getattr(process, "pid", process) for process in processes], flush=True)
    time.sleep(120)
