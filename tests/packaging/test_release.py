"""build_support/release.py: the version, the changelog, and files that are the same in two builds."""

import gzip
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHANGELOG = """# Changelog

## [Unreleased]

### Added

- Something.

[Unreleased]: https://github.com/goproc/goproc/commits/main
"""


@pytest.fixture
def project(tmp_path):
    """A repository with what release.py changes."""
    for name in "build_support", "python/goproc":
        tmp_path.joinpath(name).mkdir(parents=True)
    script = "build_support/release.py"
    tmp_path.joinpath(script).write_text(ROOT.joinpath(script).read_text())
    tmp_path.joinpath("python/goproc/__init__.py").write_text('"""A package."""\n\n__version__ = "0.1.0.dev0"\n')
    tmp_path.joinpath("CHANGELOG.md").write_text(CHANGELOG)
    tmp_path.joinpath("Makefile").write_text("%:\n\t@echo 'make $@ ($(ARGS))' >&2; exit 3\n")
    for command in ["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "begin"]:
        git(tmp_path, *command)
    return tmp_path


def git(folder, *arguments):
    identity = {f"GIT_{who}_{what}": "nobody" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **identity}, check=True, capture_output=True, text=True
    )


def release(project, *arguments):
    identity = {f"GIT_{who}_{what}": "nobody" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = [sys.executable, "build_support/release.py", *arguments]
    return subprocess.run(command, cwd=project, env={**os.environ, **identity}, capture_output=True, text=True)


def test_the_version_and_the_changelog(project):
    """Both are written and committed before anything is built. An error after that is reported."""
    done = release(project, "0.1.0")
    assert done.returncode == 1 and "release: make ended with status" in done.stderr
    assert '__version__ = "0.1.0"\n' in project.joinpath("python/goproc/__init__.py").read_text()
    text = project.joinpath("CHANGELOG.md").read_text()
    assert "## [Unreleased]\n\n## [0.1.0] - 20" in text and text.index("[0.1.0] -") < text.index("- Something.")
    assert "[Unreleased]: https://github.com/goproc/goproc/compare/v0.1.0...main\n" in text
    assert text.endswith("\n[0.1.0]: https://github.com/goproc/goproc/releases/tag/v0.1.0\n")
    assert git(project, "log", "-1", "--format=%s").stdout == "release: 0.1.0\n"
    assert git(project, "status", "--porcelain").stdout == ""
    done = release(project, "0.1.0", "--notes")
    assert (done.returncode, done.stdout) == (0, "### Added\n\n- Something.\n")
    done = release(project, "0.2.0", "--notes")
    assert done.returncode == 1 and "CHANGELOG.md has no section of 0.2.0" in done.stderr


@pytest.mark.parametrize(
    ("version", "changelog", "reason"),
    [
        ("1.0", CHANGELOG, "is no version"),
        ("0.1.0", CHANGELOG.replace("- Something.\n", ""), "has no entry"),
        ("0.1.0", CHANGELOG + "\n## [0.1.0] - 2026-01-01\n", "is in CHANGELOG.md already"),
        ("0.2.0", CHANGELOG + "\n## [0.10.0] - 2026-01-01\n", "does not follow 0.10.0"),
    ],
)
def test_what_cannot_be_released(project, version, changelog, reason):
    project.joinpath("CHANGELOG.md").write_text(changelog)
    git(project, "commit", "--quiet", "--all", "--allow-empty", "--message", "change")
    done = release(project, version)
    assert done.returncode == 1 and reason in done.stderr
    assert git(project, "status", "--porcelain").stdout == ""


def test_arguments_of_make_release_do_not_reach_other_targets(project, monkeypatch):
    monkeypatch.setenv("MAKEFLAGS", " -- ARGS=--only-build")
    monkeypatch.setenv("ARGS", "--only-build")
    done = release(project, "0.1.0.dev0", "--only-build")
    assert done.returncode == 1 and "make sdist ()\n" in done.stderr


def test_changes_that_are_not_committed(project):
    project.joinpath("new.txt").write_text("")
    done = release(project, "0.1.0")
    assert done.returncode == 1 and "not committed" in done.stderr


@pytest.fixture
def module():
    """release.py, imported."""
    spec = importlib.util.spec_from_file_location("release", ROOT / "build_support" / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_builds_are_compared(module, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in first, second:
        folder.mkdir()
        folder.joinpath("a.whl").write_bytes(b"same")
    first.joinpath("only-in-the-first.whl").write_bytes(b"")
    module.compare(first, second)
    assert capsys.readouterr().out == "release: a.whl is the same in two builds\n"
    second.joinpath("a.whl").write_bytes(b"other")
    with pytest.raises(SystemExit, match=r"two builds of one commit give different files: a\.whl"):
        module.compare(first, second)
    first.joinpath("a.whl").unlink()
    with pytest.raises(SystemExit, match=r"the second build has made a\.whl, the first has not"):
        module.compare(first, second)


def test_a_source_distribution_has_the_same_bytes_each_time(module, tmp_path):
    packed = []
    for number, names in enumerate((["b/x", "a"], ["a", "b/x"])):
        path = tmp_path / f"{number}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size, info.mtime, info.uname = 3, number * 1000, f"user{number}"
                archive.addfile(info, io.BytesIO(b"abc"))
        module.normalize(path, 86400)
        packed.append(path.read_bytes())
    assert packed[0] == packed[1]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed[0]))) as archive:
        assert archive.getnames() == ["a", "b/x"]
        assert archive.extractfile("a").read() == b"abc" and archive.getmember("a").mtime == 86400
