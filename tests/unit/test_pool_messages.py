"""The messages of errors in a pool: they name the item and the cause, and say what to do."""

import logging
import os
import re
import subprocess
import sys
import time
import weakref

import pytest

import goproc
from goproc import CancelledError, TaskTimeoutError, WorkerLostError
from goproc.pool import MaybeEncodingError

METHODS = ("fork", "spawn", "forkserver")
SOON = 60

#: Whether exceptions have notes. Where they have none, nothing takes their place.
NOTES = sys.version_info >= (3, 11)


class TwoArguments(Exception):
    """It can be pickled, but not unpickled."""

    def __init__(self, what, where):
        super().__init__(what)


class WithLambda(Exception):
    """It cannot be pickled."""

    def __init__(self, what):
        super().__init__(what)
        self.function = lambda: what


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


def double(number):
    return 2 * number


def leave(item, word=None):
    os._exit(3)


def leave_at(number, at=5):
    if number == at:
        os._exit(3)
    return number


def fail_at(number):
    if number == 5:
        raise ValueError("five")
    return number


def fail_with(kind):
    raise {"two": TwoArguments, "lambda": WithLambda}[kind]("it is broken", *(["here"] if kind == "two" else []))


def fails_in_many_ways(number):
    if number == 1:
        raise ValueError("one")
    if number == 2:
        raise TwoArguments("two", "here")
    if number == 3:
        sys.exit("three")
    if number == 4:
        os._exit(4)
    return number


def add(a, b):
    if b == 5:
        raise ValueError("five")
    return a + b


def refuse():
    raise ValueError("not today\nnor tomorrow")


@pytest.fixture(params=METHODS)
def pool(request):
    with goproc.get_context(request.param).Pool(2) as pool:
        yield weakref.proxy(pool)  # pytest keeps what it is given for longer than this test
    pool.join()


@pytest.fixture
def log():
    """The records of multiprocessing's logger."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = goproc.get_logger()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    yield records
    logger.removeHandler(handler)
    logger.setLevel(level)


def lost(call):
    with pytest.raises(WorkerLostError) as caught:
        call()
    return caught.value


def test_lost_call_names_function_and_arguments(pool):
    error = lost(lambda: pool.apply(leave, (7,), {"word": "x" * 200}))
    assert (error.function, error.index, error.count) == ("leave", None, 1)
    assert re.fullmatch(r"7, word='x+\.\.\.x+'", error.argument) and len(error.argument) < 100
    assert f"leave({error.argument})" in str(error)


@pytest.mark.slow
def test_lost_items_are_named(pool):
    for call in (
        lambda: pool.map(leave_at, range(8), chunksize=1),
        lambda: pool.map(leave_at, [Point(1, 2) if n == 9 else n for n in range(8)], chunksize=1),
        lambda: list(pool.imap(leave_at, iter(range(8)))),
        lambda: list(pool.imap_unordered(leave_at, range(8))),
    ):
        error = lost(call)
        assert (error.function, error.index, error.count, error.argument) == ("leave_at", 5, 1, "5")
        assert "leave_at(5), item 5 of the input, exited with status 3" in str(error)
    error = lost(lambda: pool.starmap(leave, [(1, "a"), (2, "b")][1:], chunksize=1))
    assert (error.index, error.argument) == (0, "2, 'b'")


def test_lost_chunk_names_its_items(pool):
    for call in (
        lambda: pool.map(leave_at, range(8), chunksize=3),
        lambda: list(pool.imap(leave_at, range(8), chunksize=3)),
    ):
        error = lost(call)
        assert (error.index, error.count, error.argument) == (3, 3, "[3, 4, 5]")
        assert "leave_at() on items 3 to 5 of the input, [3, 4, 5], exited" in str(error)


def test_arguments_that_are_objects_are_shown_without_running_their_code(pool):
    import numpy

    error = lost(lambda: pool.apply(leave, (Point(1, 2), numpy.arange(3))))
    assert error.argument == "<Point object>, <ndarray object>"
    assert lost(lambda: pool.apply(leave, (b"x" * 100_000,))).argument is None  # it is gone with the worker


def test_lost_error_is_pickled_whole(pool):
    import pickle

    error = lost(lambda: pool.map(leave_at, range(8), chunksize=1))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_timed_out_item_is_named(pool):
    with pytest.raises(TaskTimeoutError) as caught:
        pool.map(time.sleep, [0, 1000], task_timeout=2)
    error = caught.value
    assert (error.function, error.index, error.argument, error.limit) == ("sleep", 1, "1000", 2)
    assert "sleep(1000), item 1 of the input, ran longer than its limit of 2 s" in str(error)


def test_exception_has_a_note_with_its_item(pool):
    for call in (
        lambda: pool.map(fail_at, range(8)),
        lambda: pool.map(fail_at, range(800)),
        lambda: pool.map(fail_at, range(8), chunksize=1),
        lambda: pool.map(fail_at, iter(range(8)), chunksize=4),
        lambda: pool.starmap(add, [(1, n) for n in range(8)]),
        lambda: pool.starmap(add, [(1, n) for n in range(8)], chunksize=1),
        lambda: list(pool.imap(fail_at, range(8))),
        lambda: list(pool.imap(fail_at, iter(range(8)))),
        lambda: list(pool.imap_unordered(fail_at, range(8), chunksize=3)),
    ):
        with pytest.raises(ValueError, match="^five") as caught:
            call()
        notes = ["goproc: raised for item 5 of the input"] if NOTES else []
        assert getattr(caught.value, "__notes__", []) == notes
    with pytest.raises(ValueError) as caught:
        pool.apply(fail_at, (5,))
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("kind", ["two", "lambda"])
def test_exception_that_cannot_travel_is_told(pool, kind):
    for call in (lambda: pool.apply(fail_with, (kind,)), lambda: pool.map(fail_with, [kind])):
        with pytest.raises(MaybeEncodingError) as caught:
            call()
        name = {"two": "TwoArguments", "lambda": "WithLambda"}[kind]
        assert caught.value.value == f"{name}('it is broken')"
        assert "in fail_with" in str(caught.value.__cause__)  # the worker's traceback


@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_returned_exceptions_stand_in_their_places(pool, chunksize):
    results = pool.map(fails_in_many_ways, [0, 1, 2, 3, 9], chunksize, return_exceptions=True)
    assert (results[0], results[4]) == (0, 9)
    assert list(map(type, results[1:4])) == [ValueError, MaybeEncodingError, SystemExit]
    assert "in fails_in_many_ways" in str(results[1].__cause__)


def test_returned_exceptions_of_every_map(pool):
    for results in (
        pool.map_async(fail_at, range(8), return_exceptions=True).get(SOON),
        pool.starmap(add, [(0, n) for n in range(8)], return_exceptions=True),
        pool.starmap_async(add, [(0, n) for n in range(8)], 2, return_exceptions=True).get(SOON),
    ):
        assert results[:5] + results[6:] == [0, 1, 2, 3, 4, 6, 7]
        assert type(results[5]) is ValueError
    results = pool.map(fails_in_many_ways, [0, 4, 5], chunksize=1, return_exceptions=True)
    assert (results[0], type(results[1]), results[2]) == (0, WorkerLostError, 5)
    results = pool.map(fails_in_many_ways, [5, 6, 0, 4, 7], chunksize=2, return_exceptions=True)
    assert results[:2] + results[4:] == [5, 6, 7]
    assert list(map(type, results[2:4])) == [WorkerLostError, WorkerLostError]


def test_broken_input_is_raised_even_if_exceptions_are_returned(pool):
    class Broken:
        def __len__(self):
            return 4

        def __iter__(self):
            yield 1
            raise OSError("broken input")

    with pytest.raises(OSError, match="broken input"):
        pool.map(double, Broken(), chunksize=1, return_exceptions=True)


def test_get_after_the_block_says_that_leaving_it_terminates():
    with goproc.get_context("fork").Pool(1) as pool:
        result = pool.apply_async(time.sleep, (1000,))
        waiting = pool.apply_async(double, (1,))
    for each in (result, waiting):
        with pytest.raises(CancelledError, match="leaving a `with Pool\\(\\)` block terminates the pool"):
            each.get(SOON)
    pool.join()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_failing_initializer_is_told_once(method, tmp_path):
    program = (
        "import goproc, sys\n"
        "def refuse():\n"
        "    raise ValueError('not today\\nnor tomorrow')\n"
        "if __name__ == '__main__':\n"
        f"    with goproc.get_context({method!r}).Pool(2, refuse) as pool:\n"
        "        pool.map(abs, range(4))\n"
    )
    done = run(program, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("goproc: a worker of a pool could not begin: ValueError: not today\n")
    assert done.stderr.count("in refuse") == 1
    assert done.stderr.count("nor tomorrow\n") == 2  # in the worker's traceback, and in the exception's


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_missing_main_guard_is_told_once(method, tmp_path):
    done = run(f"import goproc\npool = goproc.get_context({method!r}).Pool(4)\npool.map(abs, range(8))\n", tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("RemoteTraceback") == 0
    assert done.stderr.count("if __name__ == '__main__':") == 1
    assert len(done.stderr.splitlines()) < 40


def test_main_module_that_cannot_be_imported_anew_is_explained(tmp_path):
    program = "import goproc\ngoproc.set_start_method('spawn')\nwith goproc.Pool(2) as pool:\n    pool.map(abs, [1])\n"
    done = run(program, tmp_path)
    assert done.stderr.count("RemoteTraceback") == 1
    assert ('must stand below `if __name__ == "__main__":`' in done.stderr) == NOTES


def run(program, folder=None):
    command = [sys.executable, "-c", program]
    if folder is not None:
        (folder / "program.py").write_text(program)
        command = [sys.executable, folder / "program.py"]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: goproc.Pool("two"), TypeError, "processes must be an int, not 'two'"),
        (lambda: goproc.Pool(2, retrys=1), TypeError, "unexpected keyword argument 'retrys': did you mean 'retries'"),
        (lambda: goproc.get_context("sprawn"), ValueError, "'sprawn': the start methods are fork, spawn, forkserver"),
    ],
)
def test_wrong_arguments(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"log": "debug"}, "log must be True or False, not 'debug'"),
        ({"nested": "no"}, "nested must be True or False, not 'no'"),
        ({"nested": None}, "nested must be True or False, not None"),
        ({"cancel_on_interrupt": 2}, "cancel_on_interrupt must be True or False, not 2"),
        ({"max_memory_per_child": True}, "max_memory_per_child must be a positive int or None, not True"),
        ({"max_memory_per_task": True}, "max_memory_per_task must be a positive int or None, not True"),
    ],
)
def test_values_of_a_wrong_kind(options, text):
    with pytest.raises(TypeError, match=re.escape(text)):
        goproc.Pool(1, **options)
    if options.keys() & {"nested", "max_memory_per_task"}:
        with pytest.raises(TypeError, match=re.escape(text)):
            goproc.futures.ProcessPoolExecutor(1, **options)


def test_true_and_false_are_valid():
    for yes, no in ((True, False), (1, 0)):
        with goproc.Pool(1, nested=yes, log=no, cancel_on_interrupt=yes) as pool:
            assert pool.map(abs, [-1], return_exceptions=no) == [1]
        pool.join()


def test_values_of_a_wrong_kind_for_calls():
    with goproc.Pool(1) as pool:
        for name in ("map", "starmap", "map_async", "starmap_async"):
            with pytest.raises(TypeError, match="return_exceptions must be True or False, not 'no'"):
                getattr(pool, name)(double, [1], return_exceptions="no")
            with pytest.raises(TypeError, match="retries must be a non-negative int, not True"):
                getattr(pool, name)(double, [1], retries=True)
        for name in ("imap", "imap_unordered", "stream"):
            with pytest.raises(TypeError, match="prefetch must be an int, not True"):
                getattr(pool, name)(double, [1], prefetch=True)
            with pytest.raises(TypeError, match="task_timeout must be a number of seconds, not True"):
                getattr(pool, name)(double, [1], task_timeout=True)
        with pytest.raises(TypeError, match="timeout must be a number of seconds, not True"):
            pool.apply_async(double, (1,), timeout=True)
    pool.join()


def test_wrong_arguments_of_calls():
    with goproc.get_context("fork").Pool(1) as pool:
        for name in ("map", "starmap", "map_async", "starmap_async", "imap", "imap_unordered"):
            method = getattr(pool, name)
            with pytest.raises(TypeError, match="task_timeout= limits each task"):
                method(double, [1], timeout=5)
            with pytest.raises(TypeError, match="did you mean 'task_timeout'"):
                method(double, [1], task_timout=5)
            with pytest.raises(TypeError, match="task_timeout must be a number of seconds, not '5'"):
                method(double, [1], task_timeout="5")
        for method in (pool.apply, pool.apply_async):
            with pytest.raises(TypeError, match="did you mean 'timeout'"):
                method(double, (1,), tiemout=5)
        with pytest.raises(Exception) as caught:
            pool.apply(lambda: 1)
        notes = getattr(caught.value, "__notes__", [])
        assert any("travels to a worker by its name" in note for note in notes) == NOTES
    pool.join()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_function_that_a_worker_does_not_find(method):
    program = (
        "import goproc, traceback\n"
        "def at_the_prompt(n):\n"
        "    return n\n"
        f"with goproc.get_context({method!r}).Pool(1) as pool:\n"
        "    pool.map(at_the_prompt, [1])\n"
    )
    done = run(program)
    assert "AttributeError: Can't get attribute 'at_the_prompt' on <module '__main__'" in done.stderr
    assert ("A function that is defined at a prompt, in a notebook's cell" in done.stderr) == NOTES


def test_faults_are_warnings_in_the_log(pool, log):
    with pytest.raises(WorkerLostError):
        pool.apply(leave, (1,))
    with pytest.raises(TaskTimeoutError):
        pool.apply(time.sleep, (1000,), timeout=0.3)
    texts = [record.getMessage() for record in log]
    assert all(record.levelno == logging.WARNING for record in log)
    assert [text for text in texts if re.search(r"ran leave\(1\) exited with status 3 \(after [\d.]+ s\)", text)]
    assert [text for text in texts if re.search(r"sleep\(1000\) ran longer than .* \(after [\d.]+ s\)", text)]
    assert [text for text in texts if "another one takes its place" in text]


def test_retried_task_is_in_the_log(log, tmp_path):
    with goproc.get_context("fork").Pool(1, retries=1) as pool:
        assert pool.apply(leave_once, (tmp_path / "been",)) == "done"
    pool.join()
    assert [record for record in log if "the task is run again" in record.getMessage()]


def leave_once(path):
    if not path.exists():
        path.touch()
        os._exit(3)
    return "done"


def test_stats_count_faults_and_executors():
    program = (
        "import os, time, goproc\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "if __name__ == '__main__':\n"
        "    context = goproc.get_context('fork')\n"
        "    with context.Pool(1, retries=1) as pool:\n"
        "        for call in (pool.apply_async(os._exit, (1,)), pool.apply_async(time.sleep, (99,), timeout=0.2)):\n"
        "            try:\n"
        "                call.get()\n"
        "            except goproc.ProcessError:\n"
        "                pass\n"
        "    with ProcessPoolExecutor(2, mp_context=context) as executor:\n"
        "        assert list(executor.map(abs, range(5))) == list(range(5))\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    environment = {**os.environ, "GOPROC_STATS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    assert ", by executors: 5;" in done.stderr
    assert "tasks over their limit: 1; tasks run again: 1\n" in done.stderr
    environment["GOPROC_STATS"] = "yes"
    done = subprocess.run([sys.executable, "-c", "import goproc"], capture_output=True, text=True, env=environment)
    assert "GOPROC_STATS='yes' is ignored: it must be 1 or 0" in done.stderr
