"""Pool.stream: what generators yield arrives as they yield it, and a worker does not run ahead of the program."""

import functools
import itertools
import os
import signal
import threading
import time
import warnings
import weakref

import numpy
import pool_targets
import pytest
import stream_targets as targets
from helpers import wait_until

import goproc
from goproc import CancelledError, TaskTimeoutError, WorkerLostError
from goproc.pool import MaybeEncodingError

WAIT = 30

#: How many values a worker may be ahead of the program: core/ring/layout.go.
AHEAD = 128


def outcomes(stream):
    """All that the stream gives: pairs, and the exceptions between them."""
    found = []
    while True:
        try:
            found.append(stream.next(WAIT))
        except StopIteration:
            return found
        except Exception as error:
            found.append(error)


def of_item(index, pairs):
    return [value for at, value in pairs if at == index]


def of_all(index, length):
    return [(index, value) for value in range(length)]


def size_of(path):
    return os.path.getsize(path) if os.path.exists(path) else 0


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def is_resting(path):
    """Whether the file does not grow for a while."""
    before = size_of(path)
    time.sleep(0.3)
    return before > 0 and size_of(path) == before


def test_values_of_several_items(context):
    with context.Pool(2) as pool:
        pairs = list(pool.stream(targets.count, [300, 0, 7, 1000]))
        for index, length in enumerate([300, 0, 7, 1000]):
            assert of_item(index, pairs) == list(range(length))
        assert list(pool.stream(targets.count, [])) == []
        assert pool.map(pool_targets.double, range(10)) == [2 * i for i in range(10)]
    pool.join()


@pytest.mark.parametrize(
    "func, values",
    [
        (targets.squares, [0, 1, 4]),
        (targets.nothing, []),
        (targets.nones, [None] * 3),
        (targets.pairs, [(3, 0), (3, 1), (3, 2)]),
        (targets.Generator(), [0, 1, 2]),
        (functools.partial(range, 0), [0, 1, 2]),
        (str, ["3"]),
    ],
)
def test_what_a_function_may_return(func, values):
    with goproc.Pool(1) as pool:
        assert list(pool.stream(func, [3])) == [(0, value) for value in values]
    pool.join()


def test_a_function_that_returns_no_iterable():
    with goproc.Pool(1) as pool:
        stream = pool.stream(targets.returns, [7, [8], None])
        found = outcomes(stream)
        assert [type(error) for error in found if isinstance(error, Exception)] == [TypeError, TypeError]
        assert "returns() has returned an object of type 'int'" in str(found[0])
        assert (1, 8) in found
    pool.join()


def test_values_arrive_as_they_are_yielded(context, tmp_path):
    with context.Pool(1) as pool:
        stream = pool.stream(targets.step_by_step, [tmp_path])
        for step in range(3):
            assert stream.next(WAIT) == (0, step)
            with pytest.raises(goproc.TimeoutError):
                stream.next(0.05)
            (tmp_path / str(step)).write_text("")
        with pytest.raises(StopIteration):
            stream.next(WAIT)
    pool.join()


def test_items_run_at_the_same_time(context, tmp_path):
    with context.Pool(2) as pool:
        pairs = list(pool.stream(targets.meet, [(tmp_path, "a", 2), (tmp_path, "b", 2)]))
        pids = {tuple(of_item(index, pairs)) for index in (0, 1)}
        assert len(pids) == 2 and all(first == second for first, second in pids)
    pool.join()


@pytest.mark.slow
def test_tiny_values_do_not_wait_for_each_other():
    with goproc.Pool(2) as pool:
        total = 0
        for _, value in pool.stream(targets.count, [100_000] * 3):
            total += value
        assert total == 3 * sum(range(100_000))
    pool.join()


# --- backpressure


@pytest.mark.slow
def test_a_worker_waits_for_the_program(context, tmp_path):
    paths = [tmp_path / "0", tmp_path / "1"]
    with context.Pool(2) as pool:
        stream = pool.stream(targets.endless, paths)
        for taken in 0, 1, 3 * AHEAD:
            for _ in range(taken):
                stream.next(WAIT)
            for path in paths:
                wait_until(lambda path=path: is_resting(path))
                assert size_of(path) <= AHEAD + 1 + 1 + 3 * AHEAD
        assert sum(map(size_of, paths)) <= 2 * (AHEAD + 1) + 1 + 3 * AHEAD
        stream.close()
    pool.join()


@pytest.mark.slow
def test_a_worker_waits_earlier_with_large_values(tmp_path):
    path = tmp_path / "0"
    with goproc.Pool(1) as pool:
        stream = pool.stream(targets.endless_arrays, [path])  # of 4 MB
        wait_until(lambda: is_resting(path))
        assert size_of(path) <= 4
        for step in range(20):
            index, array = stream.next(WAIT)
            assert array.shape == (500_000,) and (array == step).all()
        wait_until(lambda: is_resting(path))
        assert size_of(path) <= 24
        stream.close()
    pool.join()


@pytest.mark.slow
def test_a_stream_that_nobody_reads_holds_up_nobody(context, tmp_path):
    """It holds up neither calls nor other streams, even if its items have ended, and their values are not taken."""
    with context.Pool(2) as pool:
        unread = pool.stream(targets.endless, [tmp_path / "0"])
        ended = pool.stream(targets.count, [AHEAD] * 8)
        wait_until(lambda: is_resting(tmp_path / "0"))
        assert pool.map(pool_targets.double, range(100)) == [2 * i for i in range(100)]
        assert len(list(pool.stream(targets.count, [5000, 5000]))) == 10_000
        assert pool.apply(pool_targets.double, (4,)) == 8
        assert len(list(ended)) == 8 * AHEAD
        assert [unread.next(WAIT) for _ in range(1000)] == [(0, value) for value in range(1000)]
        unread.close()
    pool.join()


def test_two_streams_that_take_turns():
    with goproc.Pool(2) as pool:
        streams = [pool.stream(targets.count, [3000]) for _ in range(2)]
        for value in range(3000):
            assert [stream.next(WAIT) for stream in streams] == [(0, value)] * 2
        assert [list(stream) for stream in streams] == [[], []]
    pool.join()


def test_a_large_value_is_the_program_s(context):
    with context.Pool(2) as pool:
        kept = dict.fromkeys(range(2))
        for index, array in pool.stream(targets.arrays, [30, 30]):
            number = len(array) - 100_000
            assert array.flags.writeable and (array == number).all()
            array += 1
            if number == 5:
                kept[index] = array
        assert all((array == 6).all() for array in kept.values())
        assert [value[:1] * 100_000 == value for _, value in pool.stream(targets.blobs, [20])] == [True] * 20
    pool.join()


# --- the input


@pytest.mark.parametrize("make", [list, iter], ids=["list", "iterator"])
@pytest.mark.parametrize("prefetch", [None, 1, 3])
def test_many_short_items(make, prefetch):
    with goproc.Pool(2) as pool:
        lengths = [number % 3 for number in range(300)]
        pairs = list(pool.stream(targets.count, make(lengths), prefetch=prefetch))
        assert sorted(pairs) == [(index, value) for index, length in enumerate(lengths) for value in range(length)]
        assert list(pool.stream(targets.nothing, make(lengths), prefetch=prefetch)) == []
    pool.join()


def test_an_endless_input_is_read_as_values_are_taken(context):
    read = itertools.count()
    with context.Pool(2) as pool:
        stream = pool.stream(targets.nones, (2 for _ in iter(lambda: next(read), None)), prefetch=3)
        for taken in range(1, 101):
            stream.next(WAIT)
            assert int(repr(read)[6:-1]) <= taken + 4
        stream.close()
        assert list(stream) == []
    pool.join()


def test_an_input_that_raises():
    def items():
        yield from [2, 3]
        raise LookupError("no more")

    with goproc.Pool(2) as pool:
        *pairs, error = outcomes(pool.stream(targets.count, items()))
        assert sorted(pairs) == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
        assert isinstance(error, LookupError)
        assert isinstance(outcomes(pool.stream(targets.count, None))[0], TypeError)
        unsendable = outcomes(pool.stream(targets.count, [1, lambda: 0, 2]))
        assert [pair for pair in unsendable if type(pair) is tuple and pair[0] != 1] and len(unsendable) == 4
    pool.join()


def test_a_stream_as_the_input_of_another():
    with goproc.Pool(2) as pool:
        inner = pool.stream(targets.count, [10])
        pairs = list(pool.stream(targets.nones, (value for _, value in inner), prefetch=1))
        assert len(pairs) == sum(range(10))
    pool.join()


# --- exceptions


def test_exceptions(context):
    with context.Pool(2) as pool:
        found = outcomes(pool.stream(targets.fail_after, [3, 0, 200]))
        for index, length in enumerate([3, 0, 200]):
            ours = [one for one in found if one in of_all(index, length) or getattr(one, "args", 0) == (length,)]
            assert ours[:-1] == [(index, value) for value in range(length)]
            assert isinstance(ours[-1], KeyError)
            if hasattr(ours[-1], "__notes__"):
                assert ours[-1].__notes__ == [f"goproc: raised for item {index} of the input"]
            assert "fail_after" in str(ours[-1].__cause__)
        found = outcomes(pool.stream(targets.fail_at_odd, range(40)))
        assert sum(isinstance(one, ZeroDivisionError) for one in found) == 20
        assert len(found) == 40 + 40
    pool.join()


def test_a_lost_worker(context):
    with context.Pool(2) as pool:
        found = outcomes(pool.stream(targets.exit_after, [3, 0, 100]))
        assert len(found) == 103 + 3
        for index, length in enumerate([3, 0, 100]):
            ours = [
                one for one in found if isinstance(one, tuple) and one[0] == index or getattr(one, "index", -1) == index
            ]
            assert ours[:-1] == [(index, value) for value in range(length)]
            error = ours[-1]
            assert isinstance(error, WorkerLostError)
            assert (error.exitcode, error.function, error.index) == (5, "exit_after", index)
        assert len(list(pool.stream(targets.count, [100, 100]))) == 200
    pool.join()


def test_an_item_that_has_yielded_is_not_run_again(tmp_path):
    with goproc.Pool(1, retries=3) as pool:
        first, error = outcomes(pool.stream(targets.die_once, [tmp_path / "0"]))
        assert first == (0, 1) and isinstance(error, WorkerLostError)
        assert outcomes(pool.stream(targets.die_once_before, [tmp_path / "1"])) == [(0, "end")]
    pool.join()


def test_a_value_that_cannot_be_pickled(context, tmp_path):
    path = tmp_path / "closed"
    with context.Pool(1) as pool:
        *pairs, error = outcomes(pool.stream(targets.lambda_after, [(path, 3)]))
        assert pairs == [(0, 0), (0, 1), (0, 2)]
        assert isinstance(error, MaybeEncodingError) and "lambda" in str(error)
        assert size_of(path) == 1  # its finally block has run
    pool.join()


def test_a_value_that_cannot_be_unpickled():
    with goproc.Pool(1) as pool:
        first, error, last = outcomes(pool.stream(targets.unreadable_between, [0]))
        assert (first, last) == ((0, 1), (0, 2))
        assert isinstance(error, MaybeEncodingError) and "this value cannot be unpickled" in str(error)
    pool.join()


def test_arguments():
    with goproc.Pool(1) as pool:
        for prefetch, error in ((0, ValueError), (-1, ValueError), ("a", TypeError), (1.5, TypeError)):
            with pytest.raises(error):
                pool.stream(targets.count, [1], prefetch=prefetch)
        for limit, error in ((0, ValueError), ("a", TypeError)):
            with pytest.raises(error):
                pool.stream(targets.count, [1], task_timeout=limit)
        with pytest.raises(TypeError):
            pool.stream(targets.count)
        with pytest.raises(TypeError, match="did you mean 'prefetch'"):
            pool.stream(targets.count, [1], prefetsh=1)
        pool.close()
        with pytest.raises(ValueError, match="Pool not running"):
            pool.stream(targets.count, [1])
    pool.join()


def test_pools_that_have_no_streams():
    class Replaced(goproc.pool.Pool):
        def _setup_queues(self):
            super()._setup_queues()

    for kind in goproc.pool.ThreadPool, Replaced:
        with kind(1) as pool:
            with pytest.raises(TypeError, match=r"stream\(\) is not for this (ThreadPool|Replaced)"):
                pool.stream(targets.count, [1])
        pool.join()


# --- time limits


def test_task_timeout(context):
    with context.Pool(2) as pool:
        found = outcomes(pool.stream(targets.hang, [0, 1], task_timeout=0.3))
        for index in 0, 1:
            ours = [one for one in found if one == (index, 1) or getattr(one, "index", -1) == index]
            assert isinstance(ours[-1], TaskTimeoutError) and ours[:-1] in ([(index, 1)], [])
        assert pool.apply(pool_targets.double, (2,)) == 4
    pool.join()


@pytest.mark.slow
def test_the_time_in_which_the_program_takes_nothing_does_not_count(tmp_path):
    with goproc.Pool(1) as pool:
        stream = pool.stream(targets.endless, [tmp_path / "0"], task_timeout=10)
        wait_until(lambda: is_resting(tmp_path / "0"))
        limited = pool.stream(targets.count, [10 * AHEAD], task_timeout=2)
        stream.close()
        for value in range(3):
            assert limited.next(WAIT) == (0, value)
        time.sleep(3)
        assert len(list(limited)) == 10 * AHEAD - 3
    pool.join()


# --- ending it


@pytest.mark.parametrize("how", ["cancel", "close", "with", "drop"])
def test_ending_a_stream(context, how):
    with context.Pool(2) as pool:
        stream = pool.stream(targets.pid_and_wait, itertools.count())
        pids = {stream.next(WAIT)[1] for _ in range(2)}
        if how == "cancel":
            assert stream.cancel() is True
            with pytest.raises(CancelledError):
                stream.next(WAIT)
            assert stream.cancel() is False
        elif how == "close":
            stream.close()
            stream.close()
        elif how == "with":
            with stream as same:
                assert same is stream
        if how == "drop":
            del stream
        else:
            assert list(stream) == []
        wait_until(lambda: all(map(is_gone, pids)))
        assert len(list(pool.stream(targets.count, [1000, 1000]))) == 2000
    pool.join()


def test_what_has_come_can_be_taken_after_cancel():
    with goproc.Pool(1) as pool:
        stream = pool.stream(targets.pid_and_wait, [0])
        wait_until(lambda: stream.done or pool.apply_async(pool_targets.nothing) and stream._index)
        assert stream.cancel()
        assert stream.next(WAIT)[0] == 0
        with pytest.raises(CancelledError):
            stream.next(WAIT)
        ended = pool.stream(targets.count, [3])
        assert len(list(ended)) == 3 and not ended.cancel()
        ended.close()
    pool.join()


def test_leaving_a_loop_ends_the_stream():
    with goproc.Pool(2) as pool:
        pids = []
        for _, pid in pool.stream(targets.pid_and_wait, [0]):
            pids.append(pid)
            break
        wait_until(lambda: is_gone(*pids))
    pool.join()


def test_finally_blocks_run_if_the_program_handles_sigterm(context, tmp_path):
    path = tmp_path / "closed"
    with context.Pool(1) as pool:
        stream = pool.stream(targets.with_finally, [path])
        stream.next(WAIT)
        stream.close()
        wait_until(lambda: size_of(path) == 1)
    pool.join()


def test_join_keeps_all_that_comes(context):
    pool = context.Pool(2)
    streams = [pool.stream(targets.count, make([2000, 30, 2000] * 4)) for make in (list, iter)]
    assert streams[0].next(WAIT)[1] == 0
    pool.close()
    pool.join()
    assert [len(list(stream)) for stream in streams] == [4 * 4030 - 1, 4 * 4030]


def test_close_does_not_end_a_stream():
    with goproc.Pool(2) as pool:
        stream = pool.stream(targets.count, [1000] * 30)
        pool.close()
        assert len(list(stream)) == 30_000
        pool.join()


def test_terminate(context):
    pool = context.Pool(2)
    stream, waiting = pool.stream(targets.count, [10**9]), []
    stream.next(WAIT)
    other = pool.stream(targets.hang, [0])
    other.next(WAIT)

    def wait():
        try:
            other.next(WAIT)
        except CancelledError as error:
            waiting.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    pool.terminate()
    thread.join()
    assert len(waiting) == 1
    with pytest.raises(CancelledError):
        for _ in stream:
            pass
    assert list(stream) == []
    assert stream.cancel() is False
    pool.join()


def test_what_a_stream_is_made_for_is_let_go():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for drop in False, True:
            pool = goproc.Pool(1)
            stream = pool.stream(targets.count, [10])
            reference = weakref.ref(pool)
            if drop:
                stream.next(WAIT)
                del stream
            else:
                assert len(list(stream)) == 10
            del pool
            wait_until(lambda reference=reference: reference() is None)


# --- with other things


def test_maxtasksperchild(context):
    with context.Pool(2, maxtasksperchild=1) as pool:
        pairs = list(pool.stream(targets.pid_only, range(8)))
        assert len({pid for _, pid in pairs}) == 8
        assert len(list(pool.stream(targets.count, [1000] * 4))) == 4000
    pool.join()


def test_several_threads_take_from_one_stream():
    with goproc.Pool(2) as pool:
        stream = pool.stream(targets.count, [500] * 20)
        taken = [[] for _ in range(4)]

        def take(mine):
            mine.extend(stream)

        threads = [threading.Thread(target=take, args=(mine,)) for mine in taken]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pairs = sorted(itertools.chain.from_iterable(taken))
        assert pairs == [(index, value) for index in range(20) for value in range(500)]
    pool.join()


# Python drops what a signal handler raises in the callback of a weak reference, and reports it.
@pytest.mark.filterwarnings("ignore:Exception ignored.*WeakSet:pytest.PytestUnraisableExceptionWarning")
def test_signal_handlers_that_raise_lose_no_value():
    class Alarm(Exception):
        pass

    inside = []

    def ring(*_):
        if inside:
            inside.clear()
            raise Alarm

    def take(stream):
        inside.append(True)
        try:
            return stream.next(WAIT)
        finally:
            inside.clear()

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with goproc.Pool(2) as pool:
            stream, taken, rung = pool.stream(targets.count, [4000] * 5), [], 0
            signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
            while True:
                try:
                    taken.append(take(stream))
                except StopIteration:
                    break
                except Alarm:
                    rung += 1
            lost = 5 * 4000 - len(set(taken))
            assert len(taken) == len(set(taken)) and lost <= rung  # what next() had taken, and was about to return
        pool.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_part_of_a_call_that_is_no_stream():
    """Only a worker that has gone mad sends one: it is dropped."""
    with goproc.Pool(2) as pool:
        assert pool.map(targets.send_part_of_no_stream, range(20), chunksize=1) == list(range(20))
        assert pool.apply(targets.send_part_of_no_stream, (3,)) == 3
        assert list(pool.imap(targets.send_part_of_no_stream, range(5))) == list(range(5))
    pool.join()


def test_values_of_every_size(context):
    sizes = [0, 1, 100, 16_000, 16_384, 40_000, 300_000]
    with context.Pool(2) as pool:
        for _, value in pool.stream(numpy.ones, [(7, size) for size in sizes]):
            assert (value == 1).all()
    pool.join()
