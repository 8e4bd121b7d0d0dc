"""build_support/check_prerequisites.sh: it names everything that is missing, at once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "build_support" / "check_prerequisites.sh"
BASICS = ("sh", "uname", "sed", "sort", "head", "mktemp", "rm", "printf", "env")


def executable(path, text):
    """Make path a shell script; a new file always, so that nothing is ever written through a link to a real command."""
    path.unlink(missing_ok=True)
    with open(path, "x") as script:
        script.write(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def bin_folder(tmp_path):
    """A folder for PATH that has the basic commands and nothing to build with.

    The commands are scripts that run the real ones, not links to them: tests replace some.
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in BASICS:
        executable(folder / name, f'exec {shutil.which(name)} "$@"')
    return folder


def check(path, python, scope="all", **variables):
    """Run the script with PATH=path; return its status and what it said."""
    environment = {"PATH": str(path), "HOME": os.environ.get("HOME", "/"), **variables}
    command = ["/bin/sh", str(SCRIPT), scope, str(python)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert ran.stdout == ""
    return ran.returncode, ran.stderr


def test_says_nothing_when_nothing_is_missing():
    assert check(os.environ["PATH"], sys.executable) == (0, "")


def test_names_all_that_is_missing_at_once(bin_folder):
    status, said = check(bin_folder, "python3")
    assert status == 1
    for missing in ("Go 1.", "a C compiler", "CPython 3.10 or newer (no command python3)"):
        assert f"- {missing}" in said


def test_names_versions_that_are_too_old(bin_folder):
    executable(bin_folder / "uname", 'case $1 in -s) echo Linux ;; *) echo "4.19.0-18-amd64" ;; esac')
    executable(bin_folder / "go", 'case $1 in env) echo go1.19.8 ;; *) echo "go version go1.19.8 linux/amd64" ;; esac')
    executable(bin_folder / "old-python", 'printf "%s\\n" CPython 3.9 cpython-39 /nowhere venv')
    status, said = check(bin_folder, bin_folder / "old-python")
    assert status == 1
    assert "Linux 5.4 or newer (this is 4.19.0)" in said
    assert "(found 1.19.8:" in said
    assert "is CPython 3.9)" in said


def test_names_headers_and_venv_that_a_distribution_ships_apart(bin_folder):
    executable(bin_folder / "bare-python", 'printf "%s\\n" CPython 3.12 cpython-312 /nowhere ""')
    status, said = check(bin_folder, bin_folder / "bare-python")
    assert status == 1
    assert "the C headers of CPython 3.12 (no /nowhere/Python.h)" in said
    assert "the venv module of CPython 3.12" in said
    assert "the venv module" not in check(bin_folder, bin_folder / "bare-python", scope="build")[1]


def test_names_a_compiler_that_cannot_build_a_program(bin_folder):
    executable(bin_folder / "gcc", 'echo "stdlib.h: No such file or directory" >&2; exit 1')
    assert "gcc cannot build a program: stdlib.h: No such file" in check(bin_folder, "python3")[1]


def test_names_an_interpreter_that_is_not_cpython(bin_folder):
    executable(bin_folder / "pypy3", 'printf "%s\\n" PyPy 3.10 pypy310-pp73 /nowhere venv')
    assert "pypy3 is PyPy 3.10)" in check(bin_folder, bin_folder / "pypy3")[1]


def test_refuses_a_free_threaded_interpreter(bin_folder):
    soabi = "cpython-314t-x86_64-linux-gnu"
    executable(bin_folder / "python3.14t", f'printf "%s\\n" CPython 3.14 {soabi} /nowhere venv')
    for scope in ("all", "build"):
        status, said = check(bin_folder, bin_folder / "python3.14t", scope)
        assert status == 1
        assert "python3.14t is a free-threaded build of CPython 3.14)" in said
        assert "relies on the GIL: use the ordinary build, python3.14" in said
    executable(bin_folder / "python3.14", f'printf "%s\\n" CPython 3.14 {soabi.replace("314t", "314")} /nowhere venv')
    assert "free-threaded" not in check(bin_folder, bin_folder / "python3.14")[1]


def test_says_that_other_systems_are_not_supported(bin_folder):
    executable(bin_folder / "uname", "echo Darwin")
    status, said = check(bin_folder, "python3")
    assert status == 1
    assert said.startswith("goproc runs on Linux only")


def test_works_in_a_folder_with_a_space(tmp_path):
    copy = tmp_path / "a folder" / "build_support"
    copy.mkdir(parents=True)
    shutil.copy(SCRIPT, copy)
    shutil.copy(ROOT / "go.mod", copy.parent)
    command = ["sh", str(copy / SCRIPT.name), "all", sys.executable]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).returncode == 0
