"""A worker overwrites the memory that it shares with its pool: no task waits for ever, and the pool goes on."""

from pickle import UnpicklingError

import pool_targets as targets
import pytest

import goproc
from goproc import WorkerLostError

#: Seconds by which even a loaded machine has noticed that a worker is lost.
SOON = 40


def settle(results, expected):
    """Each result is what its task returns, or its worker was lost, or read nonsense. Returns how many are lost."""
    lost = 0
    for result, value in zip(results, expected, strict=True):
        try:
            assert result.get(SOON) == value
        except (WorkerLostError, UnpicklingError):
            lost += 1
    return lost


def check(pool, function, *args):
    """The function's task, those that wait behind it, and those that come later."""
    results = [pool.apply_async(targets.double, (i,)) for i in range(3)]
    results.append(pool.apply_async(function, args))
    results += [pool.apply_async(targets.double, (i,)) for i in range(3)]
    lost = settle(results, [0, 2, 4, None, 0, 2, 4])
    while True:
        later = [pool.apply_async(targets.double, (i,)) for i in range(10)]
        if not settle(later, range(0, 20, 2)):
            return lost  # a worker that has not been replaced yet may lose one


@pytest.mark.parametrize("what", targets.SCRIBBLES)
def test_a_word_is_overwritten(context, what):
    with context.Pool(1) as pool:
        check(pool, targets.scribble, what)
        pool.close()
        pool.join()


@pytest.mark.parametrize("what", targets.SCRIBBLES)
def test_a_word_is_overwritten_while_the_worker_sleeps(what):
    context = goproc.get_context("fork")
    with context.Pool(1) as pool:
        check(pool, targets.scribble_when_idle, what)
        pool.close()
        pool.join()


@pytest.mark.parametrize(("kind", "size"), [(0, 0), (0, 8), (1, 1 << 20), (1, 8), (7, 0), (1 << 20, 1 << 31)])
def test_tasks_are_overwritten(context, kind, size):
    with context.Pool(1) as pool:
        assert check(pool, targets.scribble_into_tasks, kind, size) <= 7
