"""The engine's loader, its errors, and how processes go on when the engine or the program dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import wait_until

import goproc
from goproc import _native
from goproc._common import calls, engine
from goproc.errors import EngineError

SCRIPTS = Path(__file__).parents[1] / "scripts"


def is_running(pid):
    """Whether the process runs: it exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    "text, exception",
    [
        ("goproc:OS:11:fork: resource temporarily unavailable", BlockingIOError),
        ("goproc:OS:2:no such file", FileNotFoundError),
        ("goproc:INVALID:0:descriptor -1", ValueError),
        ("goproc:GONE:0:the server ended", ProcessLookupError),
        ("goproc:POISONED:0:poisoned: by what", EngineError),
        ("goproc:CLOSED:0:closed", EngineError),
        ("something else", RuntimeError),
    ],
)
def test_errors(text, exception):
    error = engine._translated(RuntimeError(text))
    assert type(error) is exception
    assert text.rpartition(":")[2] in str(error)


def test_texts_are_bytes():
    assert calls._texts([b'\xff"\n', "é", Path("a")]) == '["\\u00ff\\"\\n","\\u00c3\\u00a9","a"]'
    assert calls._numbers([1, 2]) == "[1,2]"


def test_refused_arguments():
    with pytest.raises(ValueError):
        engine.call("Spawn", "not JSON", "[]", "[]")
    with pytest.raises((ValueError, ProcessLookupError)):
        engine.call("Pid", 1 << 40)


def test_missing_extension(monkeypatch):
    monkeypatch.setattr(engine, "extension_path", lambda name: None)
    with pytest.raises(ImportError, match="there is no _engine.*. Install goproc with this interpreter: `.*`"):
        engine._find_extension()


def test_loading_keeps_the_limit_of_open_files(run_script):
    code = """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
from goproc._common import calls, engine
engine.load()
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (200, hard)
"""
    run_script("-c", code)


def test_loaded_by_many_threads(run_script):
    code = """
import threading
from goproc._common import calls, engine
modules = []
threads = [threading.Thread(target=lambda: modules.append(engine.load())) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(modules) == 8 and len(set(map(id, modules))) == 1
"""
    run_script("-c", code)


def test_forked_generations(run_script):
    """Each generation of os.fork() loads its own engine, also from a process that has loaded a copy itself."""
    code = """
import os, sys
from goproc import _native
from goproc._common import calls, engine
from multiprocessing import util
import goproc
for generation in range(6):
    assert _native.engine_state() == (2 if generation else 0)
    assert not engine.is_loaded()
    process = goproc.get_context("fork").Process(target=sys.exit, args=(generation,))
    process.start()
    process.join()
    assert process.exitcode == generation
    engine.load()
    assert _native.engine_state() == 1
    assert calls.stats()["started"]["fork"] == 1
    pid = os.fork()
    if pid:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        util._exit_function()
        os._exit(status)
"""
    run_script("-c", code)


def test_stats_outlive_the_engine(run_script):
    code = """
import goproc
from goproc._common import calls, engine
process = goproc.get_context("fork").Process()
process.start()
process.join()
engine.load()
engine.close()
assert calls.stats()["started"]["fork"] == 1
try:
    process = goproc.get_context("fork").Process()
    process.start()
except goproc.ProcessError as error:
    print(type(error).__name__)
"""
    assert run_script("-c", code).stdout == "EngineError\n"


def test_the_poisoned_engine(run_script, method):
    done = run_script("poisoned.py", method)
    first, second, alive, exitcode, daemon = done.stdout.splitlines()
    assert first == second
    assert "poisoned" in first and "DebugPanic" in first
    assert alive == "True None"
    # How it ended is known if the engine has not reaped it, which a poisoned one may or may not still do.
    assert exitcode in ("255", "-15")
    wait_until(lambda: not is_running(daemon))
    assert done.stderr.count("goroutine") >= 1  # the panic's stack, printed once
    assert done.stderr.count("goproc: panic in") == 1


def test_interrupt_in_join(method):
    command = [sys.executable, "interrupted.py", method]
    with subprocess.Popen(command, cwd=SCRIPTS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "started\n"
        time.sleep(0.2)  # until it waits in join(): there is no event to wait for
        before = time.monotonic()
        program.send_signal(signal.SIGINT)
        output, error = program.communicate(timeout=30)
    assert time.monotonic() - before < 5
    assert output == "interrupted True\n-15\n"
    assert error == ""


class TestTransport:
    """The functions of _native that tests with processes do not cover."""

    def test_wait_readable(self):
        reader, writer = os.pipe()
        try:
            assert not _native.wait_readable(reader, 0)
            assert not _native.wait_readable(reader, -5)
            before = time.monotonic()
            assert not _native.wait_readable(reader, 0.02)
            assert time.monotonic() - before >= 0.02
            os.write(writer, b"x")
            assert _native.wait_readable(reader, None)
            assert _native.wait_readable(reader, 1e300)
            with pytest.raises(TypeError):
                _native.wait_readable(reader, "soon")
            with pytest.raises(ValueError):
                _native.wait_readable(reader, float("nan"))
        finally:
            os.close(reader)
            os.close(writer)
        with pytest.raises(OSError, match="Bad file descriptor"):
            _native.wait_readable(reader, 0)

    def test_signal_handlers_run_while_it_waits(self):
        reader, writer = os.pipe()
        seen = []
        old = signal.signal(signal.SIGALRM, lambda *_: seen.append("the signal"))
        try:
            before = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            assert not _native.wait_readable(reader, 0.1)
            assert time.monotonic() - before >= 0.1 and seen == ["the signal"]
            signal.signal(signal.SIGALRM, lambda *_: os.write(writer, b"x"))
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            assert _native.wait_readable(reader, 60)
        finally:
            signal.signal(signal.SIGALRM, old)
            os.close(reader)
            os.close(writer)

    def test_lifeline_has_its_own_description(self):
        reader, writer = os.pipe()
        inherited = os.dup(reader)
        own = _native.open_lifeline(inherited, 0)
        try:
            assert own != inherited
            with pytest.raises(OSError):
                os.fstat(inherited)
            assert not os.get_blocking(own) and os.get_blocking(reader)
            assert not os.get_inheritable(own)
            assert not _native.wait_readable(own, 0)
            os.close(writer)
            assert _native.wait_readable(own, 0)
        finally:
            os.close(own)
            os.close(reader)
        with pytest.raises(OSError):
            _native.open_lifeline(reader, 0)

    def test_lifeline_of_a_parent_that_is_gone(self):
        process = goproc.get_context("fork").Process(target=hold_a_dead_lifeline)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL

    def test_attach_refuses_what_is_no_engine(self):
        with pytest.raises(ImportError, match="is not loaded"):
            _native.attach("/nowhere/_engine.so")
        with pytest.raises(ImportError, match="is not a goproc engine"):
            _native.attach(_native.__file__)


def hold_a_dead_lifeline():
    reader, writer = os.pipe()
    os.close(writer)
    _native.open_lifeline(reader, signal.SIGKILL)
    time.sleep(60)
