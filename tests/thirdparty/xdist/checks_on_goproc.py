"""Tests of a user's program that use multiprocessing, run in the workers of pytest-xdist."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from goproc._common import calls

METHODS = multiprocessing.get_all_start_methods()


def square(number):
    return number * number


@pytest.mark.parametrize("method", METHODS)
def test_pool(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(square, range(10)) == [n * n for n in range(10)]
    assert calls.stats()["started"][method] >= 2


@pytest.mark.parametrize("method", METHODS)
def test_process(method):
    process = multiprocessing.get_context(method).Process(target=square, args=(2,))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("method", METHODS)
def test_executor(method):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as executor:
        assert list(executor.map(square, range(10))) == [n * n for n in range(10)]


def test_it_is_an_xdist_worker():
    assert os.environ["PYTEST_XDIST_WORKER"]
