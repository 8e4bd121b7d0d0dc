"""python -m goproc dump: what it says of programs that wait, from outside, and that they notice nothing."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import SCRIPTS, notes_of_main_thread, wait_until, where_proc_hides

import goproc
from goproc import _native

pytestmark = pytest.mark.part("dump", "locks")


class Program:
    """A program of wait_for_ever.py. pids: by the names that it prints."""

    def __init__(self, scenario, method):
        command = [sys.executable, "wait_for_ever.py", scenario, method]
        self._process = subprocess.Popen(command, cwd=SCRIPTS, stdout=subprocess.PIPE, text=True)
        self.pids = {}
        for line in self._process.stdout:
            if line == "ready\n":
                break
            name, pid = line.split()
            self.pids[name] = int(pid)
        else:
            pytest.fail(f"the program has ended: {self._process.wait()}")

    def end(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        for pid in self.pids.values():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


@pytest.fixture
def program():
    """Starts a program, and kills it at the end."""
    started = []

    def start(scenario, method="fork"):
        started.append(Program(scenario, method))
        return started[-1].pids

    yield start
    for each in started:
        each.end()


@pytest.fixture
def dump(run_script):
    """Runs the command; returns what it has printed, and its exit status."""

    def run(pid, **options):
        done = run_script("-m", "goproc", "dump", pid, status=None, **options)
        return done.stdout + done.stderr, done.returncode

    return run


@pytest.fixture
def dump_until(dump):
    """Runs the command until a pattern matches what it prints; returns that, and the exit status."""

    def run(pid, *patterns):
        last = []

        def matches():
            last[:] = dump(pid)
            return all(re.search(pattern, last[0], re.DOTALL) for pattern in patterns)

        try:
            wait_until(matches)
        except AssertionError:
            pytest.fail(f"not all of {patterns} in:\n{last[0]}")
        return last

    return run


def block(text, pid):
    """Return the block of one process."""
    return next(part for part in text.split("\n\n") if part.startswith(f"process {pid}"))


def test_two_processes_in_a_circle(program, dump_until, method):
    pids = program("abba", method)
    text, status = dump_until(pids["program"], "Deadlock: 2 threads wait for each other, in a circle")
    assert status == 3
    first, second = (f"process {pids[name]} ({name})" for name in ("p0", "p1"))
    assert re.search(rf"{re.escape(first)} waits for lock \d, which {re.escape(second)} holds", text)
    assert re.search(rf"{re.escape(second)} waits for lock \d, which {re.escape(first)} holds", text)
    for name in "p0", "p1":
        own = block(text, pids[name])
        assert f"{name}, child of" in own
        assert f"by {method}" in own
        assert re.search(r"waits for lock \d, since \d\d:\d\d:\d\d \(\d+\.\d s\)", own)
        assert re.search(r"held by process \d+ \(p\d\), thread \d+, since \d\d:\d\d:\d\d", own)
        assert re.search(r"holds lock \d, for which process \d+ \(p\d\) waits", own)
        assert re.search(r'wait_for_ever.py", line \d+, in take_both\n +second.acquire\(True, timeout\)', own)
    assert "the main program" in block(text, pids["program"])


@pytest.mark.parametrize("name", ["p0", "p1"])
def test_any_process_of_the_program_may_be_named(program, dump_until, method, name):
    pids = program("abba", method)
    text, _ = dump_until(pids[name], "Deadlock: 2 threads")
    assert block(text, pids["program"])


def test_three_processes_in_a_circle(program, dump_until, method):
    pids = program("three", method)
    text, status = dump_until(pids["program"], "Deadlock: 3 threads wait for each other, in a circle")
    assert status == 3
    assert len(re.findall(r"(?m)^  process \d+ \(p\d\) waits for lock \d, which process \d+ \(p\d\) holds$", text)) == 3


def test_a_lock_that_the_thread_itself_holds(program, dump_until, method):
    pids = program("itself", method)
    text, status = dump_until(pids["program"], "Deadlock: a thread waits for a lock that it holds itself")
    assert status == 3
    assert re.search(rf"process {pids['alone']} \(alone\) waits for lock 1, which process {pids['alone']}", text)


def test_a_join_in_a_circle(program, dump_until, method):
    pids = program("join_in_circle", method)
    text, status = dump_until(pids["program"], "Deadlock: 2 threads")
    assert status == 3
    assert f"waits for the end of process {pids['joined']} (joined)" in text


def test_a_wait_with_a_timeout_proves_nothing(program, dump_until):
    pids = program("with_timeout")
    text, status = dump_until(pids["program"], r"lock 1.*lock 2.*for at most \d+\.\d s more")
    assert "Deadlock" not in text
    assert status == 0


def test_a_lock_that_another_process_holds(program, dump_until, method):
    pids = program("held", method)
    text, status = dump_until(pids["program"], r"waits for lock 1, since.*held by")
    assert status == 0
    assert f"held by process {pids['holder']} (holder), thread {pids['holder']}, since" in block(text, pids["waiter"])
    assert f"holds lock 1, for which process {pids['waiter']} (waiter) waits" in block(text, pids["holder"])


def test_a_semaphore_has_several_holders(program, dump_until, method):
    pids = program("semaphore", method)
    text, _ = dump_until(pids["program"], "waits for semaphore 1")
    own = block(text, pids["waiter"])
    assert f"held by process {pids['holder']} (holder) 1 of 2 permits" in own
    assert f"held by process {pids['program']} (the main program) 1 of 2 permits" in own


@pytest.mark.parametrize(
    "scenario, name, pattern",
    [
        ("signals", "waiter", r"waits for semaphore 1, since .*its permits belong to nobody"),
        ("queue", "getter", r"waits for an item of queue 1, since"),
        ("full_queue", "putter", r"waits for room in queue 1, since"),
        ("joined_queue", "joiner", r"waits for the tasks of queue 1, since"),
        (
            "noted_queue",
            "getter",
            r"waits for an item of queue 1, since.*process \d+ \(the main program\) keeps it waiting",
        ),
        ("event", "waiter", r"waits for event 1, since"),
        ("condition", "waiter", r"waits for condition 1, since"),
        ("barrier", "waiter", r"waits for barrier 1, since"),
    ],
)
def test_what_a_process_waits_for(program, dump_until, method, scenario, name, pattern):
    pids = program(scenario, method)
    text, status = dump_until(pids["program"], rf"process {pids[name]}, [^\n]*\n(?:  [^\n]*\n)*? *{pattern}")
    assert status == 0
    assert re.search("in (call|wait_at|note_a_queue)\n", block(text, pids[name]))


def test_a_join(program, dump_until, method):
    pids = program("join", method)
    text, _ = dump_until(pids["program"], rf"waits for the end of process {pids['sleeper']} \(sleeper\), since")
    assert "sleeps in the kernel" in block(text, pids["sleeper"])


def test_a_pools_result(program, dump_until, method):
    pids = program("result", method)
    text, _ = dump_until(
        pids["program"],
        r"waits for a result of pool 1, since [^\n]*\n +process \d+ \([^)]*\) runs its task, since .* \(\d+\.\d s\)",
        r"runs a task: task_that_waits, since \d\d:\d\d:\d\d",
    )
    worker = next(part for part in text.split("\n\n") if "worker of pool 1" in part)
    assert re.search(r'wait_for_ever.py", line \d+, in task_that_waits\n +time.sleep\(seconds\)', worker)


def test_two_threads_that_wait_for_results(program, dump_until):
    pids = program("results")
    dump_until(
        pids["program"],
        r"(waits for a result of (its pool|pool 1), since [^\n]*\n +process \d+ \([^)]*\) runs its task.*){2}",
        r"waits for a result of pool 1, since",
    )


def test_a_worker_without_a_task(program, dump_until, method):
    pids = program("idle", method)
    dump_until(pids["program"], r"worker of pool 1\n.*waits for a task of pool 1, since")


def test_a_process_of_the_default_context(dump_until, run_script, method):
    code = (
        "import goproc, os, subprocess, sys, time\n"
        "if __name__ == '__main__':\n"
        f"    goproc.set_start_method('{method}')\n"
        "    process = goproc.Process(target=time.sleep, args=(1000,), daemon=True)\n"
        "    process.start()\n"
        "    command = [sys.executable, '-m', 'goproc', 'dump', str(process.pid)]\n"
        "    while b', by ' not in (text := subprocess.run(command, capture_output=True).stdout):\n"
        "        time.sleep(0.01)\n"
        "    print(text.decode())\n"
    )
    text = run_script("-c", code).stdout
    assert re.search(rf"(?m)^process \d+, Process-1, child of \d+, by {method}$", text)


def test_a_stopped_process(program, dump_until, method):
    pids = program("stopped", method)
    text, _ = dump_until(pids["program"], r"is stopped \(SIGSTOP, or a debugger\)")
    assert "in stop_itself" in block(text, pids["stopped"])


def test_a_process_that_holds_its_gil_in_c(program, dump_until, method):
    pids = program("gil", method)
    text, _ = dump_until(pids["program"], "holds the GIL.*in hold_the_gil")
    assert f"thread {pids['greedy']}, main, holds the GIL" in block(text, pids["greedy"])


def test_each_thread_of_a_process(program, dump_until, method):
    pids = program("threads", method)
    text, _ = dump_until(pids["program"], "waits for lock 1", "waits for event [12]")
    own = block(text, pids["threaded"])
    assert len(re.findall(r"(?m)^  thread \d+", own)) == 2
    assert "in threads_that_wait" in own
    assert "in named_in_the_stack" in own


def test_a_child_of_a_child(program, dump_until, method):
    pids = program("nested", method)
    text, _ = dump_until(pids["program"], "grandchild", "waits for lock 1")
    grandchild = re.search(r"process (\d+), grandchild", text)[1]
    assert f"waits for the end of process {grandchild} (grandchild)" in block(text, pids["child"])
    os.kill(int(grandchild), signal.SIGKILL)


def test_a_manager(program, dump_until, method):
    pids = program("manager", method)
    text, _ = dump_until(pids["program"], "a manager")
    assert "a manager" in block(text, pids["manager"]).splitlines()[0]


def test_a_process_that_the_program_has_forked_itself(program, dump_until):
    pids = program("forked")
    text, _ = dump_until(pids["program"], "forked by os.fork", "waits for lock 1")
    assert "forked by os.fork()" in block(text, pids["forked"])


def test_names_may_have_any_letters(program, dump_until, method):
    pids = program("odd_name", method)
    text, _ = dump_until(pids["program"], "waits for lock 1")
    assert f"process {pids['odd']}, größe 日本??[2J, child of" in text
    assert "in größe_日本" in text


def test_a_deep_stack_is_cut(program, dump_until, method):
    pids = program("deep", method)
    text, _ = dump_until(pids["program"], "waits for lock 1")
    own = block(text, pids["deep"])
    assert re.match(rf"process \d+, deep, child of \d+, by {method}\n", own)
    assert own.count("in go_down") == 200
    assert "(more calls)" in own
    assert own.rstrip().endswith("lock.acquire()")


def test_a_reader_that_closes_the_pipe(program, run_script):
    pids = program("threads")
    command = f"{shlex.quote(sys.executable)} -m goproc dump {pids['program']} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.slow
def test_memory_that_cannot_be_read_in_time(program, monkeypatch):
    """Such memory is hard to make: the reading of one process waits here."""
    from goproc._dump import program as module
    from goproc._dump.report import Report

    pids = program("held")
    look_at, end = module.look_at, threading.Event()

    def wait_or_look(pid):
        if pid == pids["holder"]:
            end.wait()
            raise OSError
        return look_at(pid)

    monkeypatch.setattr(module, "look_at", wait_or_look)
    try:
        views = module.look_at_program(pids["program"], 1)
        text = "\n".join(Report(views, []).lines())
        module.close(views)
    finally:
        end.set()
    assert "its memory could not be read in 1 s" in block(text, pids["holder"])
    assert "in the kernel: sleeps in the kernel" in block(text, pids["holder"])
    assert "the main program" in block(text, pids["program"])


def test_a_child_that_has_ended(program, dump):
    pids = program("ended")
    text, status = dump(pids["program"])
    assert f"has ended, and process {pids['program']} has not joined it yet" in block(text, pids["ended"])
    assert status == 0
    text, status = dump(pids["ended"])
    assert text == (
        f"goproc: error: process {pids['ended']} has ended, and process {pids['program']} has not reaped it yet\n"
    )
    assert status == 1


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_the_servers(program, dump_until, method):
    pids = program("held", method)
    text, _ = dump_until(pids["program"], "waits for lock 1")
    assert re.search(rf"process \d+, {method.replace('server', ' server').replace('spawn', 'spawn server')} of", text)


def test_no_such_process(dump):
    process = subprocess.Popen(["true"])
    process.wait()
    assert dump(process.pid) == (f"goproc: error: there is no process {process.pid}\n", 1)


def test_a_process_without_goproc(dump):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        text, status = dump(process.pid)
        assert f"process {process.pid} " in text
        assert "does not run on goproc" in text
        assert status == 1
    finally:
        process.communicate(b"\n")


@pytest.mark.parametrize("arguments", [[], ["x"], ["-1"], ["0"], ["1", "2"], ["²"]])
def test_wrong_usage(run_script, arguments):
    done = run_script("-m", "goproc", "dump", *arguments, status=2)
    assert done.stderr.startswith("usage: python -m goproc dump PID\n")
    assert done.stdout == ""


def test_help(run_script):
    assert "Exit status" in run_script("-m", "goproc", "dump", "--help").stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_a_process_of_another_user(program, run_script):
    pids = program("itself")
    code = (
        "import os; from goproc import cli; from goproc._dump import command; os.setgroups([]); os.setgid(65534)\n"
        f"os.setuid(65534); cli.main(['dump', '{pids['program']}'])"
    )
    done = run_script("-c", code, status=1)
    assert "belongs to user root: only that user and root may read its memory" in done.stderr
    assert f"sudo {sys.executable} -m goproc dump {pids['program']}" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_a_process_of_another_user_where_proc_hides_it():
    code = (
        "import os; from goproc import cli; from goproc._dump import command; os.setgroups([]); os.setgid(65534)\n"
        "os.setuid(65534); cli.main(['dump', '1'])"
    )
    done = where_proc_hides("sh", "-c", '"$@"; exit', "sh", sys.executable, "-c", code)
    assert "process 1 belongs to another user, and /proc hides it" in done.stderr


def test_a_script_with_the_name_of_the_command(run_script, tmp_path):
    (tmp_path / "dump").write_text("print('the script')")
    assert run_script("-m", "goproc", "./dump", cwd=tmp_path).stdout == "the script\n"


def test_it_is_said_that_nothing_is_noted(dump, program, monkeypatch):
    monkeypatch.setenv("GOPROC_DISABLE", "dump")
    pids = program("itself")
    text, status = dump(pids["program"])
    assert "GOPROC_DISABLE=dump" in block(text, pids["alone"])
    assert "in take_twice" in block(text, pids["alone"])
    assert status == 0


# ---- the program notices nothing


def present(pid):
    """Return the descriptors, threads and children of a process."""
    return (
        sorted(os.listdir(f"/proc/{pid}/fd")),
        sorted(os.listdir(f"/proc/{pid}/task")),
        Path(f"/proc/{pid}/task/{pid}/children").read_text(),
    )


def signals_pending(pid):
    """Return the lines of /proc/PID/status about signals that have been sent."""
    return re.findall(r"(?m)^(?:SigPnd|ShdPnd):.*$", Path(f"/proc/{pid}/status").read_text())


def test_nothing_is_left_behind(program, dump_until, dump, method):
    pids = program("two_events", method)
    dump_until(pids["program"], "waits for event 1", "waits for event 2")
    # The engine of a main program with servers opens and closes descriptors at any time.
    looked_at = pids.values() if method == "fork" else [pids["threaded"]]
    before = [(present(pid), signals_pending(pid)) for pid in looked_at]
    for _ in range(3):
        dump(pids["program"])
    assert [(present(pid), signals_pending(pid)) for pid in looked_at] == before
    assert len(os.listdir(f"/proc/{pids['threaded']}/task")) == 2  # the program's own threads


@pytest.mark.parametrize("count", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_a_program_that_works_goes_on(dump, method, count):
    command = [sys.executable, "work_until_told.py", method]
    process = subprocess.Popen(command, cwd=SCRIPTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "working\n"
        for _ in range(count):
            text, status = dump(process.pid)
            assert status == 0, text
            assert "worker of pool 1" in text, text
            assert text.count("the main program") == 1, text
        said, _ = process.communicate("", timeout=60)
    finally:
        process.kill()
        process.wait()
    assert said == "as it should be\n"
    assert process.returncode == 0


def test_a_wait_goes_on_after_a_signal_handler(context):
    """A note is of the whole wait, and is gone after it, also if a handler raises."""
    lock = context.Lock()
    lock.acquire()

    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with pytest.raises(Stop):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            lock.acquire()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert notes_of_main_thread() == []


def test_a_note_by_python():
    begun = time.monotonic() - 1
    what, deadline = "the end of the world", begun + 2
    (note,) = _native.wait_noted(notes_of_main_thread, (), _native.WAIT_OTHER, what, deadline=deadline, since=begun)
    assert note.what == what
    assert (note.since, note.deadline) == (int(begun * 1e9), int(deadline * 1e9))
    with pytest.raises(ZeroDivisionError):
        _native.wait_noted(divmod, (1, 0), _native.WAIT_OTHER, what)
    assert notes_of_main_thread() == []


def test_a_child_begins_without_its_parents_notes():
    """A thread of this process waits while it forks: the child has no note, and may note its own waits."""
    with _native.wait_noted(goproc.get_context("fork").Pool, (1,), _native.WAIT_OTHER, "the parent's") as pool:
        assert pool.apply(noted) == []


def noted():
    return [wait.what for wait in notes_of_main_thread()]
