"""What the calls of test_joblib.py run in workers."""

import os
import signal
import threading
import time


def double(number):
    return 2 * number


def pid(_=None):
    return os.getpid()


def pid_after(seconds):
    time.sleep(seconds)
    return os.getpid()


def fail(number):
    raise ValueError(f"no {number}")


def die(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def kind_of(array):
    """The class of an array, whether it can be written to, its sum, its memory's order."""
    return type(array).__name__, array.flags.writeable, float(array.sum()), array.flags.f_contiguous


def write(array, number):
    array[number] = number
    return number


def back(value):
    return value


def variable(name):
    return os.environ.get(name)


def threads_of_blas():
    """How many threads the libraries of numpy have in this process."""
    import numpy
    import threadpoolctl

    numpy.ones((4, 4)) @ numpy.ones((4, 4))
    return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]


def nested(backend):
    """What Parallel in a call uses: the class of the backend, and where the calls run."""
    from joblib import Parallel, delayed, parallel

    kind = type(parallel.get_active_backend()[0]).__name__
    pids = Parallel(n_jobs=2, backend=backend)(delayed(pid)() for _ in range(2))
    return kind, os.getpid(), pids


def has_main():
    """Whether this process has imported the program's main module."""
    import sys

    return "__mp_main__" in sys.modules


def touch_and_wait(folder, number, seconds):
    (folder / str(number)).touch()
    time.sleep(seconds)
    return number


def begin(value):
    global begun
    begun = value


def begun_with():
    return begun


def is_main_thread():
    return threading.current_thread() is threading.main_thread()
