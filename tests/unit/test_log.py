"""goproc's messages in the log and on standard error, and the titles of its processes in ps and top."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal
import goproc

def nothing():
    pass

def die(x):
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    {start}
    context = goproc.get_context("{method}")
    process = context.Process(target=nothing)
    process.start()
    process.join()
    with context.Pool(2) as pool:
        pool.map(abs, range(8), chunksize=1)
        try:
            pool.apply(die, (1,))
        except goproc.WorkerLostError as error:
            print(os.getpid(), process.pid, error.pid)
"""


def told(run_script, tmp_path, method, start="", **variables):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(method=method, start=start))
    done = run_script(path, **variables)
    return done.stderr, done.stdout.split()


@pytest.mark.parametrize("how", ["variable", "call"])
def test_debug(run_script, tmp_path, method, how):
    """Starts, tasks, losses and replacements are told, with process ids; and nothing is told twice."""
    if how == "variable":
        text, (program, process, lost) = told(run_script, tmp_path, method, GOPROC_LOG="debug")
    else:
        text, (program, process, lost) = told(run_script, tmp_path, method, "goproc.log_to_stderr(10)")
    lines = text.splitlines()
    assert lines.count(f"[DEBUG/MainProcess] process {program} has loaded its engine") == 1
    assert lines.count(f"[DEBUG/MainProcess] process {process} was started ({method})") == 1
    engine = f"[DEBUG/engine of {program}] "
    assert len(re.findall(rf"^{re.escape(engine)}worker \d+ was added, in slot [01]$", text, re.M)) == 3
    assert lines.count(engine + f"task 1.0 was handed to worker {lost}") == 1
    assert lines.count(engine + f"worker {lost} has ended with exit code -9") == 1
    assert lines.count(engine + f"task 1.0 was lost with worker {lost}") == 1
    assert f"[WARNING/MainProcess] pool: worker {lost} was killed by signal 9; another one takes its place" in lines
    assert re.search(r"^\[DEBUG/\w+PoolWorker-\d+\] worker \d+ takes tasks$", text, re.M)
    if method == "forkserver":
        server = rf"^\[DEBUG/fork server \d+ of {program}\] "
        assert re.search(rf"{server}process {process} was forked$", text, re.M)
        assert re.search(rf"{server}process {lost} has ended with exit code -9$", text, re.M)
    if method == "spawn":
        assert f"{engine}process {process} executes {sys.executable}" in lines
    for line in lines:
        assert "running all" in line or "remaining" in line or "added worker" in line or lines.count(line) == 1, line


def test_less_than_debug(run_script, tmp_path, method):
    text, (_, _, lost) = told(run_script, tmp_path, method, GOPROC_LOG="Warning")
    assert len(text.splitlines()) == 2 and text.count(f"{lost}") >= 2 and "DEBUG" not in text


def test_nothing_unless_asked_for(run_script, tmp_path, method):
    assert told(run_script, tmp_path, method)[0] == ""
    assert told(run_script, tmp_path, method, GOPROC_LOG="")[0] == ""


def test_a_level_that_there_is_not(run_script):
    done = run_script("-c", "import goproc", GOPROC_LOG="loud")
    assert "GOPROC_LOG='loud' is ignored: it must be debug, info, warning or error" in done.stderr


def test_standard_error_is_closed(run_script, tmp_path):
    """The messages are dropped, and the program goes on."""
    path = tmp_path / "program.py"
    path.write_text(
        PROGRAM.format(method="forkserver", start="").replace("import goproc", "os.close(2)\nimport goproc")
    )
    done = run_script(path, GOPROC_LOG="debug")
    assert len(done.stdout.split()) == 3


TITLES = """
import sys, time
import goproc

if __name__ == "__main__":
    context = goproc.get_context("{method}")
    with context.Pool(6) as pool:
        pool.map(abs, range(8), chunksize=1)
        time.sleep(0.1)
        print("ready", *sorted(process.pid for process in pool._pool), flush=True)
        sys.stdin.read()
"""


def descendants(pid):
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += [int(child), *descendants(child)]
    return found


def shown(pid):
    """What ps shows, without the null bytes that fill it up; and what top shows."""
    arguments = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").replace("\0", " ")
    return arguments, Path(f"/proc/{pid}/comm").read_text().rstrip("\n")


@pytest.mark.part("process-titles")
@pytest.mark.parametrize(("method", "name"), [("spawn", "spawn server"), ("forkserver", "fork server")])
def test_titles_of_servers(tmp_path, method, name):
    """Servers and what stands by have a title; a process of the program has the command line that it was made with."""
    path = tmp_path / "program.py"
    path.write_text(TITLES.format(method=method))
    with subprocess.Popen([sys.executable, path], stdin=-1, stdout=-1, text=True) as program:
        workers = [int(word) for word in program.stdout.readline().split()[1:]]
        title = f"goproc: {name} of {program.pid}"
        titles = {pid: shown(pid) for pid in descendants(program.pid)}
        program.stdin.close()
    servers = [pid for pid in titles if titles[pid][0] == title]
    standing_by = [pid for pid in titles if titles[pid] == (f"goproc: standby of {program.pid}", "goproc: standby")]
    assert len(servers) == 1 and titles[servers[0]][1] == title[:15]
    if "standby" not in os.environ.get("GOPROC_DISABLE", ""):
        assert standing_by
    for worker in workers:
        assert titles[worker][0].startswith(sys.executable) and "--multiprocessing-fork" in titles[worker][0]
        assert "goproc:" not in titles[worker][1]


REPLACED = """
import os
import goproc

def read(pid, file):
    with open(f"/proc/{pid}/{file}") as opened:
        return opened.read()

def shown(pid):
    # They change one after the other: the arguments last, and back again first.
    arguments, name = read(pid, "cmdline"), read(pid, "comm")
    while arguments != read(pid, "cmdline"):
        arguments, name = read(pid, "cmdline"), read(pid, "comm")
    return arguments.rstrip("\\0").replace("\\0", " "), name.rstrip("\\n")

def look(main):
    found = set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == main:
                    found.add(shown(entry))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return shown("self"), found

if __name__ == "__main__":
    with goproc.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        results = pool.map(look, [os.getpid()] * 100, 1)
    # Not the name: from Python 3.14 on a thread has one of its own, which a worker that it forks keeps.
    own, seen = {result[0][0] for result in results}, set().union(*(result[1] for result in results))
    titles = {found for found in seen if found[0] and found[0] != shown("self")[0]}
    print(own == {shown("self")[0]}, titles, os.getpid(), sep="|")
"""


@pytest.mark.part("process-titles", "clones")
@pytest.mark.parametrize("name", ["program.py", "p"])
def test_title_of_a_template(tmp_path, name):
    """The title is cut if the command line is short. Workers cloned from the template have the program's title."""
    (tmp_path / name).write_text(REPLACED)
    done = subprocess.run([sys.executable, name], capture_output=True, text=True, cwd=tmp_path, check=True)
    same, seen, pid = done.stdout.strip().split("|")
    title = f"goproc: template of {pid}"[: len(sys.executable) + 1 + len(name)]
    assert (same, seen) == ("True", repr({(title, "goproc: templat")}))
