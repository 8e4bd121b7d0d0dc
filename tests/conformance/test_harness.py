"""Tests of the conformance harness itself: it must see every way in which a run can go wrong.

Test modules are written to a temporary folder, and run by run.py, as a user runs it. A goproc whose install() does
nothing simulates an engine that is not used.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from goproc_conformance import processes, startup  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("test._test_multiprocessing") is None,
        reason="this Python has no package test (CPython's own tests)",
    ),
]


class Harness:
    """run.py in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.status = None
        self.output = ""

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def run(self, *arguments):
        """Run it; returns the verdicts."""
        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, HERE / "run.py", "--build", self.folder / "build", "--path", self.folder,
             "--json", report, *arguments],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        self.status, self.output = done.returncode, done.stdout + done.stderr
        return json.loads(report.read_text()) if report.exists() else []

    def run_module(self, text, *arguments):
        """Run a test module of this text under fork on plain multiprocessing, unless told otherwise."""
        self.write("sample.py", text)
        arguments = arguments or ("--baseline", "--method", "fork")
        return self.run("--module", "sample", *arguments)[0]

    def write_idle_goproc(self):
        """A goproc that installs nothing and counts nothing."""
        self.write("source/goproc/__init__.py", "from goproc import engine\ndef install(futures=False): pass\n")
        self.write(
            "source/goproc/engine.py",
            "def stats():\n    return {'started': {'fork': 0, 'spawn': 0, 'forkserver': 0}, 'tasks': 0, 'lost': 0}\n",
        )
        return ("--source", str(self.folder / "source"))

    def log(self):
        return next((self.folder / "build").glob("[bg]*.log")).read_text()


@pytest.fixture
def harness(tmp_path):
    return Harness(tmp_path)


def test_counts_every_outcome_and_says_so_in_a_line(harness):
    judged = harness.run_module(
        """
        import unittest
        class Outcomes(unittest.TestCase):
            def test_error(self): raise KeyError("lost")
            def test_fails(self): self.assertEqual(1, 2)
            def test_fails_in_subtest(self):
                for i in range(3):
                    with self.subTest(i=i): self.assertNotEqual(i, 1)
            def test_passes(self): pass
            def test_skipped(self): self.skipTest("no")
            @unittest.expectedFailure
            def test_expected(self): self.fail()
            @unittest.expectedFailure
            def test_unexpected(self): pass
        """
    )
    assert judged["ran"] == 7
    assert judged["passed"] == 2
    assert sorted(judged["failed"]) == [
        "sample:Outcomes.test_fails",
        "sample:Outcomes.test_fails_in_subtest",
        "sample:Outcomes.test_unexpected",
    ]
    assert judged["errors"] == ["sample:Outcomes.test_error"]
    assert judged["skipped"] == ["sample:Outcomes.test_skipped"]
    assert harness.status == 1
    assert "7 ran, 3 failed, 1 errors, 1 skipped" in harness.output
    assert "KeyError: 'lost'" in harness.log()
    assert harness.output.rstrip().endswith("2 passed, 4 failed, 1 skipped")


def test_all_well_is_status_zero(harness):
    harness.run_module("import unittest\nclass T(unittest.TestCase):\n    def test(self): pass\n")
    assert (harness.status, harness.output.splitlines()[-1]) == (0, "1 passed, 0 failed, 0 skipped")


def test_failed_class_and_module_set_up_count(harness):
    judged = harness.run_module(
        """
        import unittest
        class Broken(unittest.TestCase):
            @classmethod
            def setUpClass(cls): raise OSError("no")
            def test(self): pass
        class Whole(unittest.TestCase):
            def test(self): pass
        def tearDownModule(): raise OSError("no")
        """
    )
    assert judged["errors"] == ["setUpClass (sample.Broken)", "tearDownModule (sample)"]
    assert judged["problems"] == ["1 tests did not run, the first of them sample:Broken.test"]
    assert harness.status == 1


def test_a_class_whose_set_up_skips_counts_as_its_tests(harness):
    judged = harness.run_module(
        """
        import unittest
        class T(unittest.TestCase):
            @classmethod
            def setUpClass(cls): raise unittest.SkipTest("no")
            def test_1(self): pass
            def test_2(self): pass
        """
    )
    assert {"sample:T.test_1", "sample:T.test_2"} < set(judged["skipped"])
    assert harness.status == 0


def test_a_hanging_test_is_dumped_killed_and_passed_over(harness):
    judged = harness.run_module(
        """
        import multiprocessing, time, unittest
        def sleep_in_the_child(): time.sleep(600)
        class T(unittest.TestCase):
            def test_1(self): pass
            def test_2_hangs(self):
                process = multiprocessing.Process(target=sleep_in_the_child)
                process.start()
                process.join()
            def test_3(self): pass
        """,
        "--baseline", "--method", "spawn", "--stall-limit", "4",
    )  # fmt: skip
    assert judged["passed"] == 2
    assert judged["errors"] == ["sample:T.test_2_hangs"]
    assert "in test_2_hangs" in harness.log()
    assert "in sleep_in_the_child" in harness.log()


def test_a_test_that_ends_the_test_process_is_passed_over(harness):
    judged = harness.run_module(
        """
        import os, signal, unittest
        class T(unittest.TestCase):
            def test_1_killed(self): os.kill(os.getpid(), signal.SIGKILL)
            def test_2(self): pass
            def test_3_leaves(self): os._exit(0)
            def test_4(self): pass
        """
    )
    assert judged["passed"] == 2
    assert judged["errors"] == ["sample:T.test_1_killed", "sample:T.test_3_leaves"]


def test_a_hanging_class_tear_down_is_passed_over(harness):
    judged = harness.run_module(
        """
        import os, unittest
        class A(unittest.TestCase):
            def test(self): pass
            @classmethod
            def tearDownClass(cls): os._exit(1)
        class B(unittest.TestCase):
            def test(self): pass
        """
    )
    assert judged["errors"] == ["(after sample:A.test)"]
    assert judged["passed"] == 2


def test_a_module_that_ends_the_test_process_is_an_error(harness):
    judged = harness.run_module("import os; os._exit(0)")
    assert "outside any test" in judged["problems"][0]
    assert harness.status == 1


def test_the_time_limit_ends_a_run(harness):
    judged = harness.run_module(
        "import time, unittest\nclass T(unittest.TestCase):\n    def test(self): time.sleep(600)\n",
        "--baseline", "--method", "fork", "--time-limit", "2",
    )  # fmt: skip
    assert judged["errors"] == ["sample:T.test"]
    assert judged["problems"] == ["the run's time limit is over"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_harness_leaves_nothing(harness, signum):
    mark = harness.folder / "running"
    harness.write(
        "sample.py",
        f"""
        import os, time, unittest
        class T(unittest.TestCase):
            def test(self):
                with open({str(mark)!r} + ".new", "w") as file: file.write(str(os.getpid()))
                os.rename({str(mark)!r} + ".new", {str(mark)!r})
                time.sleep(600)
        """,
    )
    command = [sys.executable, HERE / "run.py", "--build", harness.folder / "build", "--path", harness.folder]
    with subprocess.Popen([*command, "--baseline", "--module", "sample"], stdout=subprocess.DEVNULL) as run:
        while not mark.exists():
            assert run.poll() is None
            time.sleep(0.02)
        run.send_signal(signum)
        assert run.wait(60) == 130
    assert "goproc_conformance" not in processes.command(int(mark.read_text()))


def test_what_is_left_dangling_counts(harness):
    judged = harness.run_module(
        """
        import unittest
        from test import support
        class T(unittest.TestCase):
            def test_1(self): support.environment_altered = True
            def test_2(self): pass
            @classmethod
            def tearDownClass(cls): support.environment_altered = True
        """
    )
    assert [text.rpartition(": ")[2] for text in judged["dangling"]] == ["sample:T.test_1", "the last test's module"]
    assert harness.status == 1


def test_an_exception_in_a_stray_thread_counts(harness):
    judged = harness.run_module(
        """
        import threading, unittest
        class T(unittest.TestCase):
            def test(self):
                thread = threading.Thread(target=lambda: 1 / 0)
                thread.start()
                thread.join()
        """
    )
    assert len(judged["dangling"]) == 1


def test_processes_left_behind_count_and_are_killed(harness):
    judged = harness.run_module(
        """
        import subprocess, unittest
        class T(unittest.TestCase):
            def test(self):
                subprocess.Popen(["sleep", "613"], start_new_session=True).returncode = 0
        """
    )
    (problem,) = judged["problems"]
    assert problem.startswith("still running at the end: pid ") and problem.endswith(": sleep 613")
    pid = int(problem.removesuffix(": sleep 613").rpartition(" ")[2])
    assert "sleep" not in processes.command(pid)


LAUNCHES = """
import multiprocessing, multiprocessing.pool, subprocess, sys, unittest
def nothing(): pass
SCRIPT = "from multiprocessing import context as c, resource_tracker; c.ForkContext().Process(target=print).start()"
def start_another():
    try:
        multiprocessing.get_context("fork").Process(target=nothing).start()
    except BaseException:
        pass
class T(unittest.TestCase):
    def test_process(self): multiprocessing.Process(target=nothing).start()
    def test_pool(self): multiprocessing.Pool(1)
    def test_swallowed(self): start_another()
    def test_script(self): subprocess.check_call([sys.executable, "-I", "-c", SCRIPT])
    def test_forked_child(self):
        import os
        pid = os.fork()
        if not pid:
            start_another()
            os._exit(0)
        os.waitpid(pid, 0)
    def test_thread_pool(self):
        with multiprocessing.pool.ThreadPool(1) as pool:
            assert pool.map(str, [1]) == ["1"]
"""


@pytest.mark.parametrize("method", startup.START_METHODS)
def test_the_standard_librarys_launch_paths_are_trapped(harness, method):
    judged = harness.run_module(LAUNCHES, "--method", method, *harness.write_idle_goproc())
    module = {"fork": "fork", "spawn": "spawn_posix", "forkserver": "forkserver"}[method]
    assert sorted(judged["errors"]) == ["sample:T.test_pool", "sample:T.test_process", "sample:T.test_script"]
    assert judged["passed"] == 3
    trapped = {text.rpartition(": ")[2] for text in judged["problems"]}
    assert trapped == {
        f"multiprocessing.popen_{module}.Popen._launch",
        "multiprocessing.popen_fork.Popen._launch",
        "multiprocessing.pool.Pool's worker processes",
    }
    # Four uses: the test's own, the swallowed one, the forked child's, the script's.
    uses = sum(int(text.split(", ")[1].split()[0]) for text in judged["problems"] if "_launch" in text)
    assert uses == 4
    assert harness.status == 1


def test_skips_are_compared_with_plain_multiprocessing(harness):
    judged = harness.run_module(
        """
        import os, unittest, warnings
        ours = os.environ["GOPROC_CONFORMANCE"] == "goproc"
        class T(unittest.TestCase):
            def test_skipped(self): self.skipTest("no")
            def test_skipped_here(self):
                if ours: self.skipTest("no")
            def test_fails(self): self.fail()
            def test_warns(self): warnings.warn(f"descriptor {os.getpid()} left")
            def test_warns_here(self):
                if ours: warnings.warn("only with goproc")
        """,
        "--method", "fork", *harness.write_idle_goproc(),
    )  # fmt: skip
    assert judged["skipped"] == ["sample:T.test_skipped", "sample:T.test_skipped_here"]
    assert judged["skipped_too"] == ["sample:T.test_skipped"]
    assert judged["fails_too"] == ["sample:T.test_fails"]
    assert judged["warnings"] == ["sample:T.test_warns_here: UserWarning: only with goproc"]


def test_the_suite_of_the_interpreter_runs(harness):
    (judged,) = harness.run("--baseline", "--suite", "mp", "--method", "fork", "--match", "TestProcess.test_cpu_count")
    assert judged["passed"] == 2, harness.output


def test_a_test_can_be_left_out_by_an_exception(harness):
    exceptions = harness.write(
        "exceptions.toml",
        """
        [[exception]]
        suite = "main"
        test = "ForkCmdLineTest.test_basic_script"
        run = false
        reason = "because"
        """,
    )
    (judged,) = harness.run(
        "--baseline", "--suite", "main", "--method", "fork", "--match", "basic_script", "--exceptions", exceptions
    )
    assert (judged["passed"], judged["excepted"]) == (1, ["ForkCmdLineTest.test_basic_script"])


def test_a_missing_suite_is_skipped_by_name(harness):
    (judged,) = harness.run("--baseline", "--suite", "threading", "--method", "fork")
    assert judged["missing"] == "tests that use multiprocessing in test.test_threading"
    assert "has none of CPython's own tests" in harness.output
    assert (harness.status, harness.output.count("1 skipped")) == (0, 1)


def test_choosing_no_test_is_an_error(harness):
    harness.run("--baseline", "--suite", "main", "--method", "fork", "--match", "no such test")
    assert "no test was chosen" in harness.output
    assert harness.status == 1


def test_a_missing_interpreter_is_named(harness):
    harness.run("--baseline", "--python", str(harness.folder / "python9"))
    assert harness.status == 2
    assert "python9: No such file or directory" in harness.output


def test_busy_processes_end_with_the_block():
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = set(children.read_text().split())
    with processes.load(True):
        assert len(set(children.read_text().split()) - before) == len(os.sched_getaffinity(0))
    assert set(children.read_text().split()) <= before
