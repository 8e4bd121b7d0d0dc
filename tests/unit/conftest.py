"""Fixtures of the unit tests: start methods, clusters, log records, and scripts run as programs of their own."""

import importlib
import logging
import os
import subprocess
import sys
import weakref

import pytest
from helpers import QUEUES, SCRIPTS, notes_of_main_thread

import goproc

METHODS = ["fork", "spawn", "forkserver"]


class Collecting(logging.Handler):
    """Keeps the records that it is given."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)

    @property
    def texts(self):
        return [record.getMessage() for record in self.records]


@pytest.fixture(autouse=True)
def no_note_is_left():
    """No test ends with a note for dump that the main thread waits."""
    yield
    assert not [vars(note) for note in notes_of_main_thread()]


@pytest.fixture(params=METHODS)
def method(request):
    """Each start method in turn."""
    return request.param


@pytest.fixture
def context(method):
    """The context of each start method in turn."""
    return goproc.get_context(method)


@pytest.fixture(params=QUEUES)
def make_queue(request, context):
    """Makes each kind of queue, in the context of each start method."""
    return getattr(context, request.param)


@pytest.fixture
def executor(context):
    """An executor of each start method, as a proxy: pytest keeps what a fixture yields, with its descriptors."""
    with goproc.futures.ProcessPoolExecutor(2, context) as executor:
        yield weakref.proxy(executor)


@pytest.fixture(scope="module")
def client():
    """A Dask client of a cluster with two machines of two cores, for all tests of a module: it takes a second."""
    address = pytest.importorskip("goproc._cluster.address", reason="goproc.cluster needs distributed")
    connection = address.connect("local:2x2")
    yield connection.client
    connection.close()


@pytest.fixture
def pool(client):
    """A pool of goproc.cluster on the machines of `client`."""
    with importlib.import_module("goproc.cluster").Pool(client) as pool:
        yield pool
    pool.join()


@pytest.fixture
def machines():
    """A cluster of a test's own, whose processes it may kill: a function that starts it, and returns its Connection."""
    connections = []

    def start(address):
        connections.append(importlib.import_module("goproc._cluster.address").connect(address))
        return connections[-1]

    yield start
    for connection in connections:
        connection.close()


@pytest.fixture
def handler():
    """A handler of the logger that the children use, whose level is INFO. Records stop there."""
    logger, tracebacks, caught = map(logging.getLogger, ("relayed", "goproc.tracebacks", "py.warnings"))
    before = [(one, one.level, one.propagate) for one in (logger, tracebacks, caught)]
    collecting = Collecting()
    for one in (logger, tracebacks, caught):
        one.propagate = False
        one.addHandler(collecting)
    logger.setLevel(logging.INFO)
    yield collecting
    for one, level, propagate in before:
        one.removeHandler(collecting)
        one.setLevel(level)
        one.propagate = propagate


@pytest.fixture
def relay(handler):
    """goproc.logging.relay(), for the time of a test."""
    with importlib.import_module("goproc.logging").relay() as relay:
        yield relay


def where_it_waits(program):
    """Say what a program that does not end is doing, and which processes have its output open."""
    text = "it has ended"
    if program.poll() is None:
        command = [sys.executable, "-m", "goproc", "dump", str(program.pid)]
        text = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    pipe, holders = os.readlink(f"/proc/self/fd/{program.stdout.fileno()}"), []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(process) != os.getpid() and os.readlink(f"/proc/{process}/fd/1") == pipe:
                with open(f"/proc/{process}/cmdline") as arguments:
                    holders.append(f"{process}: {arguments.read()}".replace("\0", " "))
        except OSError:
            pass  # it has ended, or is somebody else's
    return "\n".join([text, "its output is open in", *holders])


@pytest.fixture
def run_script():
    """Run a script of tests/scripts, or code given with "-c", as its own program; return the completed process.

    Its environment is this process's without goproc's variables, and with the given ones.
    """

    def run(*arguments, options=(), timeout=60, status=0, cwd=SCRIPTS, input=None, **variables):
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("GOPROC_STATS", "GOPROC_LOG", "GOPROC_START_METHOD")
        }
        command = [sys.executable, *options, *map(str, arguments)]
        streams = {"stdin": None if input is None else subprocess.PIPE}
        streams |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, env={**environment, **variables}, cwd=cwd, text=True, **streams) as program:
            try:
                stdout, stderr = program.communicate(input, timeout)
            except subprocess.TimeoutExpired:
                what = where_it_waits(program)
                program.kill()
                pytest.fail(f"it has not ended after {timeout} s: {command}\n{what}")
            except BaseException:
                program.kill()
                raise
        if status is not None:
            assert program.returncode == status, stderr
        return subprocess.CompletedProcess(command, program.returncode, stdout, stderr)

    return run
