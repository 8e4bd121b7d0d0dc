"""goproc's columns of the tables: a fault costs one task, a killed program leaves no process, nobody waits for it."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("library", "faults"), [("goproc", 18), ("goproc.futures", 11), ("goproc.joblib", 11)])
def test_goprocs_columns(library, faults):
    command = [sys.executable, Path(__file__).with_name("run.py"), "--library", library]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert (done.stderr, done.returncode) == ("", 0), done.stdout
    assert done.stdout.count(f", {library}: ") == faults
