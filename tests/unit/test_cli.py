"""python -m goproc: a program finds the same as under plain python, and its children are goproc's."""

import re
import signal
import sys

import pytest

import goproc


def both(run_script, *arguments, status=0, **options):
    """Run a command line with python and with python -m goproc; return the two results, without addresses."""
    plain = run_script(*arguments, status=status, **options)
    own = run_script("-m", "goproc", *arguments, status=status, **options)
    return [[re.sub(r"0x[0-9a-f]+", "0x", text) for text in (done.stdout, done.stderr)] for done in (plain, own)]


@pytest.mark.parametrize(
    "status, arguments",
    [
        (0, ["show_main.py", "an argument", "--stats"]),
        (1, ["show_main.py", "raise"]),
        (-signal.SIGINT, ["show_main.py", "interrupt"]),
        (1, ["show_main.py", "exit"]),
        (2, ["missing.py"]),
        (0, ["folder", "an argument"]),
        (1, ["folder", "raise"]),
        (0, ["-m", "show_main", "an argument"]),
        (1, ["-m", "show_main", "raise"]),
        (0, ["-m", "package"]),
        (1, ["-m", "missing"]),
        (0, ["-c", "import sys; print(sys.argv, repr(sys.path[0]), __name__, __spec__)", "x", "-y"]),
        (0, ["-", "an argument"]),
    ],
)
def test_the_program_sees_what_it_sees_under_python(run_script, status, arguments):
    program = "import sys; print(sys.argv, repr(sys.path[0]), globals().keys(), __file__)"
    plain, own = both(run_script, *arguments, status=status, input=program)
    assert own == plain


def test_a_program_that_does_not_compile(run_script, tmp_path):
    (tmp_path / "program.py").write_text("def broken(:\n")
    plain, own = both(run_script, "program.py", status=1, cwd=tmp_path)
    assert own == plain


def test_through_a_link(run_script, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "program.py").write_text("import sys; print(sys.path[0], __file__)")
    (tmp_path / "link.py").symlink_to("elsewhere/program.py")
    plain, own = both(run_script, "link.py", cwd=tmp_path)
    assert own == plain


@pytest.mark.parametrize("how", [["everything.py"], ["-m", "everything"]])
def test_prints_what_it_prints_under_multiprocessing(run_script, method, how):
    plain, own = both(run_script, *how, method, options=["-W", "error"] if sys.version_info < (3, 12) else [])
    assert own == plain
    assert own[1] == ""


def test_start_method(run_script, method):
    own = run_script("-m", "goproc", "--start-method", method, "everything.py")
    assert own.stdout.splitlines()[-1] == f"{method} []"
    assert own.stderr == ""
    by_variable = run_script("-m", "goproc", "everything.py", GOPROC_START_METHOD=method)
    assert by_variable.stdout == own.stdout


def test_stats(run_script):
    wanted = "goproc: processes started: fork 0, spawn 3, forkserver 0; tasks done: 0; workers lost: 0\n"
    assert run_script("-m", "goproc", "--stats", "everything.py", "spawn").stderr == wanted
    assert run_script("-m", "goproc", "everything.py", "spawn", GOPROC_STATS="1").stderr == wanted
    idle = run_script("-c", "import logging, multiprocessing.util, goproc", GOPROC_STATS="1")
    assert idle.stderr == wanted.replace("spawn 3", "spawn 0")


def test_without_a_guard(run_script, method):
    """fork imports nothing; with the others the child raises multiprocessing's error, and its parent ends with it."""
    plain = run_script("unguarded.py", method, status=None)
    own = run_script("-m", "goproc", "unguarded.py", method, status=None)
    assert (own.returncode, own.stdout) == (plain.returncode, plain.stdout)
    last = plain.stderr.splitlines()[-1:]
    if method == "forkserver" and last and last[0].startswith(("ConnectionResetError", "BrokenPipeError")):
        # The child of multiprocessing's server may have ended before the main program has sent it everything.
        last = ["RuntimeError: context has already been set"]
    assert own.stderr.splitlines()[-1:] == last
    own = run_script("-m", "goproc", "--start-method", method, "unguarded.py", status=None)
    bootstrapping = "current process has finished its bootstrapping phase"
    assert (bootstrapping in own.stderr) == (method != "fork") == (own.returncode != 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "no program to run"),
        (["--nonsense", "x.py"], "unknown option --nonsense"),
        (["-m"], "-m needs a value"),
        (["--start-method", "thread", "x.py"], "it must be one of fork, spawn, forkserver"),
        (["--start-method"], "--start-method needs a value"),
    ],
)
def test_wrong_use(run_script, arguments, message):
    done = run_script("-m", "goproc", *arguments, status=2)
    assert done.stderr.startswith(
        "usage: python -m goproc [--start-method METHOD] [--futures] [--stats] [--cluster ADDRESS]"
    )
    assert message in done.stderr


def test_help_and_version(run_script):
    assert "--start-method METHOD" in run_script("-m", "goproc", "--help").stdout
    assert run_script("-m", "goproc", "--version").stdout == f"goproc {goproc.__version__}\n"


PATHS = ["./program.py", ".//program.py", "folder/../program.py", "link/../program.py", "link"]


@pytest.mark.parametrize("name", PATHS)
def test_the_path_of_a_program_is_as_it_was_given(run_script, tmp_path, name):
    """link/.. is not the folder of the link."""
    text = "import sys; print(__file__, sys.argv[0], sys.path[0])"
    for folder in (tmp_path, tmp_path / "other"):
        (folder / "folder").mkdir(parents=True)
        (folder / "program.py").write_text(text)
    (tmp_path / "other" / "folder" / "__main__.py").write_text(text)
    (tmp_path / "link").symlink_to(tmp_path / "other" / "folder")
    assert run_script("-m", "goproc", name, cwd=tmp_path).stdout == run_script(name, cwd=tmp_path).stdout
