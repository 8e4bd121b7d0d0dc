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

BASICS = ("sh", "uname", "sed", "sort", "head", "mktemp", "rm", "printf", "env")


@pytest.fixture(scope="module")
def sdist(source_copy):
    """The path of the source distribution."""
    command = ["make", "sdist", f"PYTHON={sys.executable}"]
    made = subprocess.run(command, cwd=source_copy, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stdout + made.stderr
    return source_copy / "dist" / f"goproc-{__version__}.tar.gz"


def build(sdist, folder, path):
    """Have pip build a wheel from the source distribution with this PATH; return the completed process."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, sdist]
    environment = {**os.environ, "PATH": str(path)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def test_builds_the_wheel_that_the_sources_build(sdist, wheel, tmp_path):
    built = build(sdist, tmp_path, os.environ["PATH"])
    assert built.returncode == 0, built.stdout + built.stderr
    names = [sorted(zipfile.ZipFile(path).namelist()) for path in (tmp_path / wheel.name, wheel)]
    assert names[0] == names[1]


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
