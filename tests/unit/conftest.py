"""Fixtures of the unit tests: the start methods, and scripts run as programs of their own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import goproc

SCRIPTS = Path(__file__).parents[1] / "scripts"
METHODS = ["fork", "spawn", "forkserver"]

# From Python 3.12 on forking warns about threads: goproc about Python's own, os.fork() about the engine's, too.
THREADS_ARE_MEANT = pytest.mark.filterwarnings("ignore:.*is multi-threaded:DeprecationWarning")


def wait_until(condition, seconds=30):
    """Wait until the function returns something true; fail when the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


@pytest.fixture(params=METHODS)
def method(request):
    """Each start method in turn."""
    return request.param


@pytest.fixture
def context(method):
    """The context of each start method in turn."""
    return goproc.get_context(method)


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
