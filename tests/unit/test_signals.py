"""Signals have the effect that the program has set, although the Go runtime installs handlers when it is loaded."""

import signal

import pytest


@pytest.mark.parametrize("where", ["main", "child"])
def test_every_signal(method, where, run_script):
    """Handlers, SIG_IGN, sigwait(), the wakeup descriptor, timers; set before the engine is loaded, and after it."""
    done = run_script("every_signal.py", method, where)
    assert (done.stdout, done.stderr) == ("end\n", "")


#: How a program ends, by what it does about the signal. None: that it is ended by the signal.
FATAL = [
    ("SIGSEGV", "nothing", "fault", None),
    ("SIGSEGV", "nothing", "sent", None),
    ("SIGSEGV", "handler", "sent", "handled\nalive\n"),
    ("SIGSEGV", "ignore", "sent", "alive\n"),
    ("SIGSEGV", "ignore", "fault", None),
    ("SIGSEGV", "faulthandler", "fault", None),
    ("SIGSEGV", "faulthandler", "sent", None),
    ("SIGBUS", "nothing", "sent", None),
    ("SIGBUS", "handler", "sent", "handled\nalive\n"),
    ("SIGFPE", "nothing", "sent", None),
    ("SIGFPE", "handler", "sent", "handled\nalive\n"),
    ("SIGURG", "nothing", "sent", "alive\n"),
    ("SIGURG", "handler", "sent", "handled\nalive\n"),
    ("SIGPIPE", "nothing", "write", "broken pipe\nalive\n"),
    ("SIGPIPE", "default", "write", None),
    ("SIGPIPE", "default", "sent", None),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name, what, how, output", FATAL)
def test_a_signal_that_ends_programs(name, what, how, output, when, run_script):
    """The main program ends by it, or does not, as it would without an engine; and so does a forked child."""
    for where in [], ["child"]:
        done = run_script("fault.py", "fork", name, what, when, how, *where, status=None)
        ended = -signal.Signals[name] if not where else 256 - signal.Signals[name]
        assert (done.stdout, done.returncode) == (output or "", 0 if output else ended)
        assert ("Fatal Python error" in done.stderr) == (what == "faulthandler")
        assert "goroutine" not in done.stderr and "Traceback" not in done.stderr


def test_ignored_signals_are_inherited(run_script, method):
    for name in ("SIGURG", "SIGUSR1"):
        done = run_script("fault.py", method, name, "ignore", "before", "sent", "child")
        assert done.stdout == "alive\n"


def test_a_fault_in_go_is_an_exception(run_script):
    """The engine is poisoned by it, and the program goes on."""
    code = """
import ctypes, faulthandler, sys
if sys.argv[1] == "faulthandler": faulthandler.enable()
import goproc
from goproc._common import engine
library = ctypes.PyDLL(engine.load().__file__)
number = engine.call("PoolNew", 0)
long, unsigned = ctypes.c_uint64, ctypes.c_uint32
library.goproc_pool_submit.argtypes = [long, long, long, unsigned, unsigned, ctypes.c_void_p, long]
# First some that are right, which let Go's stack grow: to move it with a wrong pointer in it would end the program.
for index in range(8):
    assert library.goproc_pool_submit(number, 0, index, 1, 0, ctypes.create_string_buffer(64), 64) == 0
print(library.goproc_pool_submit(number, 0, 8, 1, 0, 8, 64))
try:
    engine.call("PoolClose", number)
except goproc.EngineError as error:
    print("poisoned" in str(error))
"""
    for option in "none", "faulthandler":
        done = run_script("-c", code, option)
        assert done.stdout == "-100000\nTrue\n" and "Fatal" not in done.stderr
