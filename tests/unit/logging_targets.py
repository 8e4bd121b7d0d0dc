"""What the child processes of test_logging.py run."""

import logging
import logging.config
import os
import signal
import threading
import warnings

import goproc
import goproc.logging

log = logging.getLogger("relayed.targets")


class Pair:
    """An object that can be sent."""

    def __init__(self, *values):
        self.values = values

    def __eq__(self, other):
        return self.values == other.values


class NotHere:
    """An object that can be sent, but not received by the main program."""

    def __reduce__(self):
        return refuse, (os.getpid(),)


def refuse(pid):
    if os.getpid() != pid:
        raise LookupError("not in this process")
    return NotHere()


def say(text, level=logging.INFO, **options):
    """Log a text; return this process's id."""
    log.log(level, text, **options)
    return os.getpid()


def say_number(number):
    return say(f"number {number}")


def say_many(producer, count):
    for number in range(count):
        log.info("%d %d", producer, number)


def say_and_leave(text):
    say(text)
    os._exit(3)


def say_and_die(text):
    say(text)
    os.kill(os.getpid(), signal.SIGKILL)


def warn():
    warnings.warn("take care", UserWarning, stacklevel=1)


def fail():
    raise ValueError("wrong")


def fail_in_thread():
    thread = threading.Thread(target=fail, name="failing")
    thread.start()
    thread.join()


def log_error():
    try:
        fail()
    except ValueError:
        log.exception("caught")


def log_stack():
    log.info("here", stack_info=True)


def log_extra():
    log.info("more", extra={"pair": Pair(1, 2), "lock": threading.Lock(), "stranger": NotHere(), "user": "anna"})


def log_arguments():
    log.info("a lock: %s, %d", threading.Lock(), 7)
    log.info(Pair(1))


def log_malformed():
    log.info("%d", "no number")
    log.info("after")


def log_large(size):
    log.info("x" * size)


def log_from_thread():
    thread = threading.Thread(target=say, args=("from a thread",))
    thread.start()
    thread.join()


def log_each_level():
    for level in (5, 10, 20, 25, 30):
        log.log(level, "level %d", level)
    logging.getLogger("relayed.loud").debug("loud")
    logging.getLogger("relayed.silent").critical("silent")


def configure(path):
    """An initializer that sets up logging by force."""
    handlers = {"file": {"class": "logging.FileHandler", "filename": path}}
    root = {"handlers": ["file"]}
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "handlers": handlers, "root": root})


def configure_softly():
    logging.basicConfig(format="twice: %(message)s")


def start_another(method):
    """Start a child that logs, by that start method."""
    context = goproc.get_context(method)
    process = context.Process(target=say, args=(f"by {method}",), name=f"grandchild by {method}")
    process.start()
    process.join()
    return process.pid


def relay_here():
    """Call relay() in a child: it changes nothing."""
    relay = goproc.logging.relay()
    pid = start_another("fork")
    relay.stop()
    assert not any(thread.name == "goproc-log-relay" for thread in threading.enumerate())
    say("still")
    return pid


def fork_here():
    pid = os.fork()
    if not pid:
        say("from os.fork()")
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def say_at_exit(text):
    """Log when multiprocessing's exit functions run."""
    from multiprocessing.util import Finalize

    Finalize(None, say, args=(text,), exitpriority=1)
    return os.getpid()


def handlers_of(name):
    return [type(handler).__name__ for handler in logging.getLogger(name).handlers]


def say_when_told(ready, told):
    ready.set()
    told.wait()
    say("late", logging.WARNING)


def log_sized(count, size):
    for number in range(count):
        log.info("%d %s", number, "x" * size)
