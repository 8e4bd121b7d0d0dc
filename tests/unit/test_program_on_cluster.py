"""--cluster, GOPROC_CLUSTER and --ship: the pools of an unchanged program are on a cluster. And `goproc cluster`."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster_programs import Cluster

pytest.importorskip("distributed", reason="distributed is not installed")

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))
import demo  # noqa: E402

#: The examples with pools and executors, and those that cannot be on a cluster, with the reason.
EXAMPLES = (
    "pool_apply.py",
    "pool_map.py",
    "executor.py",
    "lambdas.py",
    "progress.py",
    "stream.py",
    "limits_and_retries.py",
    "nested_pools.py",
    "joblib_backend.py",
    "asyncio_pool.py",
    "shared_data.py",
)
QUICK = ("pool_apply.py", "pool_map.py", "executor.py", "stream.py")
NOT_THERE = {
    "pool_apply_async.py": "its initializer is handed a barrier, which is an error that says so",
    "pool_map_async.py": "its initializer is handed an event, which is an error that says so",
    "cpus.py": "it prints the CPUs of this machine, and pools that have as many workers",
    "log_relay.py": "log records of other machines stay there",
}


@pytest.fixture(scope="module")
def machines():
    """A cluster of two machines of two cores."""
    cluster = Cluster()
    try:
        cluster.wait()
        yield cluster
    finally:
        cluster.end()


@pytest.fixture
def program(tmp_path, machines, run_script):
    """A function that runs code as a program on the cluster, with goproc's options; it returns what it prints."""

    def run(code, *options, status=0, **variables):
        (tmp_path / "program.py").write_text(code)
        words = ["-m", "goproc", "--cluster", machines.path, *options, "program.py"]
        return run_script(*words, cwd=tmp_path, status=status, **variables)

    return run


@pytest.mark.parametrize(
    "script", [pytest.param(script, marks=[pytest.mark.slow] * (script not in QUICK)) for script in EXAMPLES]
)
def test_an_example(script, machines, run_script):
    example = next(example for example in demo.EXAMPLES if example.script == script)
    if reason := demo.why_left_out(example, False):
        pytest.skip(reason)
    words = ["-m", "goproc", "--futures", "--cluster", machines.path, demo.FOLDER / script]
    done = run_script(*words, **dict(example.variables))
    assert demo.matches(demo.expected_output(example.path), done.stdout), done.stdout
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("script, what", [("pool_apply_async.py", "Barrier"), ("pool_map_async.py", "Event")])
def test_an_example_that_cannot_be_there(script, what, machines, run_script):
    done = run_script("-m", "goproc", "--cluster", machines.path, demo.FOLDER / script, status=1)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("RuntimeError: the initializer of a cluster's pool") and f"{what} objects" in last, (
        done.stderr
    )


def test_all_examples_with_pools_are_here():
    own = {"cluster_pool.py"}
    with_pools = {
        example.script
        for example in demo.EXAMPLES
        if re.search(r"\bPool\(|Executor\(|goproc\.joblib", example.path.read_text())
    }
    assert with_pools - own - NOT_THERE.keys() <= set(EXAMPLES)


@pytest.mark.slow
def test_on_local_machines(run_script):
    done = run_script("-m", "goproc", "--cluster", "local:2x2", demo.FOLDER / "pool_map.py")
    assert demo.matches(demo.expected_output(demo.FOLDER / "pool_map.py"), done.stdout)
    assert done.stderr == ""


def where(run):
    """Return the code of a program that prints whether tasks run on the machines. run: an expression for two pids."""
    return (
        "import multiprocessing, multiprocessing.pool, os, subprocess, sys, time, concurrent.futures\n"
        "from multiprocessing.pool import Pool, ThreadPool\n"
        "def pids(number=0):\n"
        "    return os.getpid(), os.getppid()\n"
        "def command(pid):\n"
        "    return open(f'/proc/{pid}/cmdline').read().replace('\\0', ' ')\n"
        "def on_machine(pids):\n"
        "    return 'dask_worker' in command(pids[1]) or 'dask_worker' in command(parent(pids[1]))\n"
        "def parent(pid):\n"
        "    return int(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1])\n"
        "if __name__ == '__main__':\n"
        f"    print({run})\n"
    )


@pytest.mark.parametrize(
    "run",
    [
        "on_machine(multiprocessing.Pool(1).apply(pids))",
        "on_machine(Pool(1).apply(pids))",
        "on_machine(multiprocessing.pool.Pool(1).apply(pids))",
        "on_machine(multiprocessing.get_context('spawn').Pool(1).apply(pids))",
        "on_machine(type('Mine', (Pool,), {'apply': lambda self, f: Pool.apply(self, f)})(1).apply(pids))",
        "on_machine(concurrent.futures.ProcessPoolExecutor(1).submit(pids).result())",
        "on_machine(list(concurrent.futures.ProcessPoolExecutor(1).map(pids, [0]))[0])",
        "multiprocessing.Pool()._processes == 4",
        "concurrent.futures.ProcessPoolExecutor()._max_workers == 4",
        "ThreadPool(1).apply(os.getpid) == os.getpid()",
        "isinstance(multiprocessing.Pool(1), multiprocessing.pool.Pool)",
    ],
)
def test_what_is_on_the_cluster(run, program):
    done = program(where(run), "--futures")
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_processes_locks_and_queues_are_local(program):
    code = (
        "import multiprocessing, os\n"
        "def work(queue, lock):\n"
        "    with lock:\n"
        "        queue.put(multiprocessing.parent_process().pid)\n"
        "if __name__ == '__main__':\n"
        "    queue, lock = multiprocessing.Queue(), multiprocessing.Lock()\n"
        "    process = multiprocessing.Process(target=work, args=(queue, lock))\n"
        "    process.start()\n"
        "    print(queue.get() == os.getpid())\n"
        "    process.join()\n"
    )
    assert program(code).stdout == "True\n"


def test_by_the_variable(machines, run_script, tmp_path):
    (tmp_path / "program.py").write_text(where("on_machine(multiprocessing.Pool(1).apply(pids))"))
    done = run_script("-m", "goproc", "program.py", cwd=tmp_path, GOPROC_CLUSTER=machines.path)
    assert done.stdout == "True\n"


@pytest.mark.slow
def test_a_pool_of_a_task_is_local(program):
    code = (
        "import multiprocessing, os\n"
        "def inner():\n"
        "    return os.getppid()\n"
        "def outer():\n"
        "    with multiprocessing.Pool(1) as pool:\n"
        "        return type(pool).__module__, 'GOPROC_CLUSTER' in os.environ\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.Pool(1, nested=True) as pool:\n"
        "        print(pool.apply(outer))\n"
    )
    assert program(code).stdout == "('multiprocessing.pool', False)\n"


@pytest.mark.slow
def test_several_pools_at_the_same_time_and_one_after_the_other(program):
    code = (
        "import multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    for _ in range(2):\n"
        "        with multiprocessing.Pool(2) as one, multiprocessing.Pool(1) as two:\n"
        "            print(one.map(abs, [-1, -2]), two.apply(abs, (-3,)))\n"
        "    left = multiprocessing.Pool(1)\n"
        "    print(left.apply(abs, (-4,)))\n"
    )
    assert program(code).stdout == "[1, 2] 3\n[1, 2] 3\n4\n"


CHILD = """
import multiprocessing, sys

def child(queue):
    with multiprocessing.Pool(1) as pool:
        queue.put((type(pool).__module__, pool.apply(abs, (-5,))))

if __name__ == "__main__":
    with multiprocessing.Pool(1) as pool:
        pool.apply(abs, (-3,))
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
    sys.exit(process.exitcode)
"""


@pytest.mark.slow
def test_a_child_has_a_connection_of_its_own(method, machines, run_script, tmp_path):
    (tmp_path / "program.py").write_text(CHILD)
    done = run_script("-m", "goproc", "--cluster", machines.path, "program.py", method, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("('goproc.cluster', 5)\n", "")


@pytest.mark.slow
def test_nothing_is_left_of_a_program_that_is_killed(machines, tmp_path):
    (tmp_path / "program.py").write_text(BUSY)
    words = [sys.executable, "-m", "goproc", "--cluster", machines.path, "program.py", str(tmp_path / "never")]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as busy:
        assert busy.stdout.readline() == "busy\n"
        assert workers(machines)
        busy.kill()
    deadline = time.monotonic() + 30  # the lease is 8 seconds; this machine may be slow
    while workers(machines):
        assert time.monotonic() < deadline, workers(machines)
        time.sleep(0.05)


def workers(machines):
    """Return the processes that Dask workers, or their fork servers, have started, without those that stand by."""
    parents, titles = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                titles[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                pass
    relays = {process.pid for process in machines.processes[1:]}
    servers = {pid for pid, title in titles.items() if parents[pid] in relays and "fork server" in title}
    return [
        f"{pid} {title}"
        for pid, title in titles.items()
        if parents[pid] in relays | servers and title and not re.match("goproc: (fork server|standby)", title)
    ]


# ---- what cannot be on a cluster


def test_a_class_with_parts_of_its_own(program):
    code = (
        "from multiprocessing.pool import Pool\n"
        "class Mine(Pool):\n"
        "    def _repopulate_pool(self):\n"
        "        super()._repopulate_pool()\n"
        "if __name__ == '__main__':\n"
        "    Mine(2)\n"
    )
    last = program(code, status=1).stderr.splitlines()[-1]
    assert last.startswith(
        "TypeError: Mine cannot be on a cluster: it replaces private parts of Pool (_repopulate_pool)"
    )
    assert "without --cluster" in last


def test_a_lock_for_the_initializer(program):
    code = (
        "import multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.Pool(2, print, (multiprocessing.Lock(),))\n"
    )
    last = program(code, status=1).stderr.splitlines()[-1]
    assert last.startswith("RuntimeError: the initializer of a cluster's pool") and "another machine" in last


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")
def test_a_task_that_expects_the_memory_of_the_parent(program, tmp_path):
    (tmp_path / "state.py").write_text("table = None\ndef look_up(key):\n    return table[key]\n")
    code = (
        "import multiprocessing, state\n"
        "if __name__ == '__main__':\n"
        "    state.table = {1: 2}\n"
        "    with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "        pool.apply(state.look_up, (1,))\n"
    )
    done = program(code, "--ship", "state", PYTHONPATH=str(tmp_path), status=1)
    assert "TypeError: 'NoneType' object is not subscriptable" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("goproc: forked workers would have the memory of the main program")


def test_a_wrong_address(run_script, tmp_path):
    code = "import multiprocessing; multiprocessing.Pool(1)"
    done = run_script("-m", "goproc", "--cluster", "nonsense", "-c", code, status=1)
    assert "'nonsense' is not the address of a cluster" in done.stderr.splitlines()[-1]


# ---- --ship


def make_package(folder, number):
    package = folder / "shipped"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text(
        "import pathlib\n"
        "def number():\n"
        "    from . import late\n"
        "    return late.sign * int((pathlib.Path(__file__).parent / 'data.txt').read_text())\n"
    )
    (package / "late.py").write_text("sign = -1\n")
    (package / "data.txt").write_text(str(number))


SHIPPED = (
    "import multiprocessing\n"
    "import shipped.inner\n"
    "if __name__ == '__main__':\n"
    "    with multiprocessing.Pool(4) as pool:\n"
    "        print({pool.apply(shipped.inner.number) for _ in range(8)})\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["shipped", "./shipped", "."])
def test_a_package_is_copied(what, program, tmp_path):
    make_package(tmp_path, 7)
    assert program(SHIPPED, "--ship", what, PYTHONPATH=str(tmp_path)).stdout == "{-7}\n"


@pytest.mark.slow
def test_a_package_that_was_changed(program, tmp_path, machines):
    for number in (11, 12):
        make_package(tmp_path, number)
        assert program(SHIPPED, "--ship", "shipped", PYTHONPATH=str(tmp_path)).stdout == f"{{-{number}}}\n"
    assert not list(machines.folder.rglob("goproc-ship-*")), "the files were not removed"


@pytest.mark.slow
def test_a_package_that_is_not_shipped(program, tmp_path):
    make_package(tmp_path, 7)
    last = program(SHIPPED, PYTHONPATH=str(tmp_path), status=1).stderr.splitlines()[-1]
    assert "shipped" in last and "Error" in last


def test_a_module_is_copied(program, tmp_path):
    (tmp_path / "helpers.py").write_text("def number():\n    return 5\n")
    code = (
        "import helpers, multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.Pool(1) as pool:\n"
        "        print(pool.apply(helpers.number))\n"
    )
    assert program(code, "--ship=helpers", PYTHONPATH=str(tmp_path)).stdout == "5\n"


def test_what_is_not_there_is_not_shipped(program):
    last = program(SHIPPED.replace("import shipped.inner\n", ""), "--ship", "nowhere", status=1).stderr.splitlines()[-1]
    assert last == "ModuleNotFoundError: --ship nowhere: there is no such package, module or folder"


# ---- executors


EXECUTOR = """
import concurrent.futures, os, sys, threading, time
from concurrent.futures import ProcessPoolExecutor

def fail():
    raise KeyError("own")

def vanish():
    os._exit(3)

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)
    return "waited"

if __name__ == "__main__":
    with ProcessPoolExecutor(2) as executor:
        print(executor.submit(pow, 2, 5).result(), list(executor.map(pow, [1, 2, 3], [2, 2, 2], chunksize=2)))
        print(type(executor.submit(fail).exception()).__name__)
        print(type(executor.submit(vanish).exception()).__name__)
        future = executor.submit(wait_for, sys.argv[1] + "/never")
        items = executor._pending_work_items.values()
        print(*(item.fn.__name__ for item in items), *(item.future.cancel() for item in items), future.cancelled())
        done, _ = concurrent.futures.wait([executor.submit(abs, -n) for n in range(5)])
        print(sorted(future.result() for future in done), executor._queue_count, len(executor._pending_work_items))
        limited = executor.with_options(timeout=0.2)
        print(type(limited.submit(wait_for, sys.argv[1] + "/never").exception()).__name__)
    try:
        executor.submit(abs, 1)
    except RuntimeError as error:
        print(error)
    held = ProcessPoolExecutor(1)
    print(type(held).__module__, type(held).__name__, isinstance(held, ProcessPoolExecutor))
    ProcessPoolExecutor(1).submit(print, "an executor that nobody holds").result()
    held.submit(wait_for, sys.argv[1] + "/go").add_done_callback(lambda future: print(future.result()))
    threading.Timer(0.3, lambda: open(sys.argv[1] + "/go", "w").close()).start()
"""


def test_an_executor(machines, run_script, tmp_path):
    (tmp_path / "program.py").write_text(EXECUTOR)
    words = ["-m", "goproc", "--futures", "--cluster", machines.path, "program.py", tmp_path]
    done = run_script(*words, cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "32 [1, 4, 9]",
        "KeyError",
        "WorkerLostError",
        "wait_for True True",
        "[0, 1, 2, 3, 4] 11 0",
        "TaskTimeoutError",
        "cannot schedule new futures after shutdown",
        "goproc.futures ProcessPoolExecutor True",
        "waited",
    ]
    assert done.stderr == ""


@pytest.mark.slow
def test_joblib(program):
    pytest.importorskip("joblib")
    pytest.importorskip("numpy")
    code = (
        "import goproc.joblib, numpy\n"
        "from joblib import Parallel, delayed, parallel_config\n"
        "goproc.joblib.register()\n"
        "if __name__ == '__main__':\n"
        "    data = numpy.ones(1_000_000)\n"
        "    with parallel_config(backend='goproc', n_jobs=-1):\n"
        "        parallel = Parallel()\n"
        "        print(parallel(delayed(lambda part, n: float(part.sum()) + n)(data, n) for n in range(5)))\n"
        "        print(goproc.joblib.GoprocBackend().effective_n_jobs(-1))\n"
    )
    done = program(code)
    assert done.stdout == "[1000000.0, 1000001.0, 1000002.0, 1000003.0, 1000004.0]\n4\n"


# ---- goproc cluster


@pytest.mark.slow
def test_the_table_of_the_machines(machines, run_script, tmp_path):
    done = run_script("-m", "goproc", "cluster", machines.address)
    lines = done.stdout.splitlines()
    assert re.fullmatch(rf"goproc cluster {machines.address}, [-\d]+ [:\d]+: 2 machines, 4 cores", lines[0])
    assert lines[2].split() == ["machine", "cores", "running", "waiting", "done", "lost", "memory"]
    assert all(line.startswith("tcp://") and line.split()[1] == "2" for line in lines[3:5])
    assert lines[6] == "no program of goproc"


BUSY = """
import multiprocessing, os, sys, time

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)

def vanish():
    os._exit(1)

if __name__ == "__main__":
    with multiprocessing.Pool() as pool:
        pool.map(abs, range(100), chunksize=1)
        pool.map_async(vanish, [()]).wait()
        waiting = pool.map_async(wait_for, [sys.argv[1]] * 20, chunksize=1)
        print("busy", flush=True)
        waiting.get()
"""


@pytest.mark.slow
def test_the_table_of_a_busy_cluster(machines, run_script, tmp_path):
    (tmp_path / "program.py").write_text(BUSY)
    words = [sys.executable, "-m", "goproc", "--cluster", machines.path, "program.py", str(tmp_path / "go")]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as busy:
        try:
            assert busy.stdout.readline() == "busy\n"
            deadline = time.monotonic() + 30
            while True:
                lines = run_script("-m", "goproc", "cluster", machines.path).stdout.splitlines()
                rows = [line.split() for line in lines if line.startswith("tcp://")]
                numbers = [sum(int(row[column]) for row in rows) for column in (1, 2, 4)]
                if numbers == [4, 4, 101] or time.monotonic() > deadline:
                    break
            assert numbers[:2] == [4, 4] and numbers[2] >= 100, lines
            assert any(re.fullmatch(r"program \S+:\d+: on 2 machines, 4 tasks running", line) for line in lines)
        finally:
            (tmp_path / "go").touch()
    assert busy.returncode == 0


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        ([], 2, "cluster needs the address of one scheduler"),
        (["a", "b"], 2, "cluster needs the address of one scheduler"),
        (["local:2x2"], 2, "is made anew by each program"),
        pytest.param(
            ["tcp://127.0.0.1:9"], 1, "no scheduler at tcp://127.0.0.1:9", marks=pytest.mark.slow
        ),  # tries for 10 s
    ],
)
def test_wrong_use_of_the_command(arguments, status, message, run_script):
    assert message in run_script("-m", "goproc", "cluster", *arguments, status=status).stderr


def test_help(run_script):
    assert run_script("-m", "goproc", "cluster", "--help").stdout.startswith(
        "usage: python -m goproc cluster [ADDRESS]"
    )
