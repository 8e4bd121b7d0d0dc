"""Fixtures of the unit tests: the start methods, and scripts run as programs of their own."""

import os
import subprocess
import sys
import weakref

import pytest
from helpers import SCRIPTS

import goproc

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(params=METHODS)
def method(request):
    """Each start method in turn."""
    return request.param


@pytest.fixture
def context(method):
    """The context of each start method in turn."""
    return goproc.get_context(method)


@pytest.fixture
def executor(context):
    """An executor of each start method; a proxy of it, for pytest keeps what a fixture gives, with its descriptors."""
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
        done = subprocess.run(
            command,
            env={**environment, **variables},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            input=input,
        )
        if status is not None:
            assert done.returncode == status, done.stderr
        return done

    return run
