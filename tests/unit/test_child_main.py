"""A child's `__main__`: it has the same names as in multiprocessing's child, and none of goproc."""

import pytest

from goproc._common.picklers import ADVICE

# What an interpreter puts into `__main__` by itself.
INTERPRETERS = {
    "__annotations__",
    "__builtins__",
    "__cached__",
    "__doc__",
    "__file__",
    "__loader__",
    "__name__",
    "__package__",
    "__spec__",
}

#: A program that its children cannot import: they have the `__main__` that they were started with.
UNIMPORTABLE = """
import sys
sys.path.insert(0, {folder!r})
import goproc
import reports
if __name__ == "__main__":
    context = goproc.get_context({method!r})
    for _ in range(4):  # the first is executed; later ones are cloned from the spawn server
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=reports.names, args=(sender,))
        process.start()
        print(sorted(receiver.recv()))
        process.join()
    with context.Pool(2) as pool:
        print(sorted(pool.apply(reports.names)))
"""

REPORTS = """
import sys
def names(sender=None):
    found = list(vars(sys.modules["__main__"]))
    return found if sender is None else sender.send(found)
"""

UNKNOWN = """
import goproc
def {name}(*arguments):
    return "the program's function"
if __name__ == "__main__":
    with goproc.get_context({method!r}).Pool(1) as pool:
        for call in (lambda: pool.apply({name}, (0, 1, 2))), (lambda: pool.map({name}, [1])):
            try:
                print(call())
            except AttributeError as error:
                print(error)
"""


@pytest.fixture(params=["spawn", "forkserver"])
def method(request):
    return request.param


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "reports.py").write_text(REPORTS)
    return str(tmp_path)


@pytest.mark.parametrize("how", ["-c", "-", "folder", "archive"])
def test_no_names_are_added(run_script, folder, tmp_path, method, how):
    import zipfile

    code = UNIMPORTABLE.format(folder=folder, method=method)
    if how == "-c":
        lines = run_script("-c", code).stdout.splitlines()
    elif how == "-":
        lines = run_script("-m", "goproc", "-", input=code).stdout.splitlines()
    elif how == "folder":
        (tmp_path / "program").mkdir()
        (tmp_path / "program" / "__main__.py").write_text(code)
        lines = run_script(tmp_path / "program").stdout.splitlines()
    else:
        with zipfile.ZipFile(tmp_path / "program.zip", "w") as archive:
            archive.writestr("__main__.py", code)
        lines = run_script(tmp_path / "program.zip").stdout.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert set(eval(line)) <= INTERPRETERS


def test_a_script_is_as_on_multiprocessing(run_script, tmp_path, method):
    """The child's `__main__` has the program's and the interpreter's names, with multiprocessing's values."""
    (tmp_path / "reports.py").write_text(
        "import sys\n"
        "def main_of_child():\n"
        "    module = sys.modules['__main__']\n"
        "    shown = [(n, repr(v) if n in SIMPLE else type(v).__name__) for n, v in sorted(vars(module).items())]\n"
        "    return shown, module is sys.modules['__mp_main__'], sys.argv, sys.path[0]\n"
        "SIMPLE = ['__name__', '__file__', '__package__', '__cached__', '__doc__']\n"
    )
    (tmp_path / "program.py").write_text(
        "import sys\n"
        "import multiprocessing\n"
        "import reports\n"
        "number = 3\n"
        "def function(): pass\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:\n"
        "        print(pool.apply(reports.main_of_child))\n"
    )
    for how in ["program.py"], ["-m", "program"]:
        expected = run_script(*how, method, cwd=tmp_path)
        assert "'number', 'int'" in expected.stdout
        assert run_script("-m", "goproc", *how, method, cwd=tmp_path).stdout == expected.stdout


@pytest.mark.parametrize("name", ["f", "p", "sys", "spawn_main", "main"])
def test_functions_that_a_child_cannot_find(run_script, method, name):
    printed = run_script("-c", UNKNOWN.format(name=name, method=method)).stdout.splitlines()
    lines = [line for line in printed if line != ADVICE]  # the advice is a note; in Python 3.10 it is in the text
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"Can't get attribute {name!r} on <module '__main__'")


PROGRAM = """
import multiprocessing
class Point:
    def __init__(self, x): self.x = x
def point(x): return Point(x)
if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(1) as pool:
        print([type(result) is Point and result.x for result in pool.map(point, range(3))])
"""

LAUNCHER = """
import runpy
class Line: pass
def line(): return Line()
if __name__ == "__main__":
    {first}
    runpy.run_path("program.py", run_name="__main__")
    import multiprocessing
    with multiprocessing.get_context({method!r}).Pool(1) as pool:
        print(type(pool.apply(line)) is Line)
        {then}
"""


def test_objects_of_a_program_that_a_launcher_runs(run_script, tmp_path, method):
    """A profiler, or runpy, makes another program the main one. Results are of the classes of that program."""
    (tmp_path / "program.py").write_text(PROGRAM.format(method=method))
    (tmp_path / "launcher.py").write_text(LAUNCHER.format(method=method, first="", then=""))
    lines = run_script("-m", "goproc", tmp_path / "launcher.py", cwd=tmp_path).stdout.splitlines()
    assert lines == ["[0, 1, 2]", "True"]


def test_a_launcher_that_has_started_processes_keeps_its_name(run_script, tmp_path, method):
    """As with multiprocessing: `__mp_main__` is the module that has imported it."""
    (tmp_path / "program.py").write_text(PROGRAM.format(method=method).replace("result.x", "True"))
    first = f"import multiprocessing; pool = multiprocessing.get_context({method!r}).Pool(1)"
    text = LAUNCHER.format(method=method, first=first, then="print(type(pool.apply(line)) is Line)")
    (tmp_path / "launcher.py").write_text(text.replace('runpy.run_path("program.py", run_name="__main__")', TRY))
    lines = run_script("-m", "goproc", tmp_path / "launcher.py", cwd=tmp_path).stdout.splitlines()
    assert lines == ["MaybeEncodingError", "True", "True"]


OTHER = """
import multiprocessing
def say(): print("the other program's", flush=True)
if __name__ == "__main__":
    process = multiprocessing.get_context({method!r}).Process(target=say)
    process.start()
    process.join()
"""

PROMPT = """
import multiprocessing, runpy, sys
runpy.run_path("other.py", run_name="__main__")
def say(): print("the prompt's", flush=True)
process = multiprocessing.get_context(sys.argv[1]).Process(target=say)
process.start()
process.join()
print(process.exitcode)
"""


def test_a_function_of_a_prompt_is_not_the_one_of_a_script_that_was_run(run_script, tmp_path, method):
    """After runpy, or IPython's %run, as with multiprocessing: a child does not take the script's function for it."""
    (tmp_path / "other.py").write_text(OTHER.format(method=method))
    expected = run_script("-c", PROMPT, method, cwd=tmp_path).stdout
    assert expected.startswith("the other program's\n")
    assert run_script("-m", "goproc", "-c", PROMPT, method, cwd=tmp_path).stdout == expected


TRY = """try:
        runpy.run_path("program.py", run_name="__main__")
    except Exception as error:
        print(type(error).__name__)
"""


LEFT_TO_THE_END = """
import sys

import goproc

goproc.install()
import multiprocessing
from multiprocessing.managers import SharedMemoryManager

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    manager = SharedMemoryManager()
    manager.start()
    shared = manager.ShareableList(range(10))
    manager.shutdown()
"""


def test_the_main_module_is_finalized_before_the_modules_that_it_uses(run_script, tmp_path, method):
    """The end of the interpreter finalizes a manager and its process."""
    (tmp_path / "program.py").write_text(LEFT_TO_THE_END)
    assert run_script("program.py", method, cwd=tmp_path).stderr == ""
