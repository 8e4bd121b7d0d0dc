"""The source distribution: it builds where Go is, and says what is missing where it is not."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from goproc import __version__

# The first of these tests packs it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROGRAM = """
import goproc as multiprocessing

def square(number):
    return number * number

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(multiprocessing.__version__, pool.map(square, range(3)))
"""

BASICS = ("sh", "uname", "sed", "sort", "head", "mktemp", "rm", "printf", "env")


@pytest.fixture(scope="module")
def sdist(source_copy):
    """The path of the source distribution."""
    command = ["make", "sdist", f"PYTHON={sys.executable}"]
    made = subprocess.run(command, cwd=source_copy, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stdout + made.stderr
    return source_copy / "dist" / f"goproc-{__version__}.tar.gz"


@pytest.fixture(scope="module")
def installed(sdist, new_environment, tmp_path_factory):
    """The interpreter of a fresh environment into which pip has installed the source distribution."""
    python = new_environment(tmp_path_factory.mktemp("installed") / "venv")
    command = [python, "-m", "pip", "install", sdist]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return python


def build(sdist, folder, path):
    """Have pip build a wheel from the source distribution with this PATH; return the completed process."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, sdist]
    environment = {**os.environ, "PATH": str(path)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def test_installs_what_the_wheel_of_the_sources_has(installed, wheel):
    program = "import importlib.metadata as m; print(*m.files('goproc'), sep='\\n')"
    listed = subprocess.run([installed, "-c", program], capture_output=True, text=True, check=True).stdout.splitlines()
    assert set(zipfile.ZipFile(wheel).namelist()) <= set(listed)
    added = [name for name in listed if name.startswith("goproc/") and "__pycache__" not in name]
    assert set(added) <= set(zipfile.ZipFile(wheel).namelist())


def test_what_is_installed_runs(installed, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [installed, "-W", "error", program]
    ran = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/nonexistent"}, timeout=120)
    assert (ran.stdout, ran.stderr) == (f"{__version__} [0, 1, 4]\n", "")


def test_says_what_is_missing(sdist, tmp_path):
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in BASICS:
        (commands / name).symlink_to(shutil.which(name))
    built = build(sdist, tmp_path / "wheel", commands)
    assert built.returncode == 1
    said = built.stdout + built.stderr
    assert "goproc cannot be built on this machine yet. Missing:" in said
    assert "- Go 1." in said and "- a C compiler" in said
    assert "Traceback" not in said.partition("Missing:")[0].rpartition("output")[2]


def test_has_no_tests_and_nothing_built(sdist):
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert not [name for name in names if name.endswith(("_test.go", ".so", ".o", ".pyc")) or "/tests/" in name]
