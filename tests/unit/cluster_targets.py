"""Functions that the tests of goproc.cluster run on machines."""

import hashlib
import os
import signal
import time

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
