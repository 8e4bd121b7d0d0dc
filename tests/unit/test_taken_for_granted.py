"""Properties that programs rely on, besides the calls: how they are started, inherited state, imported modules."""

import os
import shlex
import subprocess
import sys

import pytest

PROGRAM = """
import multiprocessing, os, sys
def double(number): return 2 * number
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(sys.argv, sys.path[:2], __file__, type(__loader__).__name__, pool.map(double, [1, 2]))
"""


def run(*options, program, name, shell=None, cwd=None):
    """Run a program; {} in the shell's command line stands for python."""
    environment = {**os.environ, "PYTHONPATH": str(program.parent)}
    python = shlex.join([sys.executable, *options])
    command = ["bash", "-c", shell.replace("{}", python)] if shell else [sys.executable, *options, *name]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=cwd)


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.mark.parametrize("shell", ["{} <(cat %s) a", "cat %s | {} /dev/stdin a"])
def test_a_program_from_a_pipe(shell, program):
    """A pipe can be read only once."""
    wanted, got = (run(*options, program=program, name=(), shell=shell % program) for options in ([], ["-m", "goproc"]))
    assert "[2, 4]" in wanted.stdout
    assert (got.stdout, got.stderr) == (wanted.stdout, wanted.stderr)


@pytest.mark.parametrize("name", ["-m program", "{}", "program.py", "-c import,sys;print(sys.path[:2])"])
def test_a_deleted_folder(name, program, tmp_path):
    """The current folder is gone: python finds no program there, and leaves it out of sys.path for -m."""
    words = [word.replace("{}", str(program)).replace(",", " ") for word in name.split()]
    shell = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; {{}} {' '.join(map(repr, words))}"
    wanted, got = (run(*options, program=program, name=(), shell=shell) for options in ([], ["-m", "goproc"]))
    assert (got.stdout, got.returncode) == (wanted.stdout, wanted.returncode)
    assert got.stderr.replace(str(tmp_path), "") == wanted.stderr.replace(str(tmp_path), "")


def test_the_environment_is_the_one_of_c(method, run_script):
    """Executed children find the changes by os.putenv(), os.unsetenv() and C's setenv(), in os.environ or not."""
    code = """
import ctypes, os, sys
import goproc
context = goproc.get_context(sys.argv[1])
def start():
    process = context.Process(target=os.system, args=("echo $PUT $SET $KEPT",))
    process.start()
    process.join()
os.environ["GONE"] = os.environ["KEPT"] = "kept"
start() if sys.argv[1] == "spawn" else None
os.putenv("PUT", "put")
ctypes.CDLL(None).setenv(b"SET", b"set", 1)
os.unsetenv("GONE")
start()
start()
process = context.Process(target=os.system, args=("echo ${GONE-gone}",))
process.start()
process.join()
"""
    done = run_script("-c", code, method)
    first = "kept\n" if method == "spawn" else ""
    assert done.stdout == first + "put set kept\n" * 2 + "gone\n"


def test_how_children_end_when_their_ends_are_ignored(run_script, method):
    """The fork server knows; the kernel tells nobody else. The children ignore SIGCHLD, too."""
    code = """
import signal, sys
import goproc
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
context = goproc.get_context(sys.argv[1])
for _ in range(5):
    process = context.Process(target=sys.exit, args=(7,))
    process.start()
    process.join()
    print(process.exitcode, process.is_alive(), end=" ")
with context.Pool(2) as pool:
    print(pool.apply(signal.getsignal, (signal.SIGCHLD,)) is signal.SIG_IGN)
    pool.close()
    pool.join()
"""
    expected = "7 False " if method == "forkserver" else "255 False "
    assert run_script("-c", code, method).stdout == expected * 5 + "True\n"


USES = {
    "process": "process = {0}.Process(target=int); process.start(); process.join(5)",
    "pool": "{0}.Pool(1).map(int, [1])",
    "preload": "{0}.set_forkserver_preload(['os'])",
    "queue": "{0}.Queue()",
    "nothing": "pass",
}


@pytest.mark.parametrize("use", USES)
def test_submodules_are_attributes(use, run_script):
    """Submodules that a call of multiprocessing imports are there after goproc's call, without a further import."""
    code = """
import {0}, sys
if __name__ == "__main__":
    {0}.set_start_method("fork")
    """ + USES[use]
    names = " ".join(
        "connection context heap managers pool process queues reduction resource_sharer resource_tracker "
        "shared_memory sharedctypes spawn util".split()
    )
    code += f"""
    print(*[name for name in "{names}".split() if hasattr({{0}}, name)])
"""
    wanted = run_script("-c", code.format("multiprocessing")).stdout.split()
    for package, options in ("goproc", ()), ("multiprocessing", ("-m", "goproc")):
        got = run_script("-c", code.format(package), options=options).stdout.split()
        assert set(wanted) <= set(got)


def test_a_name_that_is_no_submodule(run_script):
    code = "import multiprocessing\nprint(hasattr(multiprocessing, 'nothing'), hasattr(multiprocessing, 'dummy'))"
    assert run_script("-c", code).stdout == run_script("-c", code, options=["-m", "goproc"]).stdout == "False False\n"


@pytest.mark.parametrize("wrong", ["retrys=1", "processes=0", "processes='two'", "initializer=3", "retries=-1"])
def test_a_pool_that_cannot_be_made(wrong, run_script):
    """The call raises one error: the pool's destructor finds nothing to do, and prints nothing."""
    done = run_script("-c", f"import goproc\ngoproc.Pool({wrong})", status=1)
    assert done.stderr.count("Traceback") == 1, done.stderr
