"""goproc's columns of the table: each fault is the exception of one task, and a killed program leaves no process."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("library", ["goproc", "goproc.futures"])
def test_goprocs_columns(library):
    command = [sys.executable, Path(__file__).with_name("run.py"), "--library", library]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert (done.stderr, done.returncode) == ("", 0), done.stdout
    assert done.stdout.count(f", {library}: ") == 11
