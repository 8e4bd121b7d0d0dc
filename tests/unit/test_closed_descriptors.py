"""A program that closes descriptors that it has not opened: tests/scripts/closed_descriptors.py."""

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    [
        "between_two",
        "after_a_process",
        "one_by_one",
        "while_joining",
        "pool_in_use",
        "orphans",
        "in_child",
        "in_worker",
    ],
)
def test_closed_descriptors(run_script, scenario, method):
    assert "done" in run_script("closed_descriptors.py", scenario, method).stdout


#: It ends with the sum of its children's exit statuses. A child that cannot print has the status 1.
WITHOUT_STREAMS = """
import os, sys
if __name__ == "__main__" and len(sys.argv) == 3:
    for fd in sys.argv.pop():
        os.close(int(fd))
    os.execv(sys.executable, [sys.executable, "-m", "goproc", *sys.argv])
import multiprocessing
if __name__ == "__main__":
    context, status = multiprocessing.get_context(sys.argv[1]), 0
    for _ in range(3):  # the first of spawn is executed, the others are cloned
        lock = context.Lock()
        process = context.Process(target=print, args=("a line",))
        process.start()
        process.join()
        status += process.exitcode
    with context.Pool(1) as pool:
        pool.map(print, ["a line"])
    sys.exit(status)
"""


@pytest.mark.parametrize("closed", ["1", "2", "01", "012"])
def test_without_standard_streams(run_script, tmp_path, closed, method):
    """A daemon may run without them. What its children inherit must not get their numbers: they would print into it."""
    (tmp_path / "program.py").write_text(WITHOUT_STREAMS)
    done = run_script("program.py", method, closed, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("" if "1" in closed else "a line\n" * 4, "")


#: It closes its streams, as hand-written daemons do, and prints the files that have got their numbers.
CLOSING = """
import os, sys
import multiprocessing
if __name__ == "__main__":
    context, shown = multiprocessing.get_context(sys.argv[1]), os.dup(1)
    os.closerange(0, 3)
    lock = context.Lock()
    with context.Pool(1) as pool:
        pool.map(len, ["text"])
        names = [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3) if os.path.lexists(f"/proc/self/fd/{fd}")]
        os.write(shown, repr([name for name in names if "goproc" in name]).encode())
"""


def test_locks_and_pools_do_not_get_the_numbers_of_standard_streams(run_script, tmp_path, method):
    """What is printed, also by C or in a traceback, would be written into it."""
    (tmp_path / "program.py").write_text(CLOSING)
    assert run_script("-m", "goproc", "program.py", method, cwd=tmp_path).stdout == "[]"
