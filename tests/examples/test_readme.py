"""README.md: its programs print the output that it shows, and its links point to files that exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def programs():
    """Return each program of the README with the output that follows it: the next block that is not a program."""
    found, waiting = [], []
    for language, text in BLOCK.findall(README):
        if language == "python":
            waiting.append(text)
        else:
            found += [(program, text) for program in waiting]
            waiting = []
    return found


def prints(words, expected, folder):
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == (expected, "", 0)


@pytest.mark.parametrize(("program", "expected"), programs())
def test_program_prints_what_the_readme_says(program, expected, tmp_path):
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    prints(["program.py"], expected, tmp_path)


def test_first_program_runs_unchanged_on_goproc(tmp_path):
    """The program is one for multiprocessing; only its first line differs."""
    ours, expected = programs()[0]
    first, _, rest = ours.partition("\n")
    assert first == "import goproc as multiprocessing" and "goproc" not in rest
    assert len(ours.splitlines()) == 10
    (tmp_path / "program.py").write_text(f"import multiprocessing\n{rest}", encoding="utf-8")
    prints(["-m", "goproc", "program.py"], expected, tmp_path)
    prints(["program.py"], expected, tmp_path)


def test_links_and_folders_exist():
    named = re.findall(r"\]\(([\w./]+)\)", README) + re.findall(r"`((?:[\w]+/)+[\w.]*)`", README)
    assert named
    assert [name for name in named if not name.startswith("build/") and not (ROOT / name).exists()] == []


def test_make_targets_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= set(targets)
