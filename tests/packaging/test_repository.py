"""The documents and build files agree with the code: their links and calls exist, and no fact is stated twice."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "RELEASING.md", ".github/PULL_REQUEST_TEMPLATE.md"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))
CHECK_WEEKLY = ROOT / "build_support" / "check_weekly.py"


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_links_and_named_files_exist(page):
    text = read(page)
    named = re.findall(r"\]\(([\w./-]+)\)", text)
    named += re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", text) + re.findall(r"`(\w+\.(?:md|toml))`", text)
    made = ("build/", "dist/", "/dev/")
    assert [name for name in named if not name.startswith(made) and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    commands = re.findall(r"`(make [^`\n]+)`", read(page)) + re.findall(r"(?m)^(?:.*; do )?(make .+)$", read(page))
    assert {command.split()[1].rstrip(";") for command in commands} <= TARGETS


def test_the_version_is_stated_once():
    version = re.search(r'(?m)^__version__ = "(.+)"$', read("python/goproc/__init__.py"))[1]
    for name in ("pyproject.toml", "setup.py", "pybind/pybind.go"):
        assert f'"{version}"' not in read(name), name


def test_hooks_are_what_make_lint_runs():
    hooks = re.findall(r"entry: make ([\w-]+)", read(".pre-commit-config.yaml"))
    assert hooks == re.search(r"(?m)^lint: ([^#\n]*)##", MAKEFILE)[1].split()


@pytest.fixture
def check_weekly(tmp_path):
    """Run check_weekly.py with another make, that is a shell script; return the completed process."""

    def run(make, *targets):
        path = tmp_path / "make"
        path.write_text(f"#!/bin/sh\n{make}\n")
        path.chmod(0o755)
        command = [sys.executable, CHECK_WEEKLY, *targets]
        environment = {**os.environ, "MAKE": str(path)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    return run


def test_a_weekly_check_that_fails_does_not_keep_others_from_running(check_weekly):
    done = check_weekly('echo "$1 runs"; [ "$1" != fuzz ]', "fuzz", "sanitize")
    assert (done.returncode, done.stderr) == (1, "")
    assert "fuzz runs\n" in done.stdout and "sanitize runs\n" in done.stdout
    assert re.search(
        r"make fuzz: FAILED with status 1, after 0\.\d minutes\nmake sanitize: passed, .*\n\Z", done.stdout
    )


def test_weekly_checks_that_pass(check_weekly):
    checks = re.search(r"(?m)^WEEKLY \?= (.+)$", MAKEFILE)[1].split()
    assert set(checks) <= TARGETS
    done = check_weekly("true", *checks)
    assert (done.returncode, done.stdout.count(": passed")) == (0, len(checks))


def test_an_unknown_weekly_check(check_weekly):
    done = check_weekly("true", "fuzz", "fuss")
    assert done.returncode == 2
    assert "no such check: fuss." in done.stderr


def test_licences_of_what_is_linked_in():
    """Each Go module that is in the engine has its licence in licenses/, and the table there names it."""
    go = ["go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}\t{{.Dir}}{{end}}"]
    # gopy's package is only in the code that it generates.
    packages = ["./pybind", "./capi/...", "github.com/go-python/gopy/gopyh"]
    listed = subprocess.run([*go, *packages], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    linked = dict(line.split("\t") for line in listed.splitlines() if line)
    del linked["github.com/goproc/goproc"]
    goroot = subprocess.run(["go", "env", "GOROOT"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = {name: Path(folder, "LICENSE").read_text() for name, folder in linked.items()}
    if (own := Path(goroot.strip(), "LICENSE")).exists():  # not with the Go of some distributions
        texts["the Go runtime"] = own.read_text()
    table = ROOT.joinpath("licenses", "README.md").read_text()
    rows = dict(re.findall(r"(?m)^\| `([\w-]+\.txt)` \| (\S.*?) \|", table))
    assert rows.keys() == {path.name for path in ROOT.joinpath("licenses").glob("*.txt")}
    for name, text in texts.items():
        (file,) = (file for file, project in rows.items() if name in project)
        assert ROOT.joinpath("licenses", file).read_text() == text, name
