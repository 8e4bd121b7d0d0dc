"""Callbacks: their thread and order, what they may do, and the exceptions that they raise."""

import sys
import threading

import pool_targets as targets
import pytest

import goproc


def test_callback_and_error_callback(context):
    with context.Pool(2) as pool:
        values, errors = [], []
        done = pool.apply_async(targets.double, (21,), callback=values.append, error_callback=errors.append)
        assert done.get(30) == 42
        assert (values, errors) == ([42], [])
        failed = pool.apply_async(targets.raise_own, (1,), callback=values.append, error_callback=errors.append)
        with pytest.raises(targets.OwnError):
            failed.get(30)
        assert values == [42]
        assert [type(error) for error in errors] == [targets.OwnError]
        assert pool.apply_async(targets.double, (1,), {}, values.append).get(30) == 2
        failed = pool.apply_async(targets.raise_own, (2,), callback=values.append)
        failed.wait(30)
        assert not failed.successful()
        assert values == [42, 2]
    pool.join()


def test_callbacks_of_maps():
    with goproc.Pool(2) as pool:
        values, errors = [], []
        options = {"callback": values.append, "error_callback": errors.append}
        assert pool.map_async(targets.double, range(10), 3, **options).get(30) == [2 * i for i in range(10)]
        assert pool.starmap_async(targets.add, [(1, 2)], **options).get(30) == [3]
        assert (values, errors) == ([[2 * i for i in range(10)], [3]], [])
        failed = pool.map_async(targets.raise_at_three, range(6), 1, **options)
        with pytest.raises(targets.OwnError):
            failed.get(30)
        assert [error.args for error in errors] == [(3,)]
        assert len(values) == 2
        assert pool.map_async(targets.double, [], **options).get(30) == []
        assert (len(values), len(errors)) == (2, 1)  # as with multiprocessing: nothing was mapped
    pool.join()


def test_callbacks_run_in_a_thread_of_the_pool():
    """Never in a thread that submits or waits: it may hold a lock that the callback takes."""
    lock, threads, values = threading.Lock(), set(), []

    def callback(value):
        threads.add(threading.current_thread())
        with lock:
            values.append(value)

    with goproc.Pool(2) as pool:
        earlier = [pool.apply_async(targets.double, (i,)) for i in range(100)]
        results = []
        for i in range(1000):
            with lock:
                results.append(pool.apply_async(targets.double, (i,), callback=callback))
                results[i // 2].ready()
                if i % 50 == 0:
                    pool.apply_async(targets.double, (i,)).wait(0)
        assert [result.get(30) for result in results] == [2 * i for i in range(1000)]
        assert [result.get(30) for result in earlier] == [2 * i for i in range(100)]
        assert sorted(values) == [2 * i for i in range(1000)]
        assert len(threads) == 1 and threading.current_thread() not in threads
    pool.join()


def test_a_callback_registered_while_another_thread_waits(tmp_path):
    """The thread that waits collects everybody's results; from the first callback on, the pool's own does."""
    with goproc.Pool(2) as pool:
        release, threads = tmp_path / "release", []
        waiter = threading.Thread(target=pool.apply, args=(targets.wait_for_file, (release,)))
        waiter.start()
        for _ in range(20):
            result = pool.apply_async(targets.nothing, callback=lambda _: threads.append(threading.current_thread()))
            result.get(30)
        release.touch()
        waiter.join(30)
        assert len(threads) == 20
        assert len(set(threads)) == 1 and not {waiter, threading.current_thread()} & set(threads)
    pool.join()


def test_error_callback_of_what_cannot_be_sent():
    with goproc.Pool(1) as pool:
        called = []

        def callback(error):
            called.append((type(error), threading.current_thread() is threading.main_thread()))

        result = pool.apply_async(targets.identity, (targets.Worn(),), error_callback=callback)
        with pytest.raises(targets.OwnError):
            result.get(30)
        assert called == [(targets.OwnError, False)]
    pool.join()


def test_order_of_callbacks():
    with goproc.Pool(1) as pool:
        values = []
        results = [pool.apply_async(targets.identity, (i,), callback=values.append) for i in range(200)]
        results[-1].get(30)
        assert values == list(range(200))
    pool.join()


def test_a_result_is_ready_after_its_callback():
    with goproc.Pool(1) as pool:
        seen = []
        for i in range(50):
            assert pool.apply_async(targets.identity, (i,), callback=seen.append).get(30) == seen[i] == i
    pool.join()


@pytest.mark.parametrize("error_type", [targets.OwnError, targets.OwnBaseError, SystemExit, KeyboardInterrupt])
def test_a_callback_that_raises(error_type, monkeypatch):
    """The exception is reported as an error of a thread, as by multiprocessing. All results come."""
    reported, reported_of_threads = [], []
    monkeypatch.setattr(sys, "excepthook", lambda kind, value, traceback: reported.append(kind))
    monkeypatch.setattr(threading, "excepthook", lambda args: reported_of_threads.append(args.exc_type))

    def callback(value):
        raise error_type("in a callback")

    with goproc.Pool(2) as pool:
        result = pool.apply_async(targets.double, (1,), callback=callback)
        assert result.get(30) == 2
        result = pool.apply_async(targets.raise_own, (1,), error_callback=callback)
        with pytest.raises(targets.OwnError):
            result.get(30)
        assert pool.map_async(targets.double, [1, 2], callback=callback).get(30) == [2, 4]
        assert pool.map(targets.double, range(10)) == [2 * i for i in range(10)]
        values = []
        assert pool.apply_async(targets.double, (3,), callback=values.append).get(30) == 6
        assert values == [6]
    pool.join()
    # threading.excepthook says nothing of a SystemExit.
    assert (reported if error_type is SystemExit else reported_of_threads) == [error_type] * 3
    assert len(reported + reported_of_threads) == 3


@pytest.mark.parametrize("hook_error", [ValueError, SystemExit])
def test_a_hook_that_raises(hook_error, monkeypatch, capfd):
    """The thread that delivers results outlives it."""

    def hook(args):
        raise hook_error("in the hook")

    def callback(value):
        raise targets.OwnError("in a callback")

    monkeypatch.setattr(threading, "excepthook", hook)
    with goproc.Pool(1) as pool:
        for number in range(3):
            assert pool.apply_async(targets.double, (number,), callback=callback).get(30) == 2 * number
    pool.join()
    printed = capfd.readouterr().err
    assert printed.count("OwnError: in a callback") == printed.count("in the hook") // 2 == 3


def test_a_callback_may_use_the_pool():
    with goproc.Pool(2) as pool:
        done, answers = threading.Event(), []

        def second(value):
            answers.append(value)
            done.set()

        def first(value):
            answers.append(pool.apply(targets.double, (value,)))
            answers.append(pool.map(targets.double, range(3)))
            answers.append(list(pool.imap(targets.double, iter(range(3)))))
            pool.apply_async(targets.double, (value,), callback=second)

        pool.apply_async(targets.double, (1,), callback=first)
        assert done.wait(30)
        assert answers == [4, [0, 2, 4], [0, 2, 4], 4]
    pool.join()


def test_a_callback_may_end_the_pool(context):
    for end in ("terminate", "close"):
        pool = context.Pool(2)
        result = pool.apply_async(targets.double, (1,), callback=lambda _, pool=pool, end=end: getattr(pool, end)())
        assert result.get(30) == 2
        others = [process.sentinel for process in pool._pool]
        pool.join()
        assert all(process.exitcode is not None for process in pool._pool) and others
        del result


def test_callbacks_of_a_terminated_pool(tmp_path):
    errors = []
    pool = goproc.Pool(1)
    for _ in range(3):
        pool.apply_async(targets.wait_for_file, (tmp_path / "never",), error_callback=errors.append)
    pool.terminate()
    pool.join()
    assert [type(error) for error in errors] == [goproc.CancelledError] * 3


def test_the_thread_of_callbacks_ends_with_the_pool():
    before = threading.enumerate()
    pools = [goproc.Pool(1), goproc.Pool(1)]
    for pool in pools:
        pool.apply_async(targets.double, (1,), callback=lambda _: None)
    pools[0].close()
    pools[0].join()
    pools[1].terminate()
    pools[1].join()
    assert threading.enumerate() == before
