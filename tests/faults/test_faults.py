"""goproc's column of the table: each fault is one task's exception, and nothing is left of a killed program."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_goprocs_column():
    command = [sys.executable, Path(__file__).with_name("run.py"), "--library", "goproc"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=110, check=True)
    cells = dict(line.split(", goproc: ") for line in done.stdout.splitlines() if ", goproc: " in line)
    assert len(cells) == 11
    for fault, cell in cells.items():
        expected = "all gone " if fault.startswith("killed") else "`"
        assert cell.startswith(expected) and "**" not in cell and "lost" not in cell.replace("LostError", ""), fault
