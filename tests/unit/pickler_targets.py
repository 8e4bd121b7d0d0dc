"""Functions for test_pickler.py that are found by their names."""

import os

import goproc


def twice(number):
    return 2 * number


def call(func, *args):
    return func(*args)


def variable(name):
    return os.environ.get(name)


def nested(func, numbers):
    """Run a map in a pool of this worker's own."""
    with goproc.get_context("spawn", pickler="cloudpickle").Pool(1) as pool:
        return pool.map(lambda number: func(number) + 1, numbers)
