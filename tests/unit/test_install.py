"""install(): `import multiprocessing` means goproc, whatever was imported before, here and in all children."""

import gzip
import subprocess
import sys

import pytest

BEFORE = [
    "",
    "import multiprocessing.pool, multiprocessing.popen_fork",
    "import goproc.pool",
    "from multiprocessing import *; import multiprocessing.managers",
    "import concurrent.futures.process, multiprocessing; multiprocessing.set_start_method('spawn')",
]

AFTER = [
    "import multiprocessing.pool",
    "import goproc.pool",
    "from multiprocessing.pool import CLOSE",
    "import multiprocessing.managers",
    "import multiprocessing; multiprocessing.get_context('spawn').Pool",
]

CHECKS = """
import pickle, sys
import multiprocessing, multiprocessing.pool, multiprocessing.forkserver, multiprocessing.popen_fork
import goproc.pool, goproc.forkserver, goproc.context
from goproc._common.stdlib import standard_module
assert multiprocessing.Process is goproc.Process
assert multiprocessing.pool is sys.modules["multiprocessing.pool"] is goproc.pool
assert multiprocessing.forkserver is goproc.forkserver
assert multiprocessing.popen_fork.Popen is goproc.popen_fork.Popen
assert goproc.pool.__spec__.name == "goproc.pool"
assert standard_module("pool").__name__ == "multiprocessing.pool"
assert standard_module("pool").MaybeEncodingError is goproc.pool.MaybeEncodingError
assert multiprocessing.get_start_method() == goproc.get_start_method()
assert multiprocessing.get_context("spawn") is goproc.get_context("spawn")
assert multiprocessing.context._default_context is goproc.context._default_context
multiprocessing.set_start_method("forkserver", force=True)
assert goproc.get_start_method() == "forkserver"
if "get_context" in globals():  # imported before
    assert get_context() is goproc.get_context("forkserver")
    assert get_context("fork") is goproc.get_context("fork")
    pickle.dumps(Process)
assert [name for name in multiprocessing.__all__ if not hasattr(goproc, name)] == []
"""


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("after", AFTER)
def test_whatever_the_order(run_script, before, after):
    code = "\n".join([before, "import goproc; goproc.install(); goproc.install()", after, CHECKS])
    assert run_script("-c", code).stderr == ""


#: What one thread does while another does the second, and what is true then.
AT_THE_SAME_TIME = {
    "a pool and a manager": ("spawn.Pool(1).terminate()", "with spawn.Manager(): pass"),
    "queues": ("spawn.SimpleQueue()", "from multiprocessing.queues import Queue; assert type(spawn.Queue()) is Queue"),
    "locks": ("spawn.Event()", "from multiprocessing.synchronize import Lock; assert type(spawn.Lock()) is Lock"),
}

THREADS = """
import multiprocessing, threading
import goproc; goproc.install()

def first():
    %s

def second():
    %s

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


@pytest.mark.parametrize("case", AT_THE_SAME_TIME)
def test_two_threads_at_the_same_time(run_script, tmp_path, case):
    (tmp_path / "program.py").write_text(THREADS % AT_THE_SAME_TIME[case])
    assert run_script(tmp_path / "program.py").stderr == ""


#: For the ways in which install() changes multiprocessing: what a program did before, and finds after.
WAYS = {
    "public names": ("import multiprocessing", "multiprocessing.Process is goproc.Process"),
    "the default context: bound methods of before": (
        "from multiprocessing import set_start_method, get_start_method",
        "set_start_method('spawn') is None and goproc.get_start_method() == get_start_method() == 'spawn'",
    ),
    "the default context: the object of before": (
        "from multiprocessing.context import _default_context as old",
        "isinstance(old, goproc.context.DefaultContext) and old.get_context() is goproc.get_context()",
    ),
    "the default context: a state of before": (
        "import multiprocessing; multiprocessing.set_start_method('forkserver')",
        "goproc.get_start_method() == 'forkserver'",
    ),
    "contexts by start method": (
        "from multiprocessing import get_context",
        "all(get_context(name) is goproc.get_context(name) for name in ('fork', 'spawn', 'forkserver'))",
    ),
    "contexts: an object of before": (
        "import multiprocessing; old = multiprocessing.get_context('spawn')",
        "type(old).__module__ == 'multiprocessing.context' and run(old.Process)",
    ),
    "modules: imported before": (
        "import multiprocessing.pool",
        "multiprocessing.pool is sys.modules['multiprocessing.pool'] is goproc.pool",
    ),
    "modules: imported after": ("", "__import__('multiprocessing.pool').pool is goproc.pool"),
    "modules: not imported": ("", "'goproc.pool' not in sys.modules and 'goproc.forkserver' not in sys.modules"),
    "classes: identity": (
        "from multiprocessing.process import BaseProcess; from multiprocessing import Process, TimeoutError",
        "issubclass(goproc.Process, BaseProcess) and goproc.TimeoutError is TimeoutError and run(Process)",
    ),
    "classes: pickles": (
        "import pickle; from multiprocessing import Process; old = pickle.dumps(Process)",
        "pickle.loads(old) in (goproc.Process, Process)",
    ),
}

RUN = """
def run(kind):
    from goproc._common import calls
    process = kind(target=abs, args=(1,))
    process.start()
    process.join()
    return process.exitcode == 0 and sum(calls.stats()["started"].values()) == 1
"""


@pytest.mark.parametrize("way", WAYS)
def test_a_way(run_script, way):
    before, after = WAYS[way]
    begin = f"import sys\n{before}\nimport goproc\ngoproc.install()\n{RUN}\n"
    assert run_script("-c", f"{begin}if __name__ == '__main__':\n    print({after})").stdout == "True\n"


def test_a_start_method_that_is_set_stays(run_script):
    code = "import multiprocessing, goproc; multiprocessing.set_start_method('spawn'); goproc.install()\n"
    assert run_script("-c", code + "print(goproc.get_start_method())").stdout == "spawn\n"


@pytest.mark.parametrize("before", ["", "import goproc.pool", "import goproc._pool.queue_pool"])
def test_a_pool_class_that_was_imported_before(run_script, method, before):
    """The class stays the standard library's, and its pools work on the engine's processes."""
    code = f"""
from multiprocessing.pool import Pool
{before}
import goproc, goproc._common.calls
goproc.install()
goproc.set_start_method({method!r})
with Pool(2, maxtasksperchild=2) as pool:
    print(pool.map(abs, [-1, -2, -3]), [pool.apply(abs, (-i,)) for i in range(4)])
try:
    with Pool(1) as pool:
        pool.apply(int, ("x",))
except ValueError as error:
    print(type(error.__cause__).__name__)
print(type(pool) is goproc.pool.Pool, goproc._common.calls.stats()["started"][{method!r}] >= 3)
"""
    expected = "[1, 2, 3] [0, 1, 2, 3]\nRemoteTraceback\nFalse True\n"
    assert run_script("-c", code, timeout=20).stdout == expected


MADE_BEFORE = """
import multiprocessing, multiprocessing.managers, multiprocessing.pool, sys

context = multiprocessing.get_context("spawn")
queue = context.JoinableQueue()
made = [context.Lock(), context.RLock(), context.Semaphore(2), context.Event(), context.Condition(), context.Barrier(1)]
made += [context.Value("i", 3), context.Queue(), context.SimpleQueue(), queue]
made += [multiprocessing.pool.Pool, multiprocessing.pool.MapResult, type(made[0])]

import goproc
goproc.install()

def use(things, deeper, connection):
    if deeper:
        process = goproc.get_context(sys.argv[1]).Process(target=use, args=(things, False, connection))
        process.start()
        process.join()
        return
    lock, *_, barrier, value, results, _, tasks, pool, _, _ = things
    with lock:
        barrier.wait()
        results.put(value.value + tasks.get())
        tasks.task_done()
    connection.send(pool.__name__)

if __name__ == "__main__":
    for deeper in False, True:
        queue.put(4)
        here, there = goproc.Pipe()
        process = goproc.get_context(sys.argv[1]).Process(target=use, args=(made, deeper, there))
        process.start()
        print(made[7].get(), here.recv())
        process.join()
        queue.join()
    with goproc.get_context(sys.argv[1]).Manager() as manager, manager.Pool(1) as pool:
        print(pool.map(abs, [-5]))
"""


@pytest.mark.part("locks")  # multiprocessing's own locks leave semaphores in this program, also without goproc
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_was_made_before_can_be_sent(run_script, tmp_path, method):
    """Pickle finds the classes that goproc has replaced: in a child, in its child, and in a manager's table."""
    program = tmp_path / "program.py"
    program.write_text(MADE_BEFORE)
    done = run_script(program, method)
    assert (done.stdout, done.stderr) == ("7 Pool\n7 Pool\n[5]\n", "")


def test_importing_goproc_leaves_multiprocessing_alone(run_script):
    code = """
import multiprocessing, goproc, goproc.pool, goproc.spawn
assert multiprocessing.Process.__module__ == "multiprocessing.context"
assert multiprocessing.get_context("spawn") is not goproc.get_context("spawn")
goproc.set_start_method("spawn")
assert multiprocessing.get_start_method(allow_none=True) is None
goproc.spawn.get_preparation_data("a name")
assert multiprocessing.get_start_method(allow_none=True) is None
"""
    assert run_script("-c", code).stderr == ""


def test_children_have_it_too(run_script, tmp_path, method):
    """A child that imports multiprocessing starts its own children with the engine; and so do theirs."""
    program = tmp_path / "program.py"
    program.write_text(
        """
import sys
import goproc
if __name__ == "__main__":
    goproc.install()

def child(depth, queue):
    import multiprocessing
    queue.put((multiprocessing.Process.__module__, multiprocessing.get_start_method()))
    if depth:
        process = multiprocessing.Process(target=child, args=(depth - 1, queue))
        process.start()
        process.join()
        queue.put(type(process._popen)._launch.__module__)

if __name__ == "__main__":
    import multiprocessing
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.SimpleQueue()
    process = multiprocessing.Process(target=child, args=(1, queue))
    process.start()
    process.join()
    print(queue.get(), queue.get(), queue.get())
"""
    )
    module = {"fork": "popen_fork", "spawn": "popen_spawn_posix", "forkserver": "popen_forkserver"}[method]
    done = run_script(program, method)
    assert done.stdout == f"('goproc.context', '{method}') ('goproc.context', '{method}') goproc.{module}\n"
    assert done.stderr == ""


def test_importing_in_a_free_threaded_interpreter_is_refused():
    code = "import sys; sys.abiflags += 't'; import goproc"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert "ImportError: goproc (in " in done.stderr
    assert "this is a free-threaded build, and goproc's C code relies on the GIL" in done.stderr
    assert done.stderr.rstrip().endswith(f"Use the ordinary build, {version}")


HOLDS_UNTIL_THE_END = """
import gzip
import multiprocessing
import multiprocessing.managers
import multiprocessing.reduction
import os
import sys

class Last:
    def __del__(self):
        os.write(1, b"deleted\\n")

def reduced(last):
    return Last, ()

def write(path):
    global file, last, pools
    import multiprocessing.pool as pools
    file, last = gzip.open(path, "wt"), Last()
    file.write("all of it")

if sys.argv[1] == "goproc":
    import goproc
    goproc.install()
if __name__ == "__main__":
    last = Last()
    multiprocessing.reduction.ForkingPickler.register(Last, reduced)
    multiprocessing.managers.SyncManager.register("last", reduced)
    multiprocessing.current_process().reduced = reduced
    if sys.argv[2] == "main":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.apply(abs, (-1,))
    else:
        process = multiprocessing.get_context("spawn").Process(target=write, args=(sys.argv[3],))
        process.start()
        process.join()
"""


def test_what_a_program_holds_is_finalized(run_script, tmp_path):
    """At the end of an interpreter, though multiprocessing refers to the program: as with multiprocessing."""
    (tmp_path / "program.py").write_text(HOLDS_UNTIL_THE_END)
    program, file = tmp_path / "program.py", tmp_path / "file.gz"
    # CPython 3.14 itself finalizes no main module to which its library refers.
    deleted, written = ("deleted\n", b"all of it") if sys.version_info < (3, 14) else ("", None)
    for module in "multiprocessing", "goproc":
        assert run_script(program, module, "main").stdout == deleted
        assert run_script(program, module, "child", file).stdout == 2 * deleted
        assert written is None or gzip.decompress(file.read_bytes()) == written


NAMES = """
import multiprocessing, multiprocessing.pool, pickle, sys

def pass_on(objects, queue):
    queue.put([str(type(each)) for each in objects])

class Own(type(multiprocessing.Queue())):
    pass

if __name__ == "__main__":
    method = sys.argv[1]
    context = multiprocessing.get_context(method)
    names = "Queue SimpleQueue JoinableQueue Lock RLock Semaphore BoundedSemaphore Event Condition"
    objects = [getattr(context, name)() for name in names.split()]
    objects += [context.Barrier(1), Own(ctx=context)]
    queue = context.Queue()
    process = context.Process(target=pass_on, args=(objects, queue))
    process.start()
    received = queue.get()
    process.join()
    with context.Pool(1) as pool, multiprocessing.pool.ThreadPool(1) as threads:
        results = [pool.apply_async(abs, (1,)), pool.map_async(abs, [1]), pool.imap(abs, [1])]
        others = [pool, threads, *results]
        print(*(type(each).__module__ + "." + type(each).__name__ for each in objects + others), sep="\\n")
        print(received == [str(type(each)) for each in objects])
        print(pickle.loads(pickle.dumps(type(pool))) is type(pool), repr(pool).startswith("<multiprocessing.pool.Pool"))
"""


@pytest.mark.part("locks")
@pytest.mark.part("queues")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_types_have_the_names_that_multiprocessing_gives_them(run_script, tmp_path, method):
    """CaImAn asks whether 'multiprocessing' is in str(type(pool)); Sanic asks the same about queues and locks."""
    (tmp_path / "program.py").write_text(NAMES)
    ours = run_script("-m", "goproc", "program.py", method, cwd=tmp_path)
    theirs = run_script("program.py", method, cwd=tmp_path)
    assert ours.stdout == theirs.stdout
    late = "import goproc, multiprocessing as m; q, p = goproc.Queue(), goproc.Pool(1); goproc.install(); "
    late += "print(type(q).__module__, type(p).__module__, type(m.Queue()).__module__); p.terminate()"
    assert run_script("-c", late).stdout == "multiprocessing.queues multiprocessing.pool multiprocessing.queues\n"
    without = "import goproc; print(type(goproc.Queue()).__module__, goproc.Lock().__module__)"
    assert run_script("-c", without).stdout == "goproc.queues goproc.synchronize\n"


RELOADS = """
import importlib, multiprocessing.pool, multiprocessing.queues, multiprocessing.synchronize, sys

def answer(queue, lock):
    with lock:
        queue.put("answer")

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    for module in multiprocessing.queues, multiprocessing.synchronize, multiprocessing.pool:
        importlib.reload(module)
        queue, simple, event, lock = context.Queue(), context.SimpleQueue(), context.Event(), context.Lock()
        for each in queue, simple:
            process = context.Process(target=answer, args=(each, lock))
            process.start()
            print(each.get())
            process.join()
        print(type(queue) is multiprocessing.queues.Queue, isinstance(event, multiprocessing.synchronize.Event))
        with context.Pool(1) as pool:
            print(pool.map(abs, [-1]), isinstance(pool, multiprocessing.pool.Pool))
"""


@pytest.mark.part("locks")
@pytest.mark.part("queues")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_modules_can_be_loaded_again(run_script, tmp_path, method):
    (tmp_path / "program.py").write_text(RELOADS)
    expected = 3 * "answer\nanswer\nTrue True\n[1] True\n"
    assert run_script("program.py", method, cwd=tmp_path).stdout == expected
    assert run_script("-m", "goproc", "program.py", method, cwd=tmp_path).stdout == expected
