"""Wheels in Debian 11 and 12: if they cannot be tested, the script prints one line, and leaves no files.

Short scripts take the place of the commands that it calls.
"""

import os
import platform
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "build_support" / "wheels" / "debian_roots.sh"

# It fails in the middle.
DEBOOTSTRAP = """
for folder; do case $folder in *.new) mkdir -p "$folder" ;; esac; done
echo no such host >&2
exit 1
"""


@pytest.fixture
def run(tmp_path):
    commands = tmp_path / "bin"
    wheels = tmp_path / "dist"
    for folder in commands, wheels:
        folder.mkdir()
    wheels.joinpath(f"goproc-0.1.0-cp311-cp311-manylinux_2_17_{platform.machine()}.whl").write_bytes(b"")

    def run(folder=wheels, **stand_ins):
        allowed = {"id": "echo 0", "unshare": 'shift; exec "$@"', "mount": "", "chroot": "", "apt-get": ""}
        for name, text in {**allowed, **stand_ins}.items():
            path = commands / name
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{commands}:{os.environ['PATH']}",
            "GOPROC_DEBIAN": str(tmp_path / "systems"),
        }
        command = ["bash", SCRIPT, folder, "tests/examples"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    return run


@pytest.mark.parametrize(
    ("stand_ins", "why"),
    [
        ({"id": "echo 1000"}, "needs root"),
        ({"unshare": "exit 1"}, "does not allow mount namespaces"),
        ({"debootstrap": DEBOOTSTRAP}, "could not be had: no such host"),
    ],
)
def test_where_they_cannot_be_had(run, tmp_path, stand_ins, why):
    done = run(**stand_ins)
    assert done.returncode == 3
    assert done.stderr.startswith("wheels in Debian: not tested, ") and why in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""
    assert not list(tmp_path.glob("systems/11*"))


def test_where_there_is_no_wheel(run, tmp_path):
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"wheels in Debian: not tested, as {tmp_path} has no wheel for {platform.machine()}\n"
