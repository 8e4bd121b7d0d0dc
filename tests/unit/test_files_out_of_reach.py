"""The main program can read no more files: it has used up its descriptors, or it has another root directory or user."""

import shutil
from pathlib import Path

import pytest

import goproc

OUT_OF_REACH = """
import logging, multiprocessing, os, resource, sys

def double(number):
    return 2 * number

def fail(number):
    raise ValueError(number)

def unpicklable(_):
    return lambda: None

def exhaust():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        while True:
            os.dup(0)
    except OSError:
        pass

class Refusal:
    @staticmethod
    def find_spec(name, *_):
        if name.partition(".")[0] in ("goproc", "multiprocessing"):
            raise ModuleNotFoundError(f"{name} is out of reach")

def say(function, *arguments):
    try:
        print(function(*arguments))
    except Exception as error:
        print(type(error).__name__, type(error.__cause__).__name__)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    multiprocessing.get_logger().propagate = True
    with context.Pool(2) as pool:
        print(pool.map(double, [1, 2]))
        if sys.argv[2] == "descriptors":
            exhaust()
        else:
            sys.meta_path.insert(0, Refusal)
        say(pool.apply, fail, (1,))
        say(pool.map, fail, [1, 2])
        say(pool.apply, unpicklable, (1,))
        say(pool.apply, lambda: None)
        say(list, pool.imap(double, [1, 2]))
        say(list, pool.imap_unordered(double, [2]))
        say(list, pool.imap(fail, [1, 2]))
        say(pool.starmap, double, [(1,), (2,)])
        say(pool.apply, double, ("a" * 1_000_000 and 1,))
        say(pool.map, double, [3, 4])
        if "goproc" in sys.modules and sys.argv[2] == "imports":
            try:
                pool.apply(os._exit, (3,))
            except Exception as error:
                print(error.exitcode)
    os.closerange(100, 200)
"""


@pytest.mark.parametrize("what", ["descriptors", "imports"])
def test_a_pool_needs_no_file_that_it_has_not_read(run_script, tmp_path, method, what):
    (tmp_path / "program.py").write_text(OUT_OF_REACH)
    done = run_script("-m", "goproc", "program.py", method, what, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert lines[:11] == [
        "[2, 4]",
        "ValueError RemoteTraceback",
        "ValueError RemoteTraceback",
        "MaybeEncodingError NoneType",
        "AttributeError NoneType" if "AttributeError NoneType" in lines else "PicklingError NoneType",
        "[2, 4]",
        "[4]",
        "ValueError RemoteTraceback",
        "[2, 4]",
        "2",
        "[6, 8]",
    ]
    if what == "imports":
        assert "3" in lines[11:] and any("exited with status 3" in line for line in lines[11:])
    assert done.stderr == ""


MOVED = """
import multiprocessing, multiprocessing.pool, os, sys

def double(number):
    return 2 * number

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=queue.put, args=(1,))
    process.start()
    print(queue.get())
    process.join()
    os.rename(sys.argv[1], sys.argv[1] + ".out-of-reach")
    with context.Pool(2) as pool:
        print(pool.map(double, [1, 2]))
"""


def test_a_first_pool_without_the_engines_file(run_script, tmp_path):
    """Where the folder of the package can no longer be read, the pool is multiprocessing's, with one warning."""
    ignored = shutil.ignore_patterns("__pycache__")
    copy = shutil.copytree(Path(goproc.__file__).parent, tmp_path / "site" / "goproc", ignore=ignored)
    (tmp_path / "program.py").write_text(MOVED)
    done = run_script("-m", "goproc", "program.py", copy, cwd=tmp_path, PYTHONPATH=str(copy.parent))
    assert done.stdout.splitlines() == ["1", "[2, 4]"]
    assert done.stderr.count("Warning:") == 1
    assert f"goproc's engine cannot be loaded: its folder {copy} is out of reach" in done.stderr
    assert "pools are multiprocessing's own" in done.stderr
