"""The functions that the tests' executors run. In a module of its own, which spawned workers import by its name."""

import os
import pickle
import signal
import sys
import threading
import time

import goproc.futures

state = None


def initialize(value):
    global state
    state = value


def read_state():
    return state


def refuse_to_begin():
    raise ValueError("no service")


def arguments(*args, **kwds):
    return args, kwds


def double(value):
    return 2 * value


def add(a, b):
    return a + b


def fail(text):
    raise ValueError(text)


def pid(*_):
    return os.getpid()


def kill_self(*_):
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def kill_self_if(value):
    if value:
        kill_self()
    return value


def leave(status):
    os._exit(status)


def signal_and_wait(started, release, value=None):
    """Say that this call runs, and go on when told to. started, release: the names of two files."""
    open(started, "w").close()
    while not os.path.exists(release):
        time.sleep(0.001)
    return value


def sleep_and_note(path, seconds):
    """Say with a file that this call runs; remove the file when it is over."""
    open(path, "w").close()
    time.sleep(seconds)
    os.unlink(path)


def lose_worker_once(path):
    """Lose the worker, unless it has been lost before. path: of a file that says so."""
    if not os.path.exists(path):
        open(path, "w").close()
        kill_self()
    return "done"


def unpicklable():
    return threading.Lock()


def name_and_daemon():
    process = goproc.current_process()
    return process.name, process.daemon


def nested(count):
    with goproc.futures.ProcessPoolExecutor(2) as executor:
        return sum(executor.map(double, range(count)))


def wait_for_interrupt(started):
    open(started, "w").close()
    for _ in range(6000):  # a signal that comes just before time.sleep() does not end the sleep
        time.sleep(0.01)


class PoisonedCall:
    """Pickles, but does not unpickle."""

    def __reduce__(self):
        return fail, ("cannot be rebuilt",)


class ErrorAtPickle:
    def __reduce__(self):
        raise pickle.PicklingError("refused")


def make_error_at_pickle():
    return ErrorAtPickle()


def make_poisoned():
    return PoisonedCall()


def make_exit_at_pickle():
    return ExitAtPickle()


class ExitAtPickle:
    def __reduce__(self):
        sys.exit(3)


class Thing:
    pass


def thing(_):
    return Thing()


def crash():
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


def raise_it(error):
    raise error


def identity(value):
    return value


def signal_and_die(started, release):
    signal_and_wait(started, release)
    kill_self()


def slow_pid():
    time.sleep(0.1)
    return os.getpid()
