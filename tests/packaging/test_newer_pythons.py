"""Interpreters from Debian unstable: if they cannot be installed, the script prints one line, and leaves no files.

Short scripts take the place of the commands that it calls.
"""

import os
import stat
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "build_support" / "newer_pythons.sh"

DEBOOTSTRAP = """
for folder; do case $folder in *.new) break ;; esac; done
mkdir -p "$folder/etc/apt/apt.conf.d" "$folder/usr/bin" "$folder/usr/include"
for version in 3.14 3.15; do
    : >"$folder/usr/bin/python$version" && chmod +x "$folder/usr/bin/python$version"
    mkdir -p "$folder/usr/include/python$version"
done
"""


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()

    def stand_in(name, text):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run(*arguments, **commands):
        allowed = {"id": "echo 0", "unshare": 'shift; exec "$@"', "mount": "", "chroot": "", "apt-config": ""}
        for name, text in {**allowed, **commands}.items():
            stand_in(name, text)
        return subprocess.run(
            ["bash", SCRIPT, *arguments],
            env={
                **os.environ,
                "PATH": f"{folder}:{os.environ['PATH']}",
                "PYENV_ROOT": str(tmp_path),
                "GOPROC_NEWER_PYTHONS": str(tmp_path / "folder"),
            },
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.mark.parametrize(
    ("commands", "why"),
    [
        ({"id": "echo 1000"}, "needs root"),
        ({"unshare": "exit 1"}, "does not allow mount namespaces"),
        ({"debootstrap": "mkdir -p $4; echo no such host >&2; exit 1"}, "could not be had: no such host"),
    ],
)
def test_where_they_cannot_be_had(run, tmp_path, commands, why):
    done = run("make", **commands)
    assert done.returncode == 1
    assert done.stderr.startswith("newer Pythons: not tested, ") and why in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""
    assert not (tmp_path / "folder").exists() and not (tmp_path / "folder.new").exists()
    assert run("list", **commands).stdout == ""


def test_the_folder_is_made_once(run, tmp_path):
    assert run("make", debootstrap=DEBOOTSTRAP).returncode == 0
    assert (tmp_path / "folder" / "usr" / "bin" / "python3.15").exists()
    done = run("make", debootstrap="exit 1")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_what_the_machine_has_is_not_listed(run):
    there = 'case "$2" in *sys.executable*) echo "$0" ;; *) echo 3.14 ;; esac'
    assert run("make", debootstrap=DEBOOTSTRAP).returncode == 0
    assert run("list", **{"python3.14": there, "python3.15": "exit 1"}).stdout == "3.15\n"
    assert run("list", **{"python3.14": "exit 1"}).stdout == "3.14\n3.15\n"
