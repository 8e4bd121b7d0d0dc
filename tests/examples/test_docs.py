"""The pages of docs/: their programs run as they stand, and print what the pages say they print.

A block of Python is a program. Blocks of text and of console after it, without another block or a heading in between,
say what it prints: `text` is the output of `python program.py`, `console` has command lines after "$ ", each with its
output. What a program prints to stderr is part of the output, as on a terminal. A program that has no such block must
print nothing. `<!-- not run: why -->` before a block marks a fragment that is no program. A program leaves no temporary
files.

A program that needs an extra that is not installed is skipped.

In outputs, 4711, 4712 and so on stand for process ids, each for one process, and a time such as 0.001 s for any time.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "```python\n" in path.read_text(encoding="utf-8"))
#: A heading, or a block with what marks it.
PART = re.compile(r"^#+ [^\n]*$|(<!-- not run: [^\n]* -->\n+)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: By a text in a program or its command: the package that the program needs.
EXTRAS = {"goproc.joblib": "joblib", "import cluster": "distributed", "--cluster": "distributed"}

specification = importlib.util.spec_from_file_location("examples_demo", ROOT / "examples" / "demo.py")
demo = importlib.util.module_from_spec(specification)
sys.modules["examples_demo"] = demo
specification.loader.exec_module(demo)


def programs():
    """Return a parameter for each program: its text, and a list of commands with their outputs."""
    found = []
    for page in PAGES:
        waiting = []
        for match in PART.finditer(page.read_text(encoding="utf-8")):
            marked, language, text = match.groups()
            if language == "python" and not marked:
                commands = []
                name = f"{page.relative_to(DOCS).with_suffix('')}-{sum(1 for each in found if each.values[0] == page)}"
                found.append(pytest.param(page, text, commands, id=name))
                waiting = commands
            elif language == "text" and waiting is not None:
                waiting.append(("python program.py", text))
            elif language == "console" and waiting is not None and not marked:
                sessions = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)
                waiting.extend(sessions)
            else:
                waiting = None
    return found


@pytest.fixture
def temporary():
    """A folder for temporary files, whose path is short enough for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="docs-") as folder:
        yield folder


@pytest.mark.parametrize(("page", "program", "commands"), programs())
def test_program_prints_what_the_page_says(page, program, commands, tmp_path, temporary):
    texts = [program, *(command for command, _ in commands)]
    for mark, package in EXTRAS.items():
        if any(mark in text for text in texts) and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name not in ("GOPROC_LOG", "GOPROC_STATS")}
    environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environment["PATH"]
    environment["TMPDIR"] = temporary
    environment["PYTHONUNBUFFERED"] = "1"  # as on a terminal, what is printed first comes first
    for command, expected in commands or [("python program.py", "")]:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        expected = re.sub(r"\b47\d\d\b", r"<p\g<0> pid>", expected)
        expected = re.sub(r"\b0\.\d{3} s\b", "<seconds> s", expected)
        assert demo.matches(expected, done.stdout), f"$ {command}\n{done.stdout}"
        assert done.returncode == 0
    assert os.listdir(temporary) == []
