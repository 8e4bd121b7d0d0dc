"""Checks after each test that it has left no child process, no Python thread and no file descriptor behind."""

import gc
import os
import signal
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest

# Seconds to wait until nothing is left. A child that is being reaped, or a thread that has finished, is gone within
# milliseconds; only a leak takes longer.
PATIENCE = 5

# How the names of threads begin that Dask keeps for the life of a process.
DASKS = "Dask-Offload", "asyncio_", "Profile"

#: The files whose tests use Dask in this process. They come last: some of its threads stay as long as the process, and
#: from Python 3.15 on `-W error` makes an error of the warning that a fork gives about them.
WITH_DASK = "test_cluster", "test_local_machines", "test_program_on_cluster"

# The tests interrupt programs, which inherit SIGINT's disposition from here. A shell may have had it ignored:
# `make test &`.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    text = "of the tests that differ only in their parameters, run one: which one differs from test to test"
    parser.addoption("--one-variant", action="store_true", help=text)
    text = "of the chosen tests, run about every N-th, from the I-th on; the last share has those of packaging"
    parser.addoption("--share", metavar="I/N", help=text)


@pytest.hookimpl(trylast=True)  # after -m and -k have chosen
def pytest_collection_modifyitems(config, items):
    without = set(of_disabled_parts(items))
    if config.getoption("--one-variant"):
        without |= other_variants([item for item in items if item not in without])
    config.hook.pytest_deselected(items=list(without))
    items[:] = sorted(
        (item for item in items if item not in without), key=lambda item: item.path.name.startswith(WITH_DASK)
    )
    if share := config.getoption("--share"):
        number, count = map(int, share.split("/"))
        # The tests of packaging build the same things in the same folders.
        alone = [item for item in items if "packaging" in item.path.parts]
        others = [item for item in items if "packaging" not in item.path.parts]
        # They take about as long as a ninth of the others, which the first share runs alone.
        more = len(others) // 9 if alone else 0
        items[:] = [*(others[:more] if number == 1 else []), *(alone if number == count else [])]
        items += others[more:][number - 1 :: count]


def of_disabled_parts(items):
    """Return the tests of the parts that GOPROC_DISABLE switches off: the tests that are marked with their names."""
    disabled = set(os.environ.get("GOPROC_DISABLE", "").split(","))
    return {item for item in items if any(disabled & {"all", *mark.args} for mark in item.iter_markers("part"))}


def other_variants(items):
    """Return all but one of the tests that differ only in their parameters. Each version of Python runs another one."""
    alike: dict = {}
    for item in items:
        alike.setdefault(item.nodeid.partition("[")[0], []).append(item)
    others = set()
    for name, tests in alike.items():
        del tests[(zlib.crc32(name.encode()) + sys.version_info[1]) % len(tests)]
        others.update(tests)
    return others


def pytest_collection_finish():
    """Freeze the objects that pytest's collection has made: a garbage collection of them takes some 100 ms.

    Tests collect garbage often. A forked child then copies no pages for these objects, either.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _engine():
    """Make what lives until the end before the first check: engine, lifeline, resource tracker, memory for locks."""
    from multiprocessing import resource_tracker

    import goproc
    from goproc._common import engine

    engine.load()
    resource_tracker.ensure_running()
    goproc.get_context("spawn").Lock()  # the memory for locks
    goproc.RawValue("i")  # and for shared ctypes
    process = goproc.get_context("fork").Process()
    process.start()
    process.join()
    process.close()


@pytest.fixture(autouse=True)
def nothing_left_behind(request):
    if "packaging" in request.path.parts:  # these tests run without an installed goproc, and start no process of it
        yield
        return
    request.getfixturevalue("_engine")
    before = _present()
    yield
    deadline = time.monotonic() + PATIENCE
    while True:
        left = [text for what, text in _present().items() if what not in before]
        if not left:
            return
        _stop_servers()
        gc.collect()
        if time.monotonic() > deadline:
            pytest.fail("left behind: " + ", ".join(sorted(left)))
        time.sleep(0.01)


def _present():
    """Return the threads, children and descriptors of this process, each with a text that describes it.

    The text of a child has its command, which changes: while the child executes a program, the kernel shows none.
    """
    names = [f"thread {thread.name}" for thread in threading.enumerate() if not thread.name.startswith(DASKS)]
    present = {name: name for name in names}
    for task in os.listdir("/proc/self/task"):
        try:
            children = Path(f"/proc/self/task/{task}/children").read_text().split()
        except FileNotFoundError:
            continue  # the thread has ended meanwhile
        present.update({f"child {child}": f"child {child} ({_command(child)})" for child in children})
    has_client = any(thread.name == "IO loop" for thread in threading.enumerate())  # Dask's, of tests/unit/conftest.py
    for number in os.listdir("/proc/self/fd"):
        try:
            where = os.readlink("/proc/self/fd/" + number)
            if not (has_client and where.startswith("socket:")):  # it makes and drops connections as it likes
                text = f"descriptor {number} ({where})"
                present[text] = text
        except FileNotFoundError:
            pass  # the descriptor of this listing
    return present


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except (FileNotFoundError, ProcessLookupError):
        return "ended"


def _stop_servers():
    if (forkserver := sys.modules.get("goproc.forkserver")) is not None:
        forkserver._forkserver._stop()
    if (spawning := sys.modules.get("goproc.popen_spawn_posix")) is not None:
        spawning.stop_server()
