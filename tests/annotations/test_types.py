"""The types that users' programs see: mypy --strict and pyright accept programs that are right, and refuse others."""

import ast
import multiprocessing
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import goproc
from tests.examples.test_readme import programs

HERE = Path(__file__).parent
PROGRAM = HERE / "program.py"

# A program that is wrong, line by line: a checker that knows our types says so for each.
WRONG = """
import goproc
import goproc.pool

def square(number: int) -> int:
    return number * number

goproc.Pool(retrys=1)
pool = goproc.Pool(2)
pool.map(square, [1], task_timout=1)
pool.map(square, ["one"])
pool.apply_async(square, (1,)).get().upper()
pool.imap(square, [1], prefetch="many")
goproc.get_context("spawn").Process(traget=square)
goproc.Poool()
"""
WRONG_LINES = {8, 10, 11, 12, 13, 14, 15}


def checked(checker, path):
    command = {
        "mypy": [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", path],
        "pyright": [os.path.join(sysconfig.get_path("scripts"), "pyright"), "--pythonpath", sys.executable, path],
    }[checker]
    return subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=300)


def written(tmp_path, text):
    path = tmp_path / "program.py"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(params=["mypy", "pyright"])
def checker(request):
    return request.param


@pytest.mark.slow
def test_readme_programs_are_accepted(checker, tmp_path):
    for number, (program, _) in enumerate(programs()):
        # The README's functions have no annotations, which --strict wants: those of the program, not of goproc.
        program = program.replace("(number):", "(number: int) -> int:")
        done = checked(checker, written(tmp_path, program))
        assert done.returncode == 0, f"program {number}: {done.stdout}"


@pytest.mark.slow
def test_annotated_program_is_accepted(checker, tmp_path):
    done = checked(checker, written(tmp_path, PROGRAM.read_text(encoding="utf-8")))
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_wrong_program_is_refused_at_each_wrong_line(checker, tmp_path):
    done = checked(checker, written(tmp_path, WRONG))
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if "error" in line and "program.py:" in line}
    assert found == WRONG_LINES, done.stdout


def test_annotated_program_runs():
    done = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines()[-2:] == ["7 0 sender", "[1, 2, 1]"]


def test_stub_has_the_names_that_the_package_has():
    stub = ast.parse(Path(goproc.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    (names,) = [node.value for node in stub.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]
    assert sorted(ast.literal_eval(names)) == sorted(goproc.__all__)
    assert set(multiprocessing.__all__) <= set(goproc.__all__)
