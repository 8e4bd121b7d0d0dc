"""The functions that the tests' processes run. In a module of its own, because spawned children import it by name."""

import faulthandler
import gc
import os
import signal
import sys
import time
from multiprocessing.context import get_spawning_popen

import goproc


def nothing():
    pass


def exit_with(status):
    sys.exit(status)


def leave_with(status):
    os._exit(status)


def raise_value_error(text):
    raise ValueError(text)


def end_by(signum):
    faulthandler.disable()  # pytest's: what it prints says nothing here
    os.kill(os.getpid(), signum)
    time.sleep(60)


def ignore_sigterm(connection):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection.send("ready")
    time.sleep(60)


def wait_for(event):
    event.wait(60)


collecting_when_imported = gc.isenabled()


def send_collecting(connection):
    connection.send((collecting_when_imported, gc.isenabled()))


def sleep():
    time.sleep(60)


def describe_self(connection, multiprocessing_name="goproc"):
    multiprocessing = __import__(multiprocessing_name)
    me, parent = multiprocessing.current_process(), multiprocessing.parent_process()
    connection.send(
        {
            "pid": os.getpid(),
            "parent": (parent.pid, parent.name, parent.is_alive()),
            "name": me.name,
            "daemon": me.daemon,
            "ident": me.ident,
            "alive": me.is_alive(),
            "start_method": multiprocessing.get_start_method(),
            "authkey": bytes(me.authkey),
            "argv": sys.argv,
            "cwd": os.getcwd(),
            "stdin": sys.stdin.read(),
        }
    )


def send(connection, value):
    connection.send(value)
    connection.close()


def double(value):
    return 2 * value


def send_descriptors(connection):
    """Send what this process has open: {number: what it is}, besides the connection and the listing itself."""
    present = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            present[int(number)] = os.readlink("/proc/self/fd/" + number)
        except FileNotFoundError:
            pass
    present.pop(connection.fileno())
    connection.send(present)


def send_mappings(connection):
    with open("/proc/self/maps") as maps:
        connection.send(maps.read().splitlines())


def send_environment(connection, name):
    connection.send(os.environb.get(name))


def send_limits(connection):
    import resource

    connection.send(resource.getrlimit(resource.RLIMIT_NOFILE))


def start_nested(connection, methods):
    """Start a child by the first method, which does the same with the rest; the last one answers."""
    import goproc

    if not methods:
        connection.send(goproc.get_start_method())
        return
    child = goproc.get_context(methods[0]).Process(target=start_nested, args=(connection, methods[1:]))
    child.start()
    child.join(30)
    sys.exit(child.exitcode)


def start_child_of_daemon(connection):
    import goproc

    try:
        goproc.Process(target=nothing).start()
    except AssertionError as error:
        connection.send(str(error))


def ask_about(process, connection):
    """In a forked child: look at the parent's process object."""
    answers = [process._popen.poll(), repr(process)]
    for method in (process.join, process.is_alive, process.start):
        try:
            method()
        except AssertionError as error:
            answers.append(str(error))
    connection.send(answers)


def send_surroundings(connection):
    current = goproc.current_process()
    child = goproc.Process()  # not started: only numbered
    connection.send(
        (os.getcwd(), sys.argv, current.name, current._identity, goproc.active_children(), child._identity[-1])
    )


def send_whether_collecting(connection):
    connection.send(gc.isenabled())


class Inherited:
    """A descriptor that the child inherits under the number that it has there."""

    def __init__(self, fd):
        self.fd = fd

    def __reduce__(self):
        return Inherited, (get_spawning_popen().duplicate_for_child(self.fd),)


def write_to(inherited, text):
    os.write(inherited.fd, text)
