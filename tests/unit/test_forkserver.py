"""The fork server: its preloaded modules, and the exit statuses of its children."""

import os
import signal
import time
from multiprocessing import connection

import process_targets as targets
import pytest

import goproc
from goproc import forkserver
from goproc._common import engine


def test_who_knows_that_a_process_has_ended_knows_how():
    """The kernel makes the sentinel readable; the server sends the exit status."""
    context = goproc.get_context("forkserver")
    for number in range(40):
        process = context.Process(target=targets.exit_with, args=(number,))
        process.start()
        connection.wait([process.sentinel])
        assert not process.is_alive()
        assert process.exitcode == number
        process.close()


@pytest.mark.slow
def test_while_the_server_is_stopped():
    """Nothing waits for the stopped server for ever."""
    process = goproc.get_context("forkserver").Process(target=time.sleep, args=(1000,))
    process.start()
    server = engine.call("ServerPid", "forkserver")
    os.kill(server, signal.SIGSTOP)
    try:
        process.kill()
        connection.wait([process.sentinel])
        assert process.exitcode is None
    finally:
        os.kill(server, signal.SIGCONT)
    process.join()
    assert process.exitcode == -signal.SIGKILL


PRELOAD = """
import goproc, sys

def nothing():
    pass

def start():
    process = goproc.get_context("forkserver").Process(target=nothing)
    process.start()
    process.join()
    print(process.exitcode)

if __name__ == "__main__":
    goproc.set_forkserver_preload(["__main__", *sys.argv[3:]], on_error=sys.argv[1])
    try:
        start()
    except EOFError as error:
        said = [str(error), *getattr(error, "__notes__", [])]
        print("EOFError", "may have crashed during module preloading" in said[-1])
elif sys.argv[2] == "fails":
    import one_that_is_missing
"""


@pytest.mark.parametrize("library", ["goproc", "multiprocessing"])
@pytest.mark.parametrize(
    ("on_error", "main", "modules", "printed", "says"),
    [
        ("ignore", "works", "one_that_is_missing", "0", None),
        ("warn", "works", "colorsys one_that_is_missing", "0", "Failed to preload module 'one_that_is_missing'"),
        ("warn", "works", "one_that_divides", "0", "Failed to preload module 'one_that_divides': division by zero"),
        ("warn", "works", "colorsys", "0", None),
        ("warn", "fails", "", "1", "Failed to preload __main__"),
        ("fail", "works", "colorsys", "0", None),
        ("fail", "works", "one_that_is_missing", "EOFError True", "No module named 'one_that_is_missing'"),
        ("fail", "works", "one_that_divides", "EOFError True", "division by zero"),
        ("fail", "fails", "", "EOFError True", "No module named 'one_that_is_missing'"),
    ],
)
def test_what_cannot_be_preloaded(run_script, tmp_path, library, on_error, main, modules, printed, says):
    (tmp_path / "one_that_divides.py").write_text("1 / 0")
    (tmp_path / "program.py").write_text(PRELOAD.replace("goproc", library) if library == "goproc" else INSTALLED)
    done = run_script(
        tmp_path / "program.py", on_error, main, *modules.split(), options=["-W", "always::ImportWarning"]
    )
    assert done.stdout.strip() == printed
    if says is None:
        assert done.stderr == ""
    else:
        assert says in done.stderr


INSTALLED = "import goproc\ngoproc.install()\n" + PRELOAD.replace("goproc", "multiprocessing")


def test_bad_arguments_for_preloading():
    for set_preload in (
        goproc.set_forkserver_preload,
        goproc.get_context("spawn").set_forkserver_preload,
        forkserver.set_forkserver_preload,
    ):
        with pytest.raises(ValueError, match="on_error must be 'ignore', 'warn', or 'fail', not 'raise'"):
            set_preload(["__main__"], on_error="raise")
        with pytest.raises(TypeError, match="must be a list of strings"):
            set_preload([3], on_error="warn")
    assert forkserver._forkserver._preload_on_error == "ignore"
