"""The scripts of examples/, and the runner of `make demo`: each script prints its docstring, under python and goproc.

The runner, examples/demo.py, runs the scripts, compares their output and cleans up. pytest uses the runner, too, so
that pytest and `make demo` agree.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples"

specification = importlib.util.spec_from_file_location("examples_demo", FOLDER / "demo.py")
demo = importlib.util.module_from_spec(specification)
sys.modules["examples_demo"] = demo  # dataclasses looks it up there
specification.loader.exec_module(demo)

# What the chapter shows, and what a script must hold to show it.
CHAPTER = {
    "os.fork, and fork": ("os.fork()", 'get_context("fork")'),
    "spawn": ('get_context("spawn")', "Process("),
    "forkserver": ('get_context("forkserver")', "Process("),
    "daemon": (".daemon = True", ".daemon = False"),
    "terminate": (".terminate()",),
    "current process": ("multiprocessing.current_process()", ".pid"),
    "subclass of Process": ("(multiprocessing.Process):", "def __init__(self", "def run(self"),
    "Pool.apply": ("multiprocessing.Pool(", ".apply("),
    "Pool.apply_async": ("multiprocessing.Pool(", ".apply_async("),
    "Pool.map": ("multiprocessing.Pool(", "pool.map("),
    "Pool.map_async": ("multiprocessing.Pool(", ".map_async("),
    "ProcessPoolExecutor": ("ProcessPoolExecutor(", ".submit(", "executor.map("),
    "lambdas, closures": ("lambda", "def adder(step)", "target=add"),
    "share": ("goproc.share(",),
    "nested pools": ("nested=True", "goproc.Process("),
    "Pool.stream": ("pool.stream(", "yield from"),
    "CPUs and threads": ("goproc.usable_cpu_count()", "threads="),
    "limits and retries": ("max_memory_per_task=", "retry_on=", "retry_delay="),
    "joblib": ("goproc.joblib.register(", "parallel_config(backend="),
    "goproc.logging": ("goproc.logging.relay()", "taskFunction"),
    "threads and processes": ("threading.Thread", "multiprocessing.Process"),
    "goproc in asyncio": ("await pool.apply_async(", "async for", ".join_async()"),
    "many machines": ('cluster.Pool("local:', ".map(", "WorkerLostError"),
    "progress of a map": ("pool.map(", "progress="),
}

RUNS = [
    pytest.param(
        *(example, start_method, plain),
        id=f"{example.path.stem}-{start_method}-{'python' if plain else 'goproc'}",
        marks=[pytest.mark.slow] * (example.script == "threads_and_processes.py"),
    )
    for example in demo.EXAMPLES
    for start_method in example.start_methods
    for plain in (True, False)
    if not demo.why_left_out(example, plain)
]


@pytest.mark.parametrize(("example", "start_method", "plain"), RUNS)
def test_example_prints_its_docstring(example, start_method, plain):
    result = demo.run(example, start_method, plain)
    assert not result.faults, "\n".join(result.faults)


def test_everything_the_chapter_shows_has_a_script():
    shown = {example.shows: example.path.read_text() for example in demo.EXAMPLES}
    assert shown.keys() == CHAPTER.keys()
    missing = {item: part for item, parts in CHAPTER.items() for part in parts if part not in shown[item]}
    assert not missing


def test_every_script_is_run():
    assert sorted(path.name for path in FOLDER.glob("*.py")) == sorted([*(e.script for e in demo.EXAMPLES), "demo.py"])


@pytest.mark.parametrize("example", demo.EXAMPLES, ids=lambda example: example.path.stem)
def test_only_its_own_scripts_know_goproc(example):
    source = example.path.read_text()
    unchanged = not example.own or example.variables
    assert ("\nimport multiprocessing\n" in source or "\nfrom multiprocessing import" in source) == bool(unchanged)
    assert ("\nimport goproc" in source) == (not unchanged)
    assert not unchanged or "goproc" not in source


@pytest.mark.parametrize(
    ("expected", "printed", "match"),
    [
        ("a (b)\n", "a (b)\n", True),
        ("a\n", "a\nb\n", False),
        ("a\n", "a", False),
        ("PID <pid>, <pid>\n", "PID 12, 12\n", True),
        ("PID <pid>\n", "PID -12\n", False),
        ("took <seconds> s\n", "took 0.12 s\n", True),
        ("took <seconds> s\n", "took long s\n", False),
        ("<main pid> <child pid> <main pid>\n", "12 13 12\n", True),
        ("<main pid> <child pid> <main pid>\n", "12 13 14\n", False),
        ("<main pid> <child pid>\n", "12 12\n", False),
    ],
)
def test_placeholders(expected, printed, match):
    assert demo.matches(expected, printed) is match


# Scripts that go wrong, and what the runner must say of each.
FAULTY = {
    "other_output": ('print("one")', "-expected line\n+one"),
    "exit_status": ('print("expected line"); raise SystemExit(3)', "exit status 3, not 0"),
    "stderr": ('import sys; print("expected line"); print("a warning", file=sys.stderr)', "on stderr:\na warning"),
    "too_slow": ('import time; print("expected line"); time.sleep(600)', "not finished after 0.5 s"),
    "left_behind": (
        'import os, time; print("expected line", flush=True)\nif os.fork() == 0:\n    time.sleep(600)',
        "processes left behind: ",
    ),
}


@pytest.fixture
def faulty(request, tmp_path, monkeypatch):
    """A script of FAULTY, where the runner looks for scripts, and the only one that it knows."""
    code, fault = FAULTY[request.param]
    (tmp_path / "faulty.py").write_text(f'"""expected line"""\n\n{code}\n')
    monkeypatch.setattr(demo, "FOLDER", tmp_path)
    monkeypatch.setattr(demo, "EXAMPLES", (demo.Example("faulty.py", "a fault", 0, ("fork",)),))
    monkeypatch.setattr(demo, "GRACE", 0.2)
    return fault


@pytest.mark.slow
@pytest.mark.parametrize("faulty", FAULTY, indirect=True)
def test_runner_reports_faults(faulty, capsys):
    limit = "0.5" if "not finished" in faulty else "30"
    assert demo.main(["--plain", "--time-limit", limit]) == 1
    printed = capsys.readouterr().out
    assert faulty.replace("\n", "\n    ") in printed
    assert printed.splitlines()[-1].startswith("FAILED: 1 of 1 runs ")


@pytest.mark.slow
@pytest.mark.parametrize("faulty", ["too_slow", "left_behind"], indirect=True)
def test_runner_kills_what_is_left(faulty, monkeypatch):
    groups = []
    monkeypatch.setattr(demo.subprocess, "Popen", record_group(demo.subprocess.Popen, groups))
    assert demo.main(["--plain", "--time-limit", "0.5"]) == 1
    (group,) = groups
    assert demo.wait_until_empty(group, 30) == []


def record_group(popen, groups):
    def start(*args, **options):
        process = popen(*args, **options)
        groups.append(process.pid)
        return process

    return start


def test_count_of_processes_is_checked():
    result = demo.Run(demo.Example("subclass.py", "subclass", 5), "spawn")
    line = "goproc: processes started: fork 1, spawn 4, forkserver 0; tasks done: 0; workers lost: 0\n"
    assert demo.check_stats(result, f"before\n{line}after\n") == "before\nafter\n"
    assert result.faults == ["the line of --stats says fork=1, not 0; spawn=4, not 5"]
    assert result.started == 5


def test_runner_runs_from_any_folder(tmp_path):
    folder = tmp_path / "a folder"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    words = [sys.executable, str(folder / "demo.py"), "--plain", "--start-method", "spawn", "spawn.py", "subclass.py"]
    done = subprocess.run(words, cwd=os.sep, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "OK: all 2 runs printed what they must and left no process behind"


def test_runner_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert demo.main([]) == 2
    assert "goproc is not installed" in capsys.readouterr().err


def test_runner_refuses_unknown_scripts(capsys):
    with pytest.raises(SystemExit) as ended:
        demo.main(["--plain", "no_such_script.py"])
    assert ended.value.code == 2
    assert "no such script: no_such_script.py" in capsys.readouterr().err
