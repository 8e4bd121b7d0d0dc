"""The types that users' programs see: mypy --strict and pyright accept programs that are right, and refuse others."""

import ast
import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import mypy
import pytest

import goproc
from tests.examples.test_readme import programs

HERE = Path(__file__).parent
PROGRAM = HERE / "program.py"
INFERRED = HERE / "inferred.py"
WRONG = HERE / "wrong.py"
SCRIPTS = sysconfig.get_path("scripts")

# A checker must refuse each line of wrong.py below this one.
MARKER = "    # Wrong:"

# The oldest and the newest version that there are types for; None: that of the interpreter.
VERSIONS = [None, "3.10", "3.15"]


def checked(checker, path, version=None):
    command = {
        "mypy": [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"],
        "pyright": [os.path.join(SCRIPTS, "pyright"), "--pythonpath", sys.executable],
    }[checker]
    if version is not None:
        command += [{"mypy": "--python-version", "pyright": "--pythonversion"}[checker], version]
    command.append(path)
    return subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=300)


def written(tmp_path, text):
    path = tmp_path / "program.py"
    path.write_text(text, encoding="utf-8")
    return path


#: The modules of multiprocessing, for whose names goproc's have types.
MODULES = "connection context dummy dummy.connection forkserver heap managers pool popen_fork popen_forkserver".split()
MODULES += "popen_spawn_posix process queues reduction resource_sharer resource_tracker shared_memory".split()
MODULES += "sharedctypes spawn synchronize util".split()


def names_in_stub(module, version):
    """Return the public names that typeshed's stub of a module of multiprocessing has in a version of Python."""
    path = Path(mypy.__file__).parent.joinpath("typeshed", "stdlib", "multiprocessing", *module.split("."))
    file = path / "__init__.pyi" if path.is_dir() else path.with_suffix(".pyi")
    names = set()

    def visit(statements):
        for node in statements:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                names.add(node.name)
            elif isinstance(node, ast.AnnAssign):
                names.add(node.target.id)
            elif isinstance(node, ast.Assign):
                names.update(target.id for target in node.targets)
            elif isinstance(node, ast.ImportFrom):
                names.update(alias.name for alias in node.names if alias.asname == alias.name)
            elif isinstance(node, ast.If):
                system = SimpleNamespace(platform="linux", version_info=version)
                holds = eval(compile(ast.Expression(node.test), str(file), "eval"), {"sys": system})
                visit(node.body if holds else node.orelse)

    visit(ast.parse(file.read_text(encoding="utf-8")).body)
    return {name for name in names if not name.startswith("_")}


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
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("program", [PROGRAM, INFERRED], ids=lambda path: path.stem)
def test_annotated_program_is_accepted(checker, program, version, tmp_path):
    done = checked(checker, written(tmp_path, program.read_text(encoding="utf-8")), version)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_wrong_program_is_refused_at_each_wrong_line(checker, tmp_path):
    text = WRONG.read_text(encoding="utf-8")
    lines = text.splitlines()
    wrong = range(lines.index(MARKER) + 2, len(lines) + 1)
    done = checked(checker, written(tmp_path, text))
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if "error" in line and "program.py:" in line}
    assert found == set(wrong), done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_modules_of_multiprocessing_have_their_names(checker, version, tmp_path):
    number = sys.version_info[:2] if version is None else tuple(map(int, version.split(".")))
    program = [
        f"from goproc.{module} import {name} as {name}_of_{module.replace('.', '_')}"
        for module in MODULES
        for name in sorted(names_in_stub(module, number))
    ]
    assert len(program) > 100
    done = checked(checker, written(tmp_path, "\n".join(program)), version)
    assert done.returncode == 0, done.stdout


def test_modules_of_multiprocessing_declare_what_there_is():
    """A name of the stub for this version exists. stubtest does not check names from another module."""
    for module in MODULES:
        there = importlib.import_module(f"goproc.{module}")
        assert [name for name in names_in_stub(module, sys.version_info[:2]) if not hasattr(there, name)] == []


@pytest.mark.slow
def test_each_public_name_has_a_type(tmp_path):
    command = [os.path.join(SCRIPTS, "pyright"), "--verifytypes", "goproc", "--ignoreexternal", "--outputjson"]
    # With --verifytypes pyright does not look at --pythonpath.
    environment = {**os.environ, "PATH": os.pathsep.join([SCRIPTS, os.environ["PATH"]])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    symbols = [symbol for symbol in json.loads(done.stdout)["typeCompleteness"]["symbols"] if symbol["isExported"]]
    assert len(symbols) > 300
    # Bound methods, whose types each checker infers alike.
    methods = {f"goproc.forkserver.{name}" for name in goproc.forkserver.__all__}
    untyped = {"goproc.joblib.GoprocBackend"}  # its base classes are joblib's, which has no types
    assert {symbol["name"] for symbol in symbols if not symbol["isTypeKnown"]} == methods | untyped


def test_annotated_program_runs():
    done = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines()[-2:] == ["7 0 sender", "[1, 2, 1]"]


def test_inferred_types_are_those_of_a_program_that_runs():
    done = subprocess.run([sys.executable, INFERRED], capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.returncode) == ("", 0)


def test_stub_has_the_names_that_the_package_has():
    stub = ast.parse(Path(goproc.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    (names,) = [node.value for node in stub.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]
    assert sorted(ast.literal_eval(names)) == sorted(goproc.__all__)
    assert set(multiprocessing.__all__) <= set(goproc.__all__)
