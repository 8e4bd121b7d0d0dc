"""goproc.joblib: joblib's Parallel on goproc's workers."""

import gc
import os
import pickle
import signal
import threading
import time
import warnings

import joblib
import joblib_targets as targets
import numpy
import pytest
from helpers import THREADS_ARE_MEANT, wait_until
from joblib import Parallel, delayed, parallel_config

import goproc.joblib
from goproc.futures import BrokenProcessPool

pytestmark = THREADS_ARE_MEANT


@pytest.fixture(autouse=True)
def backend():
    goproc.joblib.register()
    yield
    goproc.joblib.shutdown()


def run(*tasks, n_jobs=2, **options):
    return Parallel(n_jobs=n_jobs, backend="goproc", **options)(tasks)


def pids(**options):
    return set(run(*[delayed(targets.pid_after)(0.01) for _ in range(8)], **options))


# ---- results


@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
def test_results(return_as):
    for batch_size in ("auto", 1, 7):
        given = Parallel(n_jobs=2, backend="goproc", return_as=return_as, batch_size=batch_size)(
            delayed(targets.double)(number) for number in range(100)
        )
        assert isinstance(given, list) == (return_as == "list")
        results = list(given)
        assert (sorted(results) if return_as == "generator_unordered" else results) == [2 * n for n in range(100)]


def test_unordered_yields_what_is_done_first(tmp_path):
    tasks = [delayed(targets.touch_and_wait)(tmp_path, number, 60 * (number == 0)) for number in range(4)]
    results = Parallel(n_jobs=2, backend="goproc", return_as="generator_unordered", batch_size=1)(tasks)
    assert sorted(next(results) for _ in range(3)) == [1, 2, 3]
    with pytest.warns(UserWarning, match="cancelled"):
        results.close()


def test_pre_dispatch():
    for pre_dispatch in ("all", 3, "2 * n_jobs"):
        tasks = (delayed(targets.double)(number) for number in range(50))
        results = Parallel(n_jobs=2, backend="goproc", pre_dispatch=pre_dispatch)(tasks)
        assert results == [2 * number for number in range(50)]
        assert list(tasks) == []


def test_parallel_config():
    with parallel_config(backend="goproc", n_jobs=2):
        assert Parallel()(delayed(targets.double)(number) for number in range(3)) == [0, 2, 4]
        assert os.getpid() not in Parallel()(delayed(targets.pid)() for _ in range(3))


def test_with_block():
    with Parallel(n_jobs=2, backend="goproc") as parallel:
        for _ in range(3):
            assert parallel(delayed(targets.double)(number) for number in range(5)) == [0, 2, 4, 6, 8]
        with pytest.raises(ValueError):
            parallel(delayed(targets.fail)(number) for number in range(5))
        assert parallel([delayed(targets.double)(4)]) == [8]


def test_n_jobs():
    count = joblib.cpu_count()
    made = goproc.joblib.GoprocBackend(nesting_level=0)
    assert [made.effective_n_jobs(n) for n in (None, 1, 3, -1, -2)] == [1, 1, 3, count, max(count - 1, 1)]
    assert made.effective_n_jobs(-1000) == 1
    with pytest.raises(ValueError, match="n_jobs == 0"):
        run(delayed(abs)(1), n_jobs=0)
    assert run(delayed(targets.pid)(), n_jobs=1) == [os.getpid()]
    assert len(pids(n_jobs=3)) <= 3


def test_verbose(capfd):
    run(*[delayed(abs)(n) for n in range(4)], verbose=10)
    captured = capfd.readouterr()
    assert "GoprocBackend with 2 concurrent workers" in captured.out + captured.err
    assert "finished" in captured.out + captured.err


def test_no_tasks():
    assert run() == []


# ---- functions


def test_functions_that_pickle_does_not_find():
    factor = 3
    assert run(*[delayed(lambda n: factor * n)(n) for n in range(3)]) == [0, 3, 6]

    class Local:
        def __init__(self, number):
            self.number = number

    results = run(*[delayed(Local)(n) for n in range(2)])
    assert [type(result) for result in results] == [Local, Local]

    class LocalError(Exception):
        pass

    def refuse():
        raise LocalError("so")

    with pytest.raises(LocalError, match="so") as caught:
        run(delayed(refuse)())
    assert "in refuse" in str(caught.value.__cause__)


SCRIPT = """
import goproc.joblib
from joblib import Parallel, delayed

goproc.joblib.register(context={context!r})
factor = 2

class Thing:
    def __init__(self, number):
        self.number = number

def times(thing):
    return Thing(factor * thing.number)

def main():
    global factor
    for factor in 2, 3:
        results = Parallel(n_jobs=2, backend="goproc")(delayed(times)(Thing(n)) for n in range(3))
        print([type(result) is Thing and result.number for result in results])

if {guard}:
    main()
"""


@pytest.mark.parametrize("context", [None, "spawn", "fork", "forkserver"])
def test_functions_of_the_main_module(run_script, tmp_path, context):
    """They need no guard by default. In a worker that is kept, they have the present value of a variable."""
    guard = "__name__ == '__main__'" if context == "forkserver" else "True"
    script = tmp_path / "program.py"
    script.write_text(SCRIPT.format(context=context, guard=guard))
    done = run_script(script)
    assert (done.stdout, done.stderr) == ("[0, 2, 4]\n[0, 3, 6]\n", "")


@pytest.mark.slow
def test_loky_in_a_call(run_script):
    """loky's workers end with the worker that has started them, also if that worker is ended by SIGTERM."""
    text = (
        "import goproc.joblib, joblib, os; from joblib import Parallel, delayed; goproc.joblib.register()\n"
        "def inner():\n"
        "    return [os.getpid(), *Parallel(n_jobs=2, backend='loky')(delayed(os.getpid)() for _ in range(4))]\n"
        "def pids(n): return Parallel(n_jobs=n, backend='goproc')([delayed(inner)()])[0]\n"
        "first, second = pids(2), pids(3)\n"
        "try: Parallel(n_jobs=3, backend='goproc')([delayed(divmod)(1, 0), *[delayed(inner)()] * 2])\n"
        "except ZeroDivisionError: print(*first, *second)\n"
    )
    done = run_script("-c", text)
    found = done.stdout.split()
    assert len(found) == 10
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in found))


ABORTED = """
import os, sys, time
from joblib import Parallel, delayed
import goproc.joblib

def note(folder):
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(600)

def use_loky(folder):
    Parallel(n_jobs=2, backend="loky")(delayed(note)(folder) for _ in range(2))

def fail(folder):
    while len(os.listdir(folder)) < 2:
        time.sleep(0.01)
    raise ZeroDivisionError

if __name__ == "__main__":
    goproc.joblib.register()
    try:
        Parallel(n_jobs=2, backend="goproc")(delayed(function)(sys.argv[1]) for function in (use_loky, fail))
    except ZeroDivisionError:
        print(*os.listdir(sys.argv[1]))
"""


@pytest.mark.slow
def test_loky_in_a_call_that_is_ended(run_script, tmp_path):
    """loky's workers do not outlive the call, or else they would keep the program's output open for minutes."""
    program, folder = tmp_path / "program.py", tmp_path / "pids"
    program.write_text(ABORTED)
    folder.mkdir()
    found = run_script(program, folder).stdout.split()
    assert len(found) == 2
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in found))


def test_cannot_be_pickled():
    with pytest.raises(pickle.PicklingError, match="could not be pickled"):
        run(delayed(targets.back)(threading.Lock()))
    with pytest.raises(pickle.PicklingError, match="could not be pickled"):
        run(*[delayed(abs)(n) for n in range(30)], delayed(targets.back)(threading.Lock()), batch_size=1)
    with pytest.raises(pickle.PicklingError, match="result of a call could not be pickled"):
        run(delayed(threading.Lock)())
    assert run(delayed(abs)(-1)) == [1]


# ---- errors and faults


def test_exceptions():
    with pytest.raises(ValueError, match="no [0-9]") as caught:
        run(*[delayed(targets.fail)(number) for number in range(10)])
    assert "in fail" in str(caught.value.__cause__)
    generator = run(*[delayed(targets.fail)(number) for number in range(10)], return_as="generator")
    with pytest.raises(ValueError):
        list(generator)


def test_the_input_raises():
    def tasks():
        yield delayed(abs)(1)
        yield delayed(abs)(2)
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        Parallel(n_jobs=2, backend="goproc", pre_dispatch=1)(tasks())


@pytest.mark.slow
def test_a_killed_worker_costs_its_own_call():
    with pytest.raises(goproc.WorkerLostError) as caught:
        run(*[delayed(targets.die)(number) for number in range(8)], batch_size=1)
    assert isinstance(caught.value, BrokenProcessPool) and caught.value.signal == signal.SIGKILL
    before = pids()
    assert run(*[delayed(targets.double)(number) for number in range(8)]) == [2 * n for n in range(8)]
    wait_until(lambda: pids() >= before)  # the pool goes on; one worker may do all calls of one time


def test_other_calls_go_on():
    """An error ends the calls of its own Parallel only, though two share their workers."""
    with Parallel(n_jobs=2, backend="goproc", return_as="generator") as other:
        results = other(delayed(targets.pid_after)(0.01) for _ in range(20))
        first = next(results)
        with pytest.raises(ValueError):
            run(*[delayed(targets.fail)(number) for number in range(4)])
        assert len([first, *results]) == 20


def test_timeout(tmp_path):
    begin = time.monotonic()
    with pytest.raises(goproc.TimeoutError):
        run(*[delayed(time.sleep)(600) for _ in range(4)], timeout=0.2)
    assert time.monotonic() - begin < 60
    assert run(*[delayed(abs)(-n) for n in range(4)], timeout=60) == [0, 1, 2, 3]


def test_interrupt(tmp_path):
    def interrupt():
        wait_until(lambda: (tmp_path / "0").exists())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(*[delayed(targets.touch_and_wait)(tmp_path, number, 600) for number in range(4)], batch_size=1)
    thread.join()
    assert run(delayed(abs)(-1)) == [1]


# ---- workers


@pytest.mark.slow
def test_workers_are_kept():
    before = pids()
    assert os.getpid() not in before
    assert len(before | pids() | pids()) <= 2
    goproc.joblib.shutdown()
    assert before.isdisjoint(pids())


@pytest.mark.slow
def test_other_options_are_other_workers():
    before = pids()
    assert before.isdisjoint(pids(n_jobs=3))
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in before))


@pytest.mark.slow
def test_idle_workers_are_ended():
    with parallel_config(backend="goproc", n_jobs=2, idle_worker_timeout=0.1):
        before = set(Parallel()(delayed(targets.pid)() for _ in range(4)))
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in before))
        assert Parallel()([delayed(abs)(-1)]) == [1]


def test_several_threads():
    results = {}

    def work(number):
        results[number] = Parallel(n_jobs=2, backend="goproc")(delayed(targets.double)(n) for n in range(number))

    threads = [threading.Thread(target=work, args=(number,)) for number in (10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [2 * n for n in range(number)] for number in (10, 20, 30)}


@pytest.mark.slow
def test_in_a_forked_child():
    pids()
    process = goproc.get_context("fork").Process(target=_in_child)
    process.start()
    process.join(60)
    assert process.exitcode == 0


def _in_child():
    assert run(*[delayed(targets.double)(number) for number in range(4)]) == [0, 2, 4, 6]
    goproc.joblib.shutdown()


@pytest.mark.slow
def test_contexts(method):
    for context in (method, goproc.get_context(method)):
        with parallel_config(backend="goproc", n_jobs=2, context=context):
            assert Parallel()(delayed(targets.double)(number) for number in range(4)) == [0, 2, 4, 6]
            assert os.getpid() not in Parallel()(delayed(targets.pid)() for _ in range(2))
    goproc.joblib.register("other", context=method)
    assert Parallel(n_jobs=2, backend="other")([delayed(abs)(-1)]) == [1]


def test_bad_options():
    with pytest.raises(ValueError, match="cannot find context"):
        goproc.joblib.register(context="thread")
    with pytest.raises(TypeError, match="context must be"):
        goproc.joblib.register(context=7)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        with parallel_config(backend="goproc", n_jobs=2, initializer=7):
            Parallel()([delayed(abs)(-1)])
    with pytest.raises(TypeError, match="no_such_option"):
        parallel_config(backend="goproc", no_such_option=1)


def test_initializer():
    with parallel_config(backend="goproc", n_jobs=2, initializer=targets.begin, initargs=(5,)):
        assert Parallel()(delayed(targets.begun_with)() for _ in range(4)) == [5] * 4


def test_limits_of_threads(method):
    with parallel_config(backend="goproc", n_jobs=2, inner_max_num_threads=1, context=method):
        assert set(Parallel()(delayed(targets.variable)("OMP_NUM_THREADS") for _ in range(4))) == {"1"}
        assert all(set(found) <= {1} for found in Parallel()(delayed(targets.threads_of_blas)() for _ in range(4)))
    wanted = os.environ.get("OMP_NUM_THREADS", str(max(joblib.cpu_count() // 2, 1)))
    assert run(delayed(targets.variable)("OMP_NUM_THREADS")) == [wanted]


def test_make_default():
    try:
        goproc.joblib.register(make_default=True)
        assert os.getpid() not in Parallel(n_jobs=2)(delayed(targets.pid)() for _ in range(3))
    finally:
        joblib.parallel.DEFAULT_BACKEND = "loky"


# ---- nested


def test_nested():
    """Parallel in a call uses threads, and one in that nothing; if it names this backend, it has workers of its own."""
    ((kind, pid, inner),) = run(delayed(targets.nested)(None))
    assert kind == "ThreadingBackend" and inner == [pid, pid]
    ((kind, pid, inner),) = run(delayed(targets.nested)("goproc"))
    assert pid not in inner and os.getpid() not in inner


def test_in_a_pools_worker():
    with goproc.get_context("fork").Pool(1) as pool:
        assert pool.apply(_warned) == ["goproc-backed parallel loops cannot be called in a daemonic process"]


def _warned():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run(delayed(targets.pid)()) == [os.getpid()]
    return [str(warning.message).partition(",")[0] for warning in caught][:1]


# ---- arrays


def test_large_arrays_are_mapped():
    array = numpy.arange(200_000.0)
    total = float(array.sum())
    assert run(*[delayed(targets.kind_of)(array) for _ in range(4)]) == [("memmap", False, total, True)] * 4
    assert run(delayed(targets.kind_of)(array), max_nbytes=None) == [("ndarray", True, total, True)]
    assert run(delayed(targets.kind_of)(array), mmap_mode=None) == [("ndarray", True, total, True)]
    assert run(delayed(targets.kind_of)(array), mmap_mode="c") == [("memmap", True, total, True)]
    assert run(delayed(targets.kind_of)(array), max_nbytes="10M") == [("ndarray", True, total, True)]
    assert run(delayed(targets.kind_of)(array[:10]), max_nbytes=10) == [("memmap", False, 45.0, True)]


@pytest.mark.parametrize("order", ["C", "F"])
def test_orders_and_views(order):
    array = numpy.array(numpy.arange(600.0).reshape(20, 30), order=order)
    for part in (array, array[::2], array[:, ::3], array.T, array[5:]):
        (there,) = run(delayed(targets.back)(part), max_nbytes=10)
        assert type(there) is numpy.ndarray and (there == part).all()
    (found,) = run(delayed(targets.kind_of)(array), max_nbytes=10)
    assert found == ("memmap", False, float(array.sum()), order == "F")
    records = numpy.zeros(100, dtype=[("name", "U4"), ("value", "f8")])
    records["value"] = range(100)
    assert (run(delayed(targets.back)(records), max_nbytes=10)[0] == records).all()
    things = numpy.array([{"a": 1}, None] * 50, dtype=object)
    assert (run(delayed(targets.back)(things), max_nbytes=10)[0] == things).all()


def test_shared_writing(tmp_path):
    """mmap_mode="r+" writes to memory that all calls share, but not to the caller's array."""
    array = numpy.zeros(100)
    with Parallel(n_jobs=2, backend="goproc", max_nbytes=10, mmap_mode="r+") as parallel:
        assert parallel(delayed(targets.write)(array, n) for n in range(100)) == list(range(100))
    assert not array.any()
    mine = numpy.memmap(tmp_path / "file", dtype=float, shape=100, mode="w+")
    run(*[delayed(targets.write)(mine, n) for n in range(100)])
    assert list(mine) == list(range(100))
    (there,) = run(delayed(targets.back)(mine))
    assert isinstance(there, numpy.memmap) and list(there) == list(range(100))


def test_a_changed_array_is_written_again():
    array = numpy.zeros(100)
    with Parallel(n_jobs=2, backend="goproc", max_nbytes=10) as parallel:
        for number in range(3):
            array[:] = number
            assert parallel([delayed(targets.kind_of)(array)])[0][2] == 100 * number


def test_no_file_is_left(tmp_path):
    def files():
        return [name for name in os.listdir("/proc/self/fd") if "goproc-array" in _target(name)]

    arrays = [numpy.full(1000, number) for number in range(100)]
    sums = run(*[delayed(targets.kind_of)(array) for array in arrays], max_nbytes=10, batch_size=1)
    assert [found[2] for found in sums] == [1000 * number for number in range(100)]
    assert files() == []
    run(*[delayed(targets.kind_of)(array) for array in arrays], max_nbytes=10, temp_folder=str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError):
        run(delayed(targets.kind_of)(arrays[0]), delayed(targets.fail)(1), max_nbytes=10)
    gc.collect()
    assert files() == []


def _target(name):
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""


# ---- without joblib


def test_import_goproc_does_not_import_joblib(run_script):
    text = "import sys, goproc, goproc.futures; print('joblib' in sys.modules, 'goproc.joblib' in sys.modules)"
    assert run_script("-c", text).stdout == "False False\n"


def test_joblib_is_missing(run_script):
    text = "import sys; sys.modules['joblib'] = None; import goproc.joblib"
    done = run_script("-c", text, status=1)
    assert "goproc.joblib needs the package joblib: pip install 'goproc[joblib]'" in done.stderr


def test_nothing_is_left_at_the_end_of_the_program(run_script):
    text = (
        "import goproc.joblib, os; from joblib import Parallel, delayed; goproc.joblib.register()\n"
        "print(*set(Parallel(n_jobs=2, backend='goproc')(delayed(os.getpid)() for _ in range(8))))"
    )
    done = run_script("-c", text)
    assert done.stderr == ""
    assert not any(os.path.exists(f"/proc/{pid}") for pid in done.stdout.split())
