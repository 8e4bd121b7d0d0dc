"""goproc's column of the table: each fault is the exception of one task, and a killed program leaves no process."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_goprocs_column():
    command = [sys.executable, Path(__file__).with_name("run.py"), "--library", "goproc"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert (done.stderr, done.returncode) == ("", 0), done.stdout
    assert done.stdout.count(", goproc: ") == 11
