"""The fork server: its preloaded modules, and the exit statuses of its children."""

import os
import signal
import sys
import time
from multiprocessing import connection

import process_targets as targets
import pytest

import goproc
from goproc import forkserver
from goproc._common import engine


def test_who_knows_that_a_process_has_ended_knows_how():
    """The kernel makes the sentinel readable; the server sends the exit status."""
    context = goproc.get_context("forkserver")
    for number in range(40):
        process = context.Process(target=targets.exit_with, args=(number,))
        process.start()
        connection.wait([process.sentinel])
        assert not process.is_alive()
        assert process.exitcode == number
        process.close()


@pytest.mark.slow
def test_while_the_server_is_stopped():
    """Nothing waits for the stopped server for ever."""
    process = goproc.get_context("forkserver").Process(target=time.sleep, args=(1000,))
    process.start()
    server = engine.call("ServerPid", "forkserver")
    os.kill(server, signal.SIGSTOP)
    try:
        process.kill()
        connection.wait([process.sentinel])
        assert process.exitcode is None
    finally:
        os.kill(server, signal.SIGCONT)
    process.join()
    assert process.exitcode == -signal.SIGKILL


PRELOAD = """
import goproc, sys

def nothing():
    pass

def start():
    process = goproc.get_context("forkserver").Process(target=nothing)
    process.start()
    process.join()
    print(process.exitcode)

if __name__ == "__main__":
    goproc.set_forkserver_preload(["__main__", *sys.argv[3:]], on_error=sys.argv[1])
    try:
        start()
    except EOFError as error:
        said = [str(error), *getattr(error, "__notes__", [])]
        print("EOFError", "may have crashed during module preloading" in said[-1])
elif sys.argv[2] == "fails":
    import one_that_is_missing
"""


@pytest.mark.parametrize("library", ["goproc", "multiprocessing"])
@pytest.mark.parametrize(
    ("on_error", "main", "modules", "printed", "says"),
    [
        ("ignore", "works", "one_that_is_missing", "0", None),
        ("warn", "works", "colorsys one_that_is_missing", "0", "Failed to preload module 'one_that_is_missing'"),
        ("warn", "works", "one_that_divides", "0", "Failed to preload module 'one_that_divides': division by zero"),
        ("warn", "works", "colorsys", "0", None),
        ("warn", "fails", "", "1", "Failed to preload __main__"),
        ("fail", "works", "colorsys", "0", None),
        ("fail", "works", "one_that_is_missing", "EOFError True", "No module named 'one_that_is_missing'"),
        ("fail", "works", "one_that_divides", "EOFError True", "division by zero"),
        ("fail", "fails", "", "EOFError True", "No module named 'one_that_is_missing'"),
    ],
)
def test_what_cannot_be_preloaded(run_script, tmp_path, library, on_error, main, modules, printed, says):
    (tmp_path / "one_that_divides.py").write_text("1 / 0")
    (tmp_path / "program.py").write_text(PRELOAD.replace("goproc", library) if library == "goproc" else INSTALLED)
    done = run_script(
        tmp_path / "program.py", on_error, main, *modules.split(), options=["-W", "always::ImportWarning"]
    )
    assert done.stdout.strip() == printed
    if says is None:
        assert done.stderr == ""
    else:
        assert says in done.stderr


INSTALLED = "import goproc\ngoproc.install()\n" + PRELOAD.replace("goproc", "multiprocessing")


def test_bad_arguments_for_preloading():
    for set_preload in (
        goproc.set_forkserver_preload,
        goproc.get_context("spawn").set_forkserver_preload,
        forkserver.set_forkserver_preload,
    ):
        with pytest.raises(ValueError, match="on_error must be 'ignore', 'warn', or 'fail', not 'raise'"):
            set_preload(["__main__"], on_error="raise")
        with pytest.raises(TypeError, match="must be a list of strings"):
            set_preload([3], on_error="raise")
    assert forkserver._forkserver._preload_on_error == "ignore"


SHARES_NOTHING = """
import multiprocessing, os, random, sys, threading

multiprocessing.get_context("forkserver").set_forkserver_preload(sys.argv[1].split())
print("imported as", __name__, flush=True)
uses, pid, random_number, file = 0, os.getpid(), random.random(), open(__file__, "rb", 0)
thread = threading.Thread(target=threading.Event().wait, daemon=True)
thread.start()
setting = os.environ.get("SETTING"), sys.argv[2:], os.getcwd()

def use(queue):
    global uses
    uses += 1
    queue.put((random_number, file.read(5), uses, pid == os.getpid(), thread.is_alive(), setting))

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    queue, numbers = context.SimpleQueue(), set()
    for number in range(4):
        os.environ["SETTING"] = str(number)
        sys.argv[2:] = [str(number)]
        os.chdir("/" if number % 2 else "/usr")
        process = context.Process(target=use, args=(queue,))
        process.start()
        random_number, *rest = queue.get()
        process.join()
        numbers.add(random_number)
        print(rest)
    print(len(numbers))
"""


@pytest.mark.parametrize("preloaded", ["__main__", "json", ""])
@pytest.mark.parametrize("options", [[], ["-m"]], ids=["script", "module"])
def test_what_the_main_module_does_when_it_is_imported(run_script, tmp_path, preloaded, options):
    """Children share it, or do it anew, as with multiprocessing: it depends on Python's version."""
    (tmp_path / "program.py").write_text(SHARES_NOTHING)

    def run(*way):
        program = "program" if options else str(tmp_path / "program.py")
        done = run_script(
            *way,
            *options,
            program,
            preloaded,
            cwd=tmp_path,
            PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
        )
        assert done.stderr == ""
        return done.stdout

    assert run("-m", "goproc") == run()


NOTHING_PRELOADED = """
import multiprocessing

if __name__ == "__main__":
    multiprocessing.set_forkserver_preload([])
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        print(pool.apply_async(abs, (-3,)).get(60))
"""


def test_the_workers_of_a_pool_need_no_preloaded_module(run_script, tmp_path):
    """The server imports parts of multiprocessing in any case: goproc is installed there before."""
    (tmp_path / "program.py").write_text(NOTHING_PRELOADED)
    done = run_script("-m", "goproc", tmp_path / "program.py")
    assert (done.stdout, done.stderr) == ("3\n", "")


UNKNOWN_TO_THE_SERVER = """
import goproc, multiprocessing.spawn

def data_of(name, plain=multiprocessing.spawn.get_preparation_data):
    return {**plain(name), "extra": Extra()}

class Extra:
    pass

def nothing():
    pass

if __name__ == "__main__":
    multiprocessing.spawn.get_preparation_data = data_of
    Extra.__module__ = "gone"
    import sys
    sys.modules["gone"] = sys.modules["__main__"]
    process = goproc.get_context("forkserver").Process(target=nothing)
    process.start()
    process.join()
    print(process.exitcode)
"""


def test_preparation_data_of_the_programs_own(run_script, tmp_path):
    """A child that cannot unpickle it fails, and not the server."""
    (tmp_path / "program.py").write_text(UNKNOWN_TO_THE_SERVER)
    done = run_script(tmp_path / "program.py")
    assert done.stdout == "1\n"
    assert "No module named 'gone'" in done.stderr


DOES_NOTHING = """
'''A program that defines things.'''
from __future__ import annotations
import collections.abc, os, random
import logging
import re as regular
import multiprocessing as mp
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache, partial
from typing import Optional, TypeVar
import sys
import helper, folder.inner
from folder import inner
from folder.inner import CONSTANT as C
try:
    from os import path
except ImportError:
    path = None
import goproc
goproc.install()

T = TypeVar("T")
log = logging.getLogger(__name__)
pattern: regular.Pattern = regular.compile(r"a+")
SIZE, TEXT = 2**10, f"{__name__} {C}"
TABLE = {"a": [1, -2.5], **{}}
if sys.version_info >= (3, 8) and sys.platform != "win32":
    NEW = True
else:
    NEW = False
key = lambda item, default=SIZE: item
twice = partial(max, 2)

@dataclass(frozen=True)
class Point:
    x: int
    tags: list[str] = field(default_factory=list)

    @property
    def double(self) -> Optional[int]:
        return 2 * self.x

    @double.setter
    def double(self, value): ...

class Colour(Enum):
    RED = 1

@lru_cache(maxsize=None)
def work(number, *more, size=SIZE, point: Point = None, **others) -> "int":
    return number + size

async def later(): pass
"""

RUNS = """
if __name__ == "__main__":
    context = mp.get_context("forkserver")
    process = context.Process(target=work, args=(1,))
    process.start()
    process.join()
    print(process.exitcode)
"""


@pytest.mark.part("preloaded-main")
@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("", None),
        ("try: import missing\nexcept ImportError: pass", "module 'missing' is not found as a file"),
        ("try: from folder import broken\nexcept SyntaxError: pass", "SyntaxError: "),
        ("import numpy", "module 'numpy' is not the program's own"),
        ("import acts", "acts.py, line 3"),
        ("from folder import acts", "acts.py, line 2"),
        ("import this", "module 'this'"),
        ("number = random.random()", "program.py"),
        ("number: int = os.getpid()", "program.py"),
        ("from sys import argv", "program.py"),
        ("arguments = sys.argv", "program.py"),
        ("def f(out=sys.stdout): pass", "program.py"),
        ("def list(): pass\nx = list()", "program.py"),
        ("log.warning('hello')", "program.py"),
        ("for i in range(3): pass", "program.py"),
        ("with open(__file__): pass", "program.py"),
        ("TABLE['b'] = 1", "program.py"),
        ("os.x = 1", "program.py"),
        ("SIZE += 1", "program.py"),
        ("import atexit\n@atexit.register\ndef f(): pass", "program.py"),
        ("class Base:\n    def __init_subclass__(cls): print(cls)", "program.py"),
        ("class Meta(type): pass\nclass M(metaclass=Meta): pass", "program.py"),
        ("squares = [i * i for i in range(3)]", "program.py"),
        ("if (x := os.getpid()): pass", "program.py"),
        ("class Named(Enum):\n    A = 1\n    def __init__(self, x): self.pid = os.getpid()", "program.py"),
        ("class Mixed(Point, Enum): A = 1", "program.py"),
        ("class Own(Point):\n    __init_subclass__ = print", "program.py"),
        ("try: from helper import lru_cache as cached\nexcept ImportError: cached = lru_cache", None),
        (
            "try: from helper import help as cached\nexcept ImportError: from functools import cache as cached\n"
            "@cached\ndef f(): pass",
            "program.py",
        ),
        ("@partial(print, 'made')\ndef f(): pass", "program.py"),
        ("@lru_cache(print)\ndef f(): pass", "program.py"),
        ("@helper.setter\ndef f(): pass", "program.py"),
        ("class Both:\n    @classmethod\n    @property\n    def pid(cls): return os.getpid()", "program.py"),
        ("double = Point.double", "program.py"),
        ("def __getattr__(name): return os.getpid()", "program.py"),
        ("__path__ = []", "program.py"),
        ("try: pass\nexcept os.getpid(): pass", "program.py"),
        ("from dataclasses import *", "program.py"),
        ("more = folder.inner.CONSTANT", "program.py"),
        ("is_red = Colour.RED == 1", "program.py"),
        ("item = TABLE['a']", "program.py"),
        ("x = regular.compile('a', regular.DEBUG)", "program.py"),
        ("goproc.install(futures=os.getpid() < 0)", "program.py"),
    ],
)
def test_a_main_module_that_does_nothing_is_imported_once(run_script, tmp_path, line, where):
    """In the server, for all children. Otherwise the log says why not."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "__init__.py").write_text("from . import inner\n")
    (folder / "inner.py").write_text("from . import inner as me\nCONSTANT = 3\n")
    (folder / "acts.py").write_text("import os\nos.getpid()\n")
    (folder / "broken.py").write_text("no Python\n")
    (tmp_path / "acts.py").write_text("import os\n\nx = os.urandom(3)\n")
    (tmp_path / "helper.py").write_text("def help(f): return f\ndef setter(f): return f\n")
    program = tmp_path / "program.py"
    program.write_text(DOES_NOTHING + line + "\n" + RUNS)
    for options in [program], ["-m", "program"]:
        done = run_script(
            *options,
            cwd=tmp_path,
            PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
            GOPROC_LOG="debug",
            status=None,
        )
        said = "each child imports the main module, because of " in done.stderr
        if where is None or sys.version_info >= (3, 13, 8) and options == [program]:
            assert not said
        else:
            assert said and f"because of {where}" in done.stderr
        assert done.stdout.endswith("0\n")


def test_the_main_module_without_the_part(run_script, tmp_path):
    (tmp_path / "program.py").write_text("import multiprocessing as mp\ndef work(number): pass\n" + RUNS)
    done = run_script(
        "-m",
        "goproc",
        "-m",
        "program",
        cwd=tmp_path,
        GOPROC_LOG="debug",
        GOPROC_DISABLE="preloaded-main",
        PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
    )
    assert done.stdout == "0\n"
    assert "because of GOPROC_DISABLE" in done.stderr


def name_of(process, queue):
    queue.put((process.name, process.pid))


def test_a_process_object_that_has_been_started_is_sent(context):
    first, queue = context.Process(target=int, name="first"), context.Queue()
    first.start()
    second = context.Process(target=name_of, args=(first, queue))
    second.start()
    assert queue.get(timeout=60) == ("first", first.pid)
    first.join()
    second.join()
