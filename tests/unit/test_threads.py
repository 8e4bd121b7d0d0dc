"""threads=: how many threads BLAS and OpenMP may use in each worker of a pool, or of an executor."""

import json
import os

import pytest

import goproc
from goproc._pool.blas_threads import _VARIABLES as VARIABLES

#: A program that has numpy, and prints what its workers' libraries may use.
PROGRAM = """
import json, os, sys
import numpy
import {module} as multiprocessing


def threads(_=None):
    from threadpoolctl import threadpool_info

    numpy.ones((100, 100)) @ numpy.ones((100, 100))
    blas = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    return blas, os.environ.get("OMP_NUM_THREADS")


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(2{options}) as pool:
        print(json.dumps([threads(), pool.apply(threads)]))
"""

USABLE = goproc.usable_cpu_count()


@pytest.fixture
def program(run_script, tmp_path, method):
    """Return a function that runs PROGRAM, and returns what the program, and a worker, has: [threads, variable].

    BLAS takes no more threads than the machine has CPUs.
    """

    def run(options="", module="goproc", python=(), **variables):
        path = tmp_path / "program.py"
        path.write_text(PROGRAM.format(options=options, module=module))
        environment = dict.fromkeys(VARIABLES, "")  # overridden by variables
        code = "import os, sys; [os.environ.pop(name) for name in sys.argv[1].split(',') if not os.environ.get(name)]"
        code += "; os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
        arguments = ["-c", code, ",".join(VARIABLES), *python, path, method]
        return json.loads(run_script(*arguments, **{**environment, **variables}).stdout)

    return run


def test_a_number(program):
    own, workers = program(", threads=1")
    assert own[1] is None
    assert workers == [[1] * len(own[0]), "1"]


def test_a_number_is_more_than_what_the_environment_says(program):
    _, workers = program(", threads=1", OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2")
    assert set(workers[0]) == {1} and workers[1] == "1"


@pytest.mark.part("blas-threads")
def test_the_default(program):
    own, workers = program()
    assert workers == [[max(1, USABLE // 2)] * len(own[0]), str(max(1, USABLE // 2))]


def test_the_default_keeps_what_the_environment_says(program):
    own, workers = program(OMP_NUM_THREADS=str(USABLE))
    assert workers == own


def test_none(program):
    own, workers = program(", threads=None")
    assert workers == own and workers[1] is None


@pytest.mark.parametrize("python", [("-m", "goproc")])
def test_an_unchanged_program(program, python):
    own, workers = program(module="multiprocessing", python=python)
    assert workers == own and workers[1] is None
    own, workers = program(", threads=1", module="multiprocessing", python=python)
    assert workers == [[1] * len(own[0]), "1"]


@pytest.mark.parametrize(
    "names", [("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_MAX_THREADS")]
)
def test_all_variables(context, names, monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert set(names) < VARIABLES.keys()
    with context.Pool(1, threads=3) as pool:
        assert pool.map(os.getenv, VARIABLES) == ["3"] * len(VARIABLES)
    assert not VARIABLES.keys() & os.environ.keys()


@pytest.mark.part("blas-threads")
def test_the_default_sets_what_is_not_set(run_script, method):
    code = (
        "import json, os, goproc\n"
        "if __name__ == '__main__':\n"
        f"    names = {list(VARIABLES)!r}\n"
        "    for name in names:\n"
        "        os.environ.pop(name, None)\n"
        "    os.environ['NUMEXPR_MAX_THREADS'] = '7'\n"
        f"    with goproc.get_context({method!r}).Pool({64 if USABLE > 8 else 2 * USABLE}) as pool:\n"
        "        print(json.dumps(dict(zip(names, pool.map(os.getenv, names)))))\n"
    )
    found = json.loads(run_script("-c", code).stdout)
    assert found == {**dict.fromkeys(VARIABLES, "1"), "NUMEXPR_MAX_THREADS": "7"}


def test_the_initializer_comes_after_it(context):
    with context.Pool(1, initializer=os.putenv, initargs=("IGNORED", "1"), threads=2) as pool:
        assert pool.apply(os.getenv, ("OMP_NUM_THREADS",)) == "2"


def test_executors(context):
    with goproc.futures.ProcessPoolExecutor(2, context, threads=2) as executor:
        assert executor.submit(os.getenv, "OMP_NUM_THREADS").result() == "2"
    with goproc.futures.ProcessPoolExecutor(2, context, threads=None) as executor:
        assert executor.submit(os.getenv, "OMP_NUM_THREADS").result() == os.getenv("OMP_NUM_THREADS")


def test_replaced_workers(context):
    with context.Pool(1, maxtasksperchild=1, threads=2) as pool:
        assert pool.map(os.getenv, ["OMP_NUM_THREADS"] * 3, chunksize=1) == ["2"] * 3


@pytest.mark.parametrize("options", ["", "threads=2"])
def test_workers_import_no_libraries(run_script, method, options):
    """Neither the program nor its workers import numpy or threadpoolctl, if the program does not use such libraries."""
    code = f"""
import goproc, sys
if __name__ == "__main__":
    names = "[name for name in ('numpy', 'threadpoolctl', 'ctypes') if name in __import__('sys').modules]"
    with goproc.get_context("{method}").Pool(1, {options}) as pool:
        print(eval(names), pool.apply(eval, (names,)))
"""
    assert run_script("-c", code).stdout == "[] []\n"


HIDDEN = """
import sys
sys.modules["threadpoolctl"] = None
import numpy, goproc
"""


def test_without_threadpoolctl(run_script, method):
    code = HIDDEN + f"print(goproc.get_context('{method}').Pool(1, threads=1).apply(abs, (-1,)))\n"
    code = code.replace("print", "if __name__ == '__main__': print")
    done = run_script("-c", code, status=None)
    if method == "fork":
        assert "ImportError: threads=1 cannot be applied" in done.stderr and "goproc[threads]" in done.stderr
    else:
        assert done.stdout == "1\n"
    assert run_script("-c", code.replace("threads=1", "")).stdout == "1\n"


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", "all", True, [1]])
def test_wrong_values(value):
    with pytest.raises(ValueError, match="threads must be a positive int"):
        goproc.Pool(1, threads=value)
    with pytest.raises(ValueError, match="threads must be a positive int"):
        goproc.futures.ProcessPoolExecutor(1, threads=value)


def test_numbers_of_numpy():
    import numpy

    with goproc.get_context("spawn").Pool(1, threads=numpy.int64(2)) as pool:
        assert pool.apply(os.getenv, ("OMP_NUM_THREADS",)) == "2"
