"""Functions of a notebook's cells, in a real Jupyter kernel, with each start method."""

import json
import os
import uuid
from pathlib import Path

import pytest
from helpers import wait_until

pytest.importorskip("cloudpickle", reason="cloudpickle is not installed for this Python")
pytest.importorskip("ipykernel", reason="ipykernel is not installed for this Python")
pytest.importorskip("nbclient", reason="nbclient is not installed for this Python")

pytestmark = pytest.mark.slow


@pytest.fixture
def run_notebook(run_script, tmp_path):
    """Run a notebook; return what its cells print. Fails if a process of the notebook is left."""

    def run(*cells, **variables):
        mark = uuid.uuid4().hex
        places = {"IPYTHONDIR": tmp_path / "ipython", "JUPYTER_RUNTIME_DIR": tmp_path, "JUPYTER_CONFIG_DIR": tmp_path}
        variables.update({name: str(path) for name, path in places.items()}, NOTEBOOK_OF_A_TEST=mark)
        done = run_script("notebook.py", input=json.dumps(cells), timeout=110, **variables)
        wait_until(lambda: not processes_with(mark))
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def processes_with(mark):
    """Return the processes that have the mark in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            pass  # it has ended, or is another user's
    return [pid for pid in found if pid != os.getpid()]


POOL = """
with context.Pool(2, initializer=lambda: print(end="")) as pool:
    print(pool.map(square, range(4)), pool.map(lambda x: square(x) + step, range(4)), pool.map(adder(5), range(3)))
    print(pool.apply(make, (3,)) == Point(3), pool.starmap(lambda a, b: a * b, [(2, 3)]))
    print(list(pool.imap(lambda x: -x, range(3))), sorted(pool.imap_unordered(lambda x: -x, range(3), chunksize=2)))
    try:
        pool.apply(refuse, (3,))
    except Refused as error:
        print("Refused", error)
"""

EXECUTOR = """
from goproc.futures import ProcessPoolExecutor

with ProcessPoolExecutor(2, context) as executor:
    print(executor.submit(square, 3).result(), list(executor.map(lambda a, b: a + b, [1, 2], [3, 4])))
    print(executor.submit(adder(5), 1).result(), executor.submit(make, 3).result() == Point(3))
"""

PROCESS = """
lock, total, queue = context.Lock(), context.Value("i", 0), context.Queue()

def add(amount):
    with lock:
        total.value += amount

class Adding(context.Process):
    def __init__(self, function):
        super().__init__()
        self.function = function
    def run(self):
        queue.put(self.function(2))

processes = [context.Process(target=add, args=(1,)), context.Process(target=lambda f: add(f(1)), args=(adder(5),))]
processes.append(Adding(lambda x: x + step))
for process in processes:
    process.start()
print(queue.get())
for process in processes:
    process.join()
print(total.value, [process.exitcode for process in processes])
"""

DEFINITIONS = """
step = 10

def square(number):
    return number * number

def adder(number):
    return lambda x: x + number

class Point:
    def __init__(self, x):
        self.x = x
    def __eq__(self, other):
        return isinstance(other, Point) and self.x == other.x

class Refused(Exception):
    pass

def make(x):
    return Point(x)

def refuse(x):
    raise Refused(x)
"""

PRINTED = [
    "",
    "",
    "[0, 1, 4, 9] [10, 11, 14, 19] [5, 6, 7]\nTrue [6]\n[0, -1, -2] [-2, -1, 0]\nRefused 3\n",
    "9 [4, 6]\n6 True\n",
    "12\n7 [0, 0, 0]\n",
]


def test_functions_of_cells(method, run_notebook):
    begin = f"import goproc; context = goproc.get_context({method!r}, pickler='cloudpickle')"
    assert run_notebook(begin, DEFINITIONS, POOL, EXECUTOR, PROCESS) == PRINTED


def test_unchanged_notebook(method, run_notebook):
    begin = (
        f"import goproc; goproc.install()\nimport multiprocessing; context = multiprocessing.get_context({method!r})"
    )
    printed = run_notebook(begin, DEFINITIONS, POOL, EXECUTOR, PROCESS, GOPROC_PICKLER="cloudpickle")
    assert printed == PRINTED


def test_pool_that_is_older_than_the_function(method, run_notebook):
    cells = (
        f"import goproc; pool = goproc.get_context({method!r}).Pool(1, pickler='cloudpickle'); pool.apply(int)",
        "def helper(x): return x + 1\ndef function(x): return helper(x)",
        "print(pool.map(function, range(3)))",
        "def helper(x): return x + 2",
        "print(pool.map(function, range(3)))",
        "def function(x): return helper(x) * 10",
        "print(pool.map(function, range(3)), list(pool.imap(function, [1])))",
        "pool.terminate(); pool.join()",
    )
    assert run_notebook(*cells) == ["", "", "[1, 2, 3]\n", "", "[2, 3, 4]\n", "", "[20, 30, 40] [30]\n", ""]
