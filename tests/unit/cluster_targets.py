"""Functions that the tests of goproc.cluster run on machines."""

import hashlib
import os
import signal
import time
from collections import Counter
from pathlib import Path

state = None


def double(x):
    return 2 * x


def pid(_=None):
    return os.getpid()


def fail(x):
    raise KeyError(x)


def set_state(value):
    global state
    state = value


def get_state(_=None):
    return state


def kill_myself(_=None):
    os.kill(os.getpid(), signal.SIGKILL)


def note(path, x, seconds=0.0):
    """Append x to a file, as one write; sleep; return x."""
    with open(path, "ab", buffering=0) as file:
        file.write(b"%d\n" % x)
    time.sleep(seconds)
    return x


def note_and_wait(path, x):
    """Append x to a file, as one write, and sleep until killed."""
    note(path, x)
    time.sleep(600)


def count(n):
    yield from range(n)


def length(data):
    return len(data)


def slow_double(x):
    time.sleep(0.02)
    return 2 * x


def note_pid_and_wait(path):
    note_and_wait(path, os.getpid())


def note_and_kill(path):
    note(path, 1)
    kill_myself()


def digest_and_place(data, place=None):
    return hashlib.sha256(data).hexdigest(), place


def pickled_by(form, obj):
    from goproc._pool.codec import encode, sent_by_me

    stream, buffers = encode(obj, form)
    sent_by_me()
    return [*([stream] if type(stream) is bytes else stream), *(buffers or ())]


def write_first(array):
    array.flat[:1] = 77
    return array


def mean(array, seconds=0.0):
    time.sleep(seconds)
    return float(array.mean())


def note_mean(path, pid, array):
    """Append the mean to a file; the first task sends SIGUSR1 to the process pid."""
    note(path, int(array.mean()), 0.01)
    if not array[0]:
        os.kill(pid, signal.SIGUSR1)


def slow_pid(_=None):
    time.sleep(0.005)
    return os.getpid()


def pids(pool):
    """Return the pids of all workers that take part in a map."""
    return set(pool.map(slow_pid, range(40), chunksize=1))


def noted(path):
    """Return how often each number has been noted in a file by note()."""
    return Counter(map(int, path.read_text().split())) if path.exists() else Counter()


def parent(pid):
    """Return the process id of a process's parent."""
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def note_and_let_others(ran, pids, first, number):
    """Append number to one file, and this process to another; in the process `first`, from the 60th item on, wait until
    other processes have appended a hundred."""
    note(pids, os.getpid())
    if os.getpid() == first and number >= 60:
        deadline = time.monotonic() + 60
        while noted_by_others(pids, first) < 100:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    return note(ran, number)


def note_and_let_others_too(arguments):
    return note_and_let_others(*arguments)


def noted_by_others(path, first):
    return sum(count for pid, count in noted(Path(path)).items() if pid != first)
