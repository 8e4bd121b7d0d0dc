"""Faults: each is the exception of one result; all other results are right, and the pool goes on."""

import os
import pickle
import signal
import sys
import threading
import time
from multiprocessing.connection import wait
from multiprocessing.pool import MaybeEncodingError, RemoteTraceback
from pathlib import Path

import pool_targets as targets
import pytest

import goproc
from goproc import WorkerLostError
from goproc._pool import crew

#: Seconds by which even a loaded machine has noticed a fault.
SOON = 20

# What a task does, and what its result raises.
DEATHS = {
    "SIGKILL": (targets.end_by_sigkill, -signal.SIGKILL),
    "os._exit": (targets.end_by_os_exit, 7),
    "segfault": (targets.end_by_sigsegv, -signal.SIGSEGV),
}
BAD_VALUES = {
    "own BaseException": (targets.raise_own_base, targets.OwnBaseError),
    "SystemExit": (targets.exit_normally, SystemExit),
    "KeyboardInterrupt": (targets.interrupt_self, KeyboardInterrupt),
    "exception that cannot be rebuilt": (targets.raise_unbuildable, MaybeEncodingError),
    "exception that cannot be pickled": (targets.raise_unpicklable, MaybeEncodingError),
    "result that cannot be rebuilt": (targets.return_bomb, MaybeEncodingError),
    "result that is no member of its Enum": (targets.return_no_member, MaybeEncodingError),
    "result that raises a BaseException": (targets.return_base_bomb, MaybeEncodingError),
    "result that exits": (targets.return_exiting_bomb, MaybeEncodingError),
    "lambda": (targets.return_lambda, MaybeEncodingError),
    "generator": (targets.return_generator, MaybeEncodingError),
    "lock": (targets.return_thread_lock, MaybeEncodingError),
    "result that cannot be shown": (targets.return_bad_repr, MaybeEncodingError),
}
FAULTS = {name: (function, WorkerLostError) for name, (function, _) in DEATHS.items()} | BAD_VALUES


@pytest.mark.parametrize("fault", FAULTS)
def test_apply_async(context, fault):
    function, expected = FAULTS[fault]
    with context.Pool(2) as pool:
        before = [pool.apply_async(targets.double, (i,)) for i in range(20)]
        bad = pool.apply_async(function)
        after = [pool.apply_async(targets.double, (i,)) for i in range(20)]
        with pytest.raises(expected):
            bad.get(SOON)
        assert bad.ready() and not bad.successful()
        assert [result.get(SOON) for result in before + after] == [2 * i for i in range(20)] * 2
        assert pool.map(targets.double, range(10)) == [2 * i for i in range(10)]
        assert len(pool._pool) == 2
    pool.join()


@pytest.mark.parametrize("fault", FAULTS)
def test_map(context, fault):
    function, expected = FAULTS[fault]
    with context.Pool(2) as pool:
        other = pool.map_async(targets.double, range(50), chunksize=1)
        with pytest.raises(expected):
            pool.map_async(function, range(3), chunksize=1).get(SOON)
        assert other.get(SOON) == [2 * i for i in range(50)]
        assert pool.map(targets.double, range(10)) == [2 * i for i in range(10)]
    pool.join()


@pytest.mark.parametrize(
    "unordered", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["imap", "imap_unordered"]
)
@pytest.mark.parametrize("fault", FAULTS)
def test_imap(context, fault, unordered):
    """The loss comes at its item's turn, and iteration goes on."""
    function, expected = FAULTS[fault]
    with context.Pool(2) as pool:
        items = [(i, function, 3) for i in range(8)]
        results = (pool.imap_unordered if unordered else pool.imap)(_end_if, items)
        values, lost = [], []
        for turn in range(8):
            try:
                values.append(results.next(SOON))
            except expected:
                lost.append(turn)
        with pytest.raises(StopIteration):
            results.next(SOON)
        assert len(lost) == 1
        assert sorted(values) == [0, 2, 4, 8, 10, 12, 14]
        if not unordered:
            assert lost == [3] and values == sorted(values)
    pool.join()


def _end_if(item):
    value, function, bad = item
    return function() if value == bad else 2 * value


@pytest.mark.parametrize("death", DEATHS)
def test_a_lost_worker_is_described(context, death):
    function, exitcode = DEATHS[death]
    with context.Pool(1) as pool:
        (pid,) = [process.pid for process in pool._pool]
        with pytest.raises(WorkerLostError) as caught:
            pool.apply_async(function).get(SOON)
        error = caught.value
        assert (error.pid, error.exitcode) == (pid, exitcode)
        assert error.signal == (-exitcode if exitcode < 0 else None)
        assert function.__name__ in str(error) and str(pid) in str(error)
        if exitcode < 0:
            assert signal.Signals(-exitcode).name in str(error)
        else:
            assert f"status {exitcode}" in str(error)
        assert isinstance(error, goproc.ProcessError)
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.pid, again.exitcode, again.signal) == (str(error), pid, exitcode, error.signal)
        assert pool.apply(targets.pid) != pid  # replaced
    pool.join()


def test_killed_from_outside(tmp_path, context):
    with context.Pool(2) as pool:
        started = tmp_path / "started"
        bad = pool.apply_async(targets.signal_and_wait, (started, tmp_path / "never"))
        targets.wait_for_file(started)
        others = [pool.apply_async(targets.double, (i,)) for i in range(20)]
        for process in list(pool._pool):
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(WorkerLostError):
            bad.get(SOON)
        for i, result in enumerate(others):  # those that were running are lost, the others run elsewhere
            try:
                assert result.get(SOON) == 2 * i
            except WorkerLostError:
                pass
        assert pool.map(targets.double, range(10)) == [2 * i for i in range(10)]
    pool.join()


def test_idle_workers_killed_again_and_again(context):
    """These workers do not die at birth, so the pool is never given up."""
    with context.Pool(2) as pool:
        for _ in range(6):
            killed = list(pool._pool)
            for process in killed:
                _wait_until_idle(process)
                os.kill(process.pid, signal.SIGKILL)
            for process in killed:
                process.join()
            while set(killed) & set(pool._pool):
                pool._repopulate_pool()
                time.sleep(0.01)
        assert pool.map(targets.double, range(10)) == [2 * i for i in range(10)]
    pool.join()


def _wait_until_idle(process):
    """A worker that waits for a task sleeps in a futex."""
    while "futex" not in Path(f"/proc/{process.pid}/wchan").read_text():
        time.sleep(0.005)


def test_every_worker_lost_at_once(context):
    with context.Pool(3) as pool:
        results = [pool.apply_async(targets.end_by_sigkill) for _ in range(9)]
        for result in results:
            with pytest.raises(WorkerLostError):
                result.get(SOON)
        assert pool.map(targets.double, range(10)) == [2 * i for i in range(10)]
    pool.join()


def test_lost_while_closing(context):
    """A pool that is closed still does all that it was given."""
    pool = context.Pool(1)
    results = [pool.apply_async(targets.double, (1,)), pool.apply_async(targets.end_by_os_exit)]
    results += [pool.apply_async(targets.double, (i,)) for i in range(5)]
    pool.close()
    pool.join()
    assert results[0].get(0) == 2
    with pytest.raises(WorkerLostError):
        results[1].get(0)
    assert [result.get(0) for result in results[2:]] == [0, 2, 4, 6, 8]


@pytest.mark.slow
def test_workers_cannot_be_replaced_while_the_input_of_a_closed_pool_is_read(tmp_path):
    """No more of the input will be submitted, so the pool can be joined though its input goes on."""
    release, bad = threading.Event(), tmp_path / "bad"

    def items():
        yield 1
        release.wait(SOON)

    pool = goproc.get_context("fork").Pool(2, targets.raise_if_exists, (bad,))
    results = pool.imap(targets.double, items())
    assert results.next(SOON) == 2
    for process in pool._pool:
        _wait_until_idle(process)
    bad.touch()
    for process in list(pool._pool):
        os.kill(process.pid, signal.SIGKILL)
    pool.close()
    with pytest.raises(WorkerLostError):
        results.next(SOON)
    pool.join()
    release.set()
    results._reader.join()


@pytest.mark.slow
def test_joined_while_the_last_worker_is_replaced():
    """The pool has no worker at that moment, and is not done."""
    lost = threading.Event()
    pool = goproc.get_context("spawn").Pool(1, targets.nothing, targets.SlowToPickle())
    bad = pool.apply_async(targets.end_by_os_exit, error_callback=lambda _: lost.set())
    good = pool.apply_async(targets.double, (2,))
    assert lost.wait(SOON)
    time.sleep(0.1)  # meanwhile the pool's thread starts another worker
    pool.close()
    pool.join()
    assert good.get(0) == 4
    with pytest.raises(WorkerLostError):
        bad.get(0)


def test_terminated_while_the_last_worker_is_replaced():
    """Even if the replacement then fails, the tasks are cancelled by terminate(), and not by the failure."""
    context = goproc.get_context("fork")
    terminating = threading.Event()

    class Process(context.Process):
        def start(self):
            if terminating.is_set():
                threading.Thread(target=pool.terminate).start()
                while not pool._crew.terminated:
                    time.sleep(0.001)
                raise OSError("there is no replacement")
            super().start()

    class Pool(goproc.pool.Pool):
        @staticmethod
        def Process(ctx, *args, **kwds):
            return Process(*args, **kwds)

    with Pool(1, context=context) as pool:
        terminating.set()
        lost, queued = pool.apply_async(targets.end_by_os_exit), pool.apply_async(targets.nothing)
        with pytest.raises(WorkerLostError):
            lost.get(SOON)
        with pytest.raises(goproc.CancelledError):
            queued.get(SOON)


@pytest.mark.slow
def test_the_fork_server_dies_while_a_pool_asks_for_workers(capfd):
    from goproc.forkserver import _forkserver

    context = goproc.get_context("forkserver")
    first = context.Process(target=targets.nothing)
    first.start()
    first.join()
    server = _forkserver._forkserver_pid
    os.kill(server, signal.SIGSTOP)
    killer = threading.Timer(0.2, os.kill, (server, signal.SIGKILL))
    killer.start()
    with context.Pool(2) as pool:  # it asks a server that does not answer, and is then killed
        killer.join()
        assert pool.map(targets.double, range(10)) == [2 * i for i in range(10)]
    pool.join()
    assert capfd.readouterr().err == ""  # no worker came up in vain


def test_all_workers_are_lost_while_nobody_waits(context, tmp_path):
    """Handing in a task is enough for others to be started: nobody need ask for a result."""
    with context.Pool(2) as pool:
        pool.map(targets.double, range(10))
        for worker in pool._pool:
            os.kill(worker.pid, signal.SIGKILL)
            wait([worker.sentinel], SOON)
        deadline = time.monotonic() + SOON
        number = 0
        while not (tmp_path / "0").exists():
            pool.apply_async(targets.touch, (str(tmp_path / str(number)),))
            number += 1
            assert time.monotonic() < deadline
            time.sleep(0.02)
    pool.join()


def test_lost_with_maxtasksperchild(context):
    with context.Pool(2, maxtasksperchild=2) as pool:
        results = [pool.apply_async(targets.end_if, (i, targets.end_by_os_exit, 4)) for i in range(10)]
        for i, result in enumerate(results):
            if i == 4:
                with pytest.raises(WorkerLostError):
                    result.get(SOON)
            else:
                assert result.get(SOON) == 2 * i
    pool.join()


@pytest.mark.parametrize("how", ["raises", "exits with 0", "exits with 3"])
def test_workers_that_die_at_birth(context, how, capfd, monkeypatch):
    """Every task fails, those given later, too."""
    monkeypatch.setattr(crew, "_PATIENCE", 0.1)
    initializer, initargs, text = {
        "raises": (targets.raise_in_initializer, ("the cause",), "The reason it gave: ValueError: the cause"),
        "exits with 0": (targets.leave, (), "exited with status 0"),
        "exits with 3": (targets.leave, (3,), "exited with status 3"),
    }[how]
    with context.Pool(2, initializer, initargs) as pool:
        result, mapped = pool.apply_async(targets.double, (1,)), pool.map_async(targets.double, range(10))
        iterated = pool.imap(targets.double, range(10))
        with pytest.raises(WorkerLostError, match="workers in a row ended before they took a task") as caught:
            result.get(SOON)
        assert text in str(caught.value)
        cause = caught.value.__cause__
        assert repr(cause) == ("ValueError('the cause')" if how == "raises" else "None")
        if how == "raises":
            assert type(cause.__cause__) is RemoteTraceback
            assert "in raise_in_initializer" in str(cause.__cause__)
        for call in (mapped.get, iterated.next, pool.apply_async(targets.double, (1,)).get):
            with pytest.raises(WorkerLostError, match="workers in a row"):
                call(SOON)
        with pytest.raises(WorkerLostError):
            pool.map_async(targets.double, [1, 2]).get(SOON)
        with pytest.raises(WorkerLostError):
            pool.imap(targets.double, iter([1, 2])).next(SOON)
    pool.join()
    if how == "raises":
        assert "ValueError: the cause" in capfd.readouterr().err


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("what", ["the import of a module", "an unknown name", "an exception that cannot be sent"])
def test_workers_that_cannot_be_made(method, what, tmp_path, monkeypatch, capfd):
    """An error in unpickling the initializer is reported like an error that the initializer raises."""
    monkeypatch.setattr(crew, "_PATIENCE", 0.1)
    name = "for_workers_" + method
    (tmp_path / f"{name}.py").write_text("def start(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__(name)
    code, expected = {
        "the import of a module": ("raise OSError('in the import')", "OSError: in the import"),
        "an unknown name": ("", "AttributeError: .*start"),
        "an exception that cannot be sent": (
            "class Own(Exception): pass\nraise Own('of this import only')",
            "MaybeEncodingError: .*of this import only",
        ),
    }[what]
    (tmp_path / f"{name}.py").write_text(code)
    try:
        with goproc.get_context(method).Pool(1, module.start) as pool:
            with pytest.raises(WorkerLostError, match=f"The reason it gave: .*{expected}") as caught:
                pool.apply_async(targets.double, (1,)).get(SOON)
            assert type(caught.value.__cause__).__name__ in expected
        pool.join()
    finally:
        del sys.modules[name]
    printed = capfd.readouterr().err
    assert printed.startswith("goproc: a worker of a pool could not begin: ")
    assert printed.count("\n") == 1  # the traceback comes with the exception, once
    assert "Traceback" in str(caught.value.__cause__.__cause__)


def test_exceptions_are_public_and_can_be_pickled():
    lost = WorkerLostError(12, -9, "f")
    late = goproc.TaskTimeoutError(12, 0.5, "f")
    assert issubclass(goproc.TaskTimeoutError, goproc.TimeoutError)
    for error in (
        lost,
        late,
        WorkerLostError(12, 1, births=4, reason="ValueError: x"),
        goproc.CancelledError("x"),
        goproc.EngineError("x"),
    ):
        assert isinstance(error, goproc.ProcessError)
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and type(error).__name__ in goproc.__all__
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    assert str(lost) == "the worker (pid 12) that ran f() was killed by signal 9 (SIGKILL)"
    assert str(late) == "f() ran longer than its limit of 0.5 s; its worker (pid 12) has been ended"


def test_a_call_that_cannot_be_pickled(context):
    with context.Pool(1) as pool:
        for call in (
            lambda: pool.apply_async(lambda: None),
            lambda: pool.apply_async(targets.identity, (lambda: None,)),
            lambda: pool.map_async(targets.identity, [1, lambda: None, 2], chunksize=1),
        ):
            result = call()
            with pytest.raises((pickle.PicklingError, AttributeError)):
                result.get(SOON)
        with pytest.raises(targets.OwnError, match="cannot be pickled"):
            pool.apply(targets.identity, (targets.Worn(),))
        results = pool.imap(targets.identity, [0, targets.Worn(), 2])
        assert next(results) == 0
        with pytest.raises(targets.OwnError, match="cannot be pickled"):
            next(results)
        assert list(results) == [2]
        assert pool.apply(targets.double, (1,)) == 2
    pool.join()


def test_a_call_that_cannot_be_rebuilt(context):
    """Unpickling the arguments raises in the worker."""
    with context.Pool(1) as pool:
        for error_type in (targets.OwnError, targets.OwnBaseError, SystemExit, KeyboardInterrupt):
            with pytest.raises(error_type, match="unpickled"):
                pool.apply_async(targets.identity, (targets.Bomb(error_type, "unpickled"),)).get(SOON)
        with pytest.raises(TypeError):
            pool.apply_async(targets.identity, (targets.Unbuildable("one", "two"),)).get(SOON)
        assert pool.apply(targets.double, (1,)) == 2
    pool.join()


def test_maybe_encoding_error_says_why():
    with goproc.Pool(1) as pool:
        with pytest.raises(MaybeEncodingError) as caught:
            pool.apply(targets.return_lambda)
        assert "lambda" in caught.value.value and "local object" in caught.value.exc
        assert str(caught.value).startswith("Error sending result: '<function")
        with pytest.raises(MaybeEncodingError) as caught:
            pool.apply(targets.return_bomb)
        assert "unpickled" in caught.value.exc
        assert isinstance(caught.value.__cause__, targets.OwnError)
        with pytest.raises(MaybeEncodingError) as caught:
            pool.apply(targets.raise_unbuildable)
        assert "missing 1 required positional argument" in caught.value.exc


def test_remote_traceback(context):
    with context.Pool(1) as pool:
        for call in (
            lambda: pool.apply(targets.raise_own, (5,)),
            lambda: pool.map(targets.raise_own, [5]),
            lambda: next(pool.imap(targets.raise_own, [5])),
        ):
            with pytest.raises(targets.OwnError) as caught:
                call()
            assert caught.value.args == (5,)
            assert type(caught.value.__cause__) is RemoteTraceback
            text = str(caught.value.__cause__)
            assert "in raise_own" in text and "raise OwnError(value)" in text and text.lstrip().startswith('"""')
        with pytest.raises(targets.OwnBaseError) as caught:
            pool.apply(targets.raise_own_base)
        assert "in raise_own_base" in str(caught.value.__cause__)
    pool.join()


def test_an_iterable_that_raises_half_way():
    class Sized(list):
        def __iter__(self):
            yield from (0, 1)
            raise targets.OwnError("half-way")

    def unsized(error_type=targets.OwnError):
        yield from (0, 1)
        raise error_type("half-way")

    with goproc.Pool(2) as pool:
        for iterable in (Sized([0, 1, 2, 3]), unsized()):
            with pytest.raises(targets.OwnError, match="half-way"):
                pool.map_async(targets.double, iterable, chunksize=1).get(SOON)
        for imap in (pool.imap, pool.imap_unordered):
            for iterable in (Sized([0, 1, 2, 3]), unsized(), unsized(targets.OwnBaseError), unsized(SystemExit)):
                results = imap(targets.double, iterable)
                values, errors = [], []
                for _ in range(3):
                    try:
                        values.append(results.next(SOON))
                    except (targets.OwnError, targets.OwnBaseError, SystemExit) as error:
                        errors.append(str(error))
                assert (sorted(values), errors) == ([0, 2], ["half-way"])
                with pytest.raises(StopIteration):
                    results.next(SOON)
            chunks = imap(targets.double, unsized(), chunksize=2)
            with pytest.raises(targets.OwnError, match="half-way"):
                list(chunks)
        assert pool.map(targets.double, range(10)) == [2 * i for i in range(10)]
    pool.join()


def test_an_iterable_shorter_than_its_length():
    class Short(list):
        def __len__(self):
            return 10

    with goproc.Pool(2) as pool:
        with pytest.raises(ValueError, match="fewer than the 10 items"):
            pool.map_async(targets.double, Short([1, 2, 3]), chunksize=1).get(SOON)
        assert list(pool.imap(targets.double, Short([1, 2, 3]))) == [2, 4, 6]


def test_an_iterable_longer_than_its_length():
    class Long(list):
        def __len__(self):
            return 3

    items = Long(range(50))
    with goproc.Pool(2) as pool:
        for chunksize in (1, 3, None):
            assert pool.map(targets.double, items, chunksize) == [0, 2, 4]
        assert pool.starmap_async(targets.add, Long((i, i) for i in range(50))).get(SOON) == [0, 2, 4]
        assert list(pool.imap(targets.double, items)) == [2 * i for i in range(50)]
        assert pool.apply(targets.double, (1,)) == 2
    pool.join()


UNSHOWABLE = {
    "result that cannot be rebuilt": (targets.return_unshowable_bomb, MaybeEncodingError),
    "exception that cannot be rebuilt": (targets.raise_unshowable_bomb, MaybeEncodingError),
    "failure that is no exception": (targets.raise_no_exception, TypeError),
    "function without a name": (targets.Nameless(), WorkerLostError),
    "function with an odd name": (targets.OddlyNamed(), WorkerLostError),
}


@pytest.mark.parametrize("fault", UNSHOWABLE)
def test_what_cannot_be_shown(fault):
    """An error in describing a fault, in the parent, is a fault of that result, and of no other."""
    function, expected = UNSHOWABLE[fault]
    with goproc.Pool(2) as pool:
        for call in (
            lambda: pool.apply_async(function).get(SOON),
            lambda: pool.map_async(function, [1, 2]).get(SOON),
            lambda: pool.imap(function, [1]).next(SOON),
        ):
            with pytest.raises(expected) as caught:
                call()
            assert str(caught.value)
            assert pool.map_async(targets.double, range(10)).get(SOON) == [2 * i for i in range(10)]
    pool.join()


@pytest.mark.parametrize("chunksize", [1, 5])
def test_a_map_with_a_bad_item(context, chunksize):
    """The map raises that item's exception, but not before all its chunks are done."""
    with context.Pool(2) as pool:
        with pytest.raises(targets.OwnError) as caught:
            pool.map(targets.raise_at_three, range(20), chunksize)
        assert caught.value.args == (3,)
        assert pool.map(targets.double, range(20), chunksize) == [2 * i for i in range(20)]
    pool.join()


def test_a_task_that_writes_beyond_its_own_memory(context):
    """The remains of a worker's crash harm nobody: large payloads of a lost worker are given back."""
    with context.Pool(2) as pool:
        for _ in range(5):
            lost = pool.apply_async(targets.end_if, (bytearray(1 << 20), targets.end_by_os_exit, bytearray(1 << 20)))
            right = pool.apply_async(targets.describe, (bytearray(b"\1") * (1 << 20),))
            with pytest.raises(WorkerLostError):
                lost.get(SOON)
            assert right.get(SOON) == ("bytearray", 1 << 20, True, 1, 1)
    pool.join()


SHUT_OFF = """
import multiprocessing, resource, sys

class Own(Exception):
    pass

def shut_off():
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))  # or a new root, Landlock, another user

def fail(text):
    raise Own(text)

def shut_off_and_fail(text):
    shut_off()
    raise Own(text)

def double(number):
    return 2 * number

def unpicklable(_):
    return lambda: None

def leave(status):
    sys.exit(status)

def say(pool, function, argument):
    try:
        print(pool.apply_async(function, (argument,)).get(30))
    except BaseException as error:
        print(type(error).__name__, error if type(error) is Own else "", error.__cause__ is not None)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(1, shut_off) as pool:
        say(pool, fail, "one")
        say(pool, unpicklable, 1)
        say(pool, double, 4)
    with context.Pool(1) as pool:
        say(pool, shut_off_and_fail, "two")
        say(pool, double, 5)
    with context.Pool(1, shut_off) as pool:
        try:
            pool.apply_async(leave, (3,)).get(30)
        except SystemExit as error:
            print("left", error.code)
"""


def test_exceptions_of_workers_that_can_open_no_files(run_script, tmp_path, method):
    """What exceptions need is imported before the initializer; after a task that shuts its worker off, done without."""
    (tmp_path / "program.py").write_text(SHUT_OFF)
    done = run_script("-m", "goproc", "program.py", method, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert lines[:3] == ["Own one True", "MaybeEncodingError  False", "8"]
    assert lines[3].startswith("Own two") and lines[4:] == ["10", "left 3"]
    assert done.stderr == ""
