"""Builds the wheel as a user's `pip install .` does: isolated, from a folder with a space in its name.

This folder must not become a package (no __init__.py): it would hide the package `packaging` that pytest imports.
"""

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCE = shutil.ignore_patterns(
    "build", "dist", ".git", ".venv*", "*.so", "*.egg-info", "__pycache__", ".*_cache", ".coverage*"
)


@pytest.fixture(scope="session")
def new_environment():
    """A function that makes an environment in a folder, and returns the path of its interpreter."""

    def make(folder):
        venv.create(folder, with_pip=True, symlinks=True)
        return folder / "bin" / "python"

    return make


@pytest.fixture(scope="session")
def source_copy(tmp_path_factory):
    """The sources alone, as a clean clone has them, in a folder with a space in its name."""
    copy = tmp_path_factory.mktemp("source") / "a clone of goproc"
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCE)
    return copy


@pytest.fixture(scope="session")
def wheel(source_copy, tmp_path_factory):
    """The path of a wheel that pip has built in isolation."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, source_copy]
    built = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("goproc-*.whl")
    return path


@pytest.fixture(scope="session")
def unpacked(wheel, tmp_path_factory):
    """The wheel's files."""
    folder = tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@pytest.fixture(scope="session")
def fresh_python(wheel, new_environment, tmp_path_factory):
    """The interpreter of a fresh environment with nothing but the wheel installed in it."""
    python = new_environment(tmp_path_factory.mktemp("fresh") / "venv")
    subprocess.run([python, "-m", "pip", "install", "--no-index", "--quiet", wheel], check=True, timeout=300)
    return python
