"""The contexts: the names that goproc exports, the default start method, interpreters, code that takes a context."""

import concurrent.futures
import importlib
import logging
import multiprocessing
import os
import shlex
import sys

import process_targets as targets
import pytest

import goproc


def test_exported_names():
    assert set(goproc.__all__) == {
        *multiprocessing.__all__,
        *goproc.errors.__all__,
        "install",
        "share",
        "Shared",
        "usable_cpu_count",
    }
    for name in goproc.__all__:
        getattr(goproc, name)
    assert goproc.SUBDEBUG == multiprocessing.SUBDEBUG
    assert goproc.TimeoutError is multiprocessing.TimeoutError


@pytest.mark.parametrize(
    "name",
    "connection dummy dummy.connection heap managers process reduction resource_sharer resource_tracker "
    "shared_memory sharedctypes util".split(),
)
def test_modules_that_are_the_standard_librarys(name):
    assert importlib.import_module(f"goproc.{name}") is importlib.import_module(f"multiprocessing.{name}")


@pytest.mark.parametrize(
    "name",
    "context forkserver pool popen_fork popen_forkserver popen_spawn_posix queues spawn synchronize".split(),
)
def test_modules_that_are_replaced_have_the_same_names(name):
    """Also what multiprocessing's modules import: programs have `from multiprocessing.context import TimeoutError`."""
    ours, theirs = importlib.import_module(f"goproc.{name}"), importlib.import_module(f"multiprocessing.{name}")
    assert [n for n in dir(theirs) if not hasattr(ours, n) and n != "__warningregistry__"] == []
    with pytest.raises(AttributeError, match=f"module 'goproc.{name}' has no attribute 'nonsense'"):
        ours.nonsense  # noqa: B018


def test_names_that_set_or_tell_the_start_method(run_script):
    code = """
from goproc import context, spawn
context._force_start_method("spawn")
print(context._default_context.get_start_method(), spawn.get_start_method())
spawn.set_start_method("forkserver", force=True)
import goproc, multiprocessing
print(goproc.get_start_method(), multiprocessing.get_start_method(allow_none=True))
"""
    assert run_script("-c", code).stdout == "spawn spawn\nforkserver None\n"


def test_methods():
    # From Python 3.14 on it has those that other libraries have added, too.
    assert set(goproc.get_all_start_methods()) == set(multiprocessing.get_all_start_methods())
    assert {"fork", "spawn", "forkserver"} <= set(goproc.get_all_start_methods())
    for method in "fork", "spawn", "forkserver":
        context = goproc.get_context(method)
        assert context.get_start_method() == method
        assert context is goproc.get_context(method)
        assert context is context.get_context()
        assert isinstance(context, multiprocessing.context.BaseContext)
        assert issubclass(context.Process, multiprocessing.process.BaseProcess)
        with pytest.raises(ValueError, match="cannot set start method of concrete context"):
            context.set_start_method("spawn")
    with pytest.raises(ValueError, match="cannot find context for 'thread'"):
        goproc.get_context("thread")
    with pytest.raises(ValueError, match="cannot find context for 'thread'"):
        goproc.set_start_method("thread", force=True)


OTHERS = """
import multiprocessing.context, multiprocessing.util
import goproc

class TheirProcess(multiprocessing.context.SpawnProcess):
    _start_method = "theirs"

class TheirContext(multiprocessing.context.BaseContext):
    _name = "theirs"
    Process = TheirProcess

theirs = TheirContext()
"""

REGISTER = "multiprocessing.context._concrete_contexts['theirs'] = theirs\n"


@pytest.mark.parametrize(
    "steps",
    [
        REGISTER,
        REGISTER + "goproc.install()\n",
        "goproc.install()\n" + REGISTER,
        REGISTER
        + "multiprocessing.set_start_method('theirs'); goproc.install(); assert goproc.get_context() is theirs",
    ],
    ids=["not installed", "before install", "after install", "set before install"],
)
def test_contexts_that_others_have_registered(run_script, steps):
    """As joblib does with its context "loky"."""
    checks = """
for module in (multiprocessing, goproc):
    assert module.get_context("theirs") is module.get_context("fork").get_context("theirs") is theirs
goproc.set_start_method("theirs", force=True)
assert goproc.get_context() is theirs and goproc.get_start_method() == "theirs"
"""
    done = run_script("-c", f"{OTHERS}{steps}\n{checks}")
    assert (done.stdout, done.stderr) == ("", "")


DEFAULT = """
import multiprocessing, goproc
assert goproc.get_start_method(allow_none=True) is None
assert goproc.get_start_method() == {expected}, goproc.get_start_method()
try:
    goproc.set_start_method("spawn")
except RuntimeError as error:
    assert str(error) == "context has already been set"
goproc.set_start_method("spawn", force=True)
assert goproc.get_start_method() == "spawn"
goproc.set_start_method(None, force=True)
assert goproc.get_start_method() == {expected}
"""


def test_default_method(run_script):
    run_script("-c", DEFAULT.format(expected="multiprocessing.get_start_method()"))
    run_script("-c", DEFAULT.format(expected="'forkserver'"), GOPROC_START_METHOD="forkserver")
    refused = run_script("-c", "import goproc; goproc.get_start_method()", GOPROC_START_METHOD="thread", status=1)
    text = "ValueError: GOPROC_START_METHOD='thread': it must be one of fork, spawn, forkserver\n"
    assert refused.stderr.endswith(text)


def test_importing_starts_nothing(run_script):
    code = """
import os, sys
import goproc, goproc.spawn, goproc.popen_fork, goproc.popen_spawn_posix, goproc.popen_forkserver
assert len(os.listdir("/proc/self/task")) == 1
assert "goproc._engine" not in sys.modules
from goproc import _native
assert _native.engine_state() == 0
assert b"_engine" not in open("/proc/self/maps", "rb").read()
"""
    run_script("-W", "error", "-c", code)


def test_importing_costs_little_more_than_multiprocessing(run_script):
    """Counted in modules, which does not depend on how busy the machine is."""
    count = "import {}, sys; print(*sorted(sys.modules))"
    theirs = set(run_script("-c", count.format("multiprocessing")).stdout.split())
    ours = set(run_script("-c", count.format("goproc"), GOPROC_DISABLE="").stdout.split())
    added = {name for name in ours - theirs if not name.startswith("importlib")} - {"warnings"}
    rooms = {"_common", "_common.detached", "_common.stdlib", "_common.start_methods"}
    assert added == {"goproc"} | {f"goproc.{name}" for name in {"context", "errors", "install"} | rooms}


def test_a_pool_imports_nothing_that_multiprocessings_does_not(run_script, method):
    code = """
import sys, {library}
pool = {library}.get_context("{method}").Pool(1)
pool.map(abs, [1])
pool.close()
pool.join()
print(*sorted(sys.modules))
"""
    theirs = set(run_script("-c", code.format(library="multiprocessing", method=method)).stdout.split())
    ours = set(run_script("-c", code.format(library="goproc", method=method)).stdout.split())
    added = {name for name in ours - theirs if not name.startswith("goproc")}
    assert added <= {"_json", "gc"}  # of C, and small
    assert not ours & {"tempfile", "random", "typing"}


def test_what_multiprocessing_connection_seldom_uses_is_imported_when_it_does(run_script):
    code = """
import sys
import goproc.pool
from multiprocessing import connection
assert "tempfile" not in sys.modules
with connection.Listener(family="AF_UNIX") as listener:
    assert listener.address.rpartition("/")[2].startswith(("listener-", "sock-"))
if not hasattr(connection, "tempfile"):  # as from Python 3.14.10 on
    sys.exit()
import tempfile
assert dir(connection.tempfile) == dir(tempfile)
connection.tempfile.tempdir = "/nowhere"
assert tempfile.gettempdir() == "/nowhere"
del connection.tempfile.tempdir
assert not hasattr(tempfile, "tempdir") and not hasattr(connection.tempfile, "tempdir")
"""
    assert run_script("-c", code).stderr == ""


def test_accepted_by_concurrent_futures(context):
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        assert list(executor.map(targets.double, range(20))) == [2 * number for number in range(20)]
        assert {type(process) for process in executor._processes.values()} == {context.Process}


def test_standard_librarys_objects_work_with_our_processes(context):
    with context.Manager() as manager:
        shared = manager.dict()
        assert isinstance(manager._process, context.Process)
        shared["key"] = 1
        assert shared.copy() == {"key": 1}
    with context.Lock():
        assert not context.Event().is_set()


@pytest.mark.parametrize(
    "executable",
    [sys.executable, os.fsencode(sys.executable), f"{shlex.quote(sys.executable)} -X dev", "python3 -X dev"],
)
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_set_executable(run_script, tmp_path, executable, method):
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import sys, goproc
def send(connection):
    connection.send((sys.executable, sys.flags.dev_mode))
if __name__ == "__main__":
    goproc.set_executable({executable!r})
    receiver, sender = goproc.Pipe(False)
    process = goproc.get_context({method!r}).Process(target=send, args=(sender,))
    process.start()
    print(receiver.recv())
    process.join()
"""
    )
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    seen = run_script(program, PATH=path)
    assert seen.stderr == ""
    assert seen.stdout.endswith(f", {'-X dev' in str(executable)})\n")
    if executable == sys.executable:
        seen = run_script(program, GOPROC_PYTHON=f"{shlex.quote(sys.executable)} -X dev")
        assert seen.stdout.endswith(", False)\n")  # the program's own call counts


def test_goproc_python(run_script):
    code = "import goproc.spawn; print(goproc.spawn.get_command_line('m:f', 1)[:3])"
    seen = run_script("-c", code, GOPROC_PYTHON="'/a path/python' -X dev")
    assert seen.stdout == "['/a path/python', '-X', 'dev']\n"
    refused = run_script("-c", code, GOPROC_PYTHON="python 'unclosed", status=1)
    assert 'ValueError: GOPROC_PYTHON: "python \'unclosed" is not a command line' in refused.stderr


@pytest.mark.parametrize("wrong, error", [("python 'unclosed", ValueError), (3, TypeError)])
def test_set_executable_refuses(wrong, error):
    if sys.version_info < (3, 11) and error is TypeError:
        pytest.skip("multiprocessing takes anything before 3.11")
    before = goproc.spawn.get_executable()
    with pytest.raises(error):
        goproc.set_executable(wrong)
    assert goproc.spawn.get_executable() == before


def test_forkserver_preload_refuses():
    with pytest.raises(TypeError, match="module_names must be a list of strings"):
        goproc.set_forkserver_preload([1, 2])


def test_forkserver_preloads_modules(run_script, tmp_path):
    """The server imports `__main__` where multiprocessing's does. A module that is missing is left out."""
    program = tmp_path / "program.py"
    program.write_text(
        """
import os, sys
import goproc
imported_by = os.getpid()
def send(connection):
    import json
    connection.send((imported_by, os.getpid(), os.getppid(), __name__, "colorsys" in sys.modules))
if __name__ == "__main__":
    goproc.set_forkserver_preload(["__main__", "colorsys", "no_such_module"])
    context = goproc.get_context("forkserver")
    for _ in range(2):
        receiver, sender = context.Pipe(False)
        process = context.Process(target=send, args=(sender,))
        process.start()
        by, pid, parent, name, preloaded = receiver.recv()
        process.join()
        print({parent: "server", pid: "child"}[by], name, preloaded)
"""
    )
    done = run_script(program)
    importer = "server" if sys.version_info >= (3, 13, 8) else "child"
    assert done.stdout == f"{importer} __mp_main__ True\n" * 2
    assert done.stderr == ""


def test_logging():
    assert goproc.get_logger() is logging.getLogger("multiprocessing")
    assert goproc.get_logger() is multiprocessing.get_logger()


def test_freeze_support_does_nothing_here():
    goproc.freeze_support()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_freeze_support_in_a_frozen_program(run_script, tmp_path, method):
    """A frozen program is its own interpreter: it starts itself, and freeze_support() makes that a child."""
    program, executable = tmp_path / "program.py", tmp_path / "frozen"
    program.write_text(
        f"""
import sys
sys.frozen = True
sys.executable = {str(executable)!r}
import goproc
def send(connection):
    connection.send(("sent", sys.argv))
if __name__ == "__main__":
    goproc.freeze_support()
    context = goproc.get_context({method!r})
    receiver, sender = context.Pipe(False)
    process = context.Process(target=send, args=(sender,))
    process.start()
    print(receiver.recv())
    process.join()
    print(process.exitcode)
"""
    )
    # As the tools that freeze programs do, it runs code given by -c, for the standard library's resource tracker.
    python = shlex.quote(sys.executable)
    plain = f'case " $* " in *" -c "*) exec {python} "$@";; esac'
    executable.write_text(f'#!/bin/sh\n{plain}\nexec {python} {program} "$@"\n')
    executable.chmod(0o755)
    done = run_script(program, "argument")
    assert done.stdout == f"('sent', {[str(program), 'argument']})\n0\n"
