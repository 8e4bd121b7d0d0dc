"""GOPROC_DISABLE: each part is switched off, and on. Programs behave the same, except for their speed."""

import pytest

from goproc._common import switches

MAIN = "import goproc, multiprocessing, os, sys, time\nif __name__ == '__main__':\n"

#: For each part: a program, and what it prints with the part and without it.
PROGRAMS = {
    "batches": (
        """
    multiprocessing.log_to_stderr(10)
    with goproc.Pool(1) as pool:
        pool.map(os.path.basename, ["a"] * 300, chunksize=1)
    print(" to 0." in sys.stderr.getvalue())
""",
        "True",
        "False",
    ),
    "blas-threads": (
        """
    os.environ.pop("OMP_NUM_THREADS", None)
    os.environ.pop("MKL_NUM_THREADS", None)
    with goproc.Pool(1) as pool:
        print(pool.apply(os.getenv, ("MKL_NUM_THREADS",)) == str(goproc.usable_cpu_count()))
""",
        "True",
        "False",
    ),
    "clones": (
        """
    forks = []
    os.register_at_fork(before=lambda: forks.append(1))
    with goproc.get_context("fork").Pool(6) as pool:
        pool.map(abs, range(6))
    print(len(forks))
""",
        "1",
        "6",
    ),
    "cpu-quota": (
        """
    import io
    from goproc._common import cpus
    cpus.quota_of = lambda: 1
    seven = io.BytesIO()
    seven.seek(7)
    os.cpu_count = os.process_cpu_count = seven.tell  # in C: a function in Python would be the program's, and decide
    with goproc.Pool() as pool:
        print(pool._processes)
""",
        "1",
        "7",
    ),
    "deferred-imports": (
        """
    code = "import sys; print(type(sys.modules.get('multiprocessing.reduction')).__name__)"
    process = goproc.get_context("spawn").Process(target=exec, args=(code,))
    process.start()
    process.join()
""",
        "_DeferredModule",
        "module",
    ),
    "divided-chunks": (
        """
    with goproc.Pool(2) as pool:
        pool.map(os.path.basename, ["a"] * 80)
    from goproc._common import calls
    print(calls.stats()["tasks"])
""",
        "80",
        "8",
    ),
    "dump": (
        """
    from goproc import _native
    from goproc._dump.record import Process
    print(len(_native.wait_noted(Process(os.getpid()).waits, (), _native.WAIT_OTHER, "something")))
""",
        "1",
        "0",
    ),
    "late-tracker": (
        """
    process = goproc.get_context("spawn").Process(target=abs, args=(1,))
    process.start()
    process.join()
    from multiprocessing import resource_tracker
    print(resource_tracker._resource_tracker._pid is None)
""",
        "True",
        "False",
    ),
    "late-conditions": (
        """
    import goproc.futures
    with goproc.futures.ProcessPoolExecutor(1) as executor:
        future = executor.submit(abs, -1)
        future.result()
        print("_condition" in vars(future))
""",
        "False",
        "True",
    ),
    "locks": (
        """
    context = goproc.get_context("spawn")
    print(context.Lock()._semlock.name is None)
""",
        "True",
        "False",
    ),
    "plain-items": (
        """
    queue = goproc.Queue()
    print(queue._put_plain(1))
""",
        "True",
        "False",
    ),
    "queues": (
        """
    from goproc import _native
    print(isinstance(goproc.Queue(), _native.Queue))
""",
        "True",
        "False",
    ),
    "manager-connections": (
        """
    with goproc.Manager() as manager:
        print(manager._Client.__module__)
""",
        "goproc._common.manager_connections",
        "multiprocessing.connection",
    ),
    "placed-bytes": (
        """
    with goproc.Pool(1) as pool:
        data = pool.apply(bytes, (1 << 20,))
    for line in open("/proc/self/maps"):
        low, high = (int(end, 16) for end in line.split()[0].split("-"))
        if low <= id(data) < high:
            print("memfd" in line)
""",
        "True",
        "False",
    ),
    "openmp-pauses": (
        """
    import ctypes, ctypes.util, os
    path = ctypes.util.find_library("gomp")
    if path:
        ctypes.CDLL(path).GOMP_parallel(ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p), None, 3, 0)
        threads = len(os.listdir("/proc/self/task"))
        process = goproc.get_context("fork").Process()
        process.start()
        process.join()
        print(len(os.listdir("/proc/self/task")) < threads)
    else:
        print("openmp-pauses" not in goproc._common.disabled)
""",
        "True",
        "False",
    ),
    "process-titles": (
        """
    goproc.get_context("forkserver").Pool(1).terminate()
    from goproc import forkserver
    print(open(f"/proc/{forkserver._forkserver._forkserver_pid}/cmdline").read().startswith("goproc: fork server of "))
""",
        "True",
        "False",
    ),
    "repeats": (
        """
    import posix
    made, make = [], posix.memfd_create
    posix.memfd_create = lambda *args: (made.append(args), make(*args))[1]
    with goproc.get_context("fork").Pool(1) as pool:
        pool.map(len, [bytes(2 << 20)] * 4, chunksize=1)
    print(len(made))
""",
        "1",
        "0",
    ),
    "shares": (
        """
    print("pickled" in repr(goproc.share(b"x")))
""",
        "False",
        "True",
    ),
    "preloaded-main": (
        """
    import importlib.machinery, os, shutil, tempfile
    def where():
        pass
    folder = tempfile.mkdtemp()
    try:
        with open(os.path.join(folder, "inert_program.py"), "w") as file:
            file.write("import gc\\ndef where(): print(any(o is where for o in gc.get_objects()), flush=True)")
        sys.path.insert(0, folder)
        __spec__ = importlib.machinery.ModuleSpec("inert_program", None)  # as with -m
        process = goproc.get_context("forkserver").Process(target=where)
        process.start()
        process.join()
    finally:
        shutil.rmtree(folder)
""",
        "False",  # the server has frozen all objects that it has made
        "True",
    ),
    "spawn-server": (
        """
    goproc.get_context("spawn").Pool(2).terminate()
    from goproc._common import calls
    print(calls.server_pid("spawn") is not None)
""",
        "True",
        "False",
    ),
    "standby": (
        """
    context = goproc.get_context("forkserver")
    for _ in range(4):
        process = context.Process(target=abs, args=(1,))
        process.start()
        process.join()
    from goproc import forkserver
    children = f"/proc/{forkserver._forkserver._forkserver_pid}/task/{forkserver._forkserver._forkserver_pid}/children"
    deadline = time.monotonic() + (20 if sys.argv[1] == "with" else 0.3)
    while not (found := open(children).read().split()) and time.monotonic() < deadline:
        time.sleep(0.01)
    print(bool(found))
""",
        "True",
        "False",
    ),
}

#: The log of a program goes to a list in memory, and that of the engine to the real standard error.
CAPTURED = """
    import io, tempfile
    file = tempfile.TemporaryFile("w+")
    os.dup2(file.fileno(), 2)
    class Both(io.StringIO):
        def getvalue(self):
            file.seek(0)
            return file.read()
    sys.stderr = Both()
"""


def test_every_part_is_tried():
    assert PROGRAMS.keys() == switches.PARTS.keys()


@pytest.mark.parametrize("part", PROGRAMS)
def test_a_part(run_script, part):
    program, on, off = PROGRAMS[part]
    code = MAIN + CAPTURED * ("getvalue" in program) + program
    assert run_script("-c", code, "with", GOPROC_DISABLE="").stdout.split() == [on]
    assert run_script("-c", code, "without", GOPROC_DISABLE=part).stdout.split() == [off]


def test_several_parts(run_script):
    code = "import goproc; from goproc._common import disabled; print(*sorted(disabled))"
    assert run_script("-c", code, GOPROC_DISABLE=" standby, clones,").stdout.split() == ["clones", "standby"]
    assert run_script("-c", code, GOPROC_DISABLE="all").stdout.split() == sorted(switches.PARTS)
    assert run_script("-c", code, GOPROC_DISABLE="").stdout.split() == []


def test_a_part_that_there_is_not(run_script):
    """The program says so once, and goes on; its children, who inherit the variable, say nothing."""
    code = MAIN + "    print(goproc.get_context('spawn').Pool(2).map(abs, [-1, -2]))\n"
    done = run_script("-c", code, GOPROC_DISABLE="clonse,standby")
    assert done.stdout == "[1, 2]\n"
    assert done.stderr.count("RuntimeWarning") == done.stderr.count("'clonse'") == 1
    assert all(part in done.stderr for part in switches.PARTS)


def test_the_log_says_what_is_disabled(run_script):
    done = run_script("-c", "import goproc", GOPROC_LOG="info", GOPROC_DISABLE="standby,clones")
    assert "GOPROC_DISABLE switches off: clones, standby\n" in done.stderr


def test_the_engine_is_not_loaded_for_it(run_script):
    code = "import goproc, sys; print(sorted(name for name in sys.modules if name.startswith('goproc._engine')))"
    assert run_script("-c", code, GOPROC_DISABLE="all").stdout == "[]\n"
