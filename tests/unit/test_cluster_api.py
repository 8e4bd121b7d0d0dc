"""The tests of Pool's API, the same functions, run on goproc.cluster.Pool with two machines of two cores.

cluster_exceptions.py names the tests that cannot hold there, each with the reason.
"""

import importlib
import inspect
import types
import weakref

import pytest
from cluster_exceptions import EXCEPTIONS, MODULES, NOT_RUN
from helpers import THREADS_ARE_MEANT
from test_pool import no_reducer  # noqa: F401  (a fixture)

import goproc

pytest.importorskip("distributed", reason="goproc.cluster needs distributed")

from goproc import cluster

pytestmark = [pytest.mark.slow, THREADS_ARE_MEANT]  # those of Dask


class Context:
    """In the place of a context: its pools are on the cluster, all else is of the fork server's context."""

    def __init__(self, client):
        self._client = client

    def Pool(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, context=None, **options):
        return cluster.Pool(self._client, processes, initializer, initargs, maxtasksperchild, **options)

    def __getattr__(self, name):
        return getattr(goproc.get_context("forkserver"), name)


@pytest.fixture
def context(client):
    return Context(client)


@pytest.fixture
def method():
    return "forkserver"


@pytest.fixture
def pool(context):
    with context.Pool(2) as pool:
        yield weakref.proxy(pool)
    pool.join()


@pytest.fixture(autouse=True)
def pools_on_the_cluster(context, monkeypatch):
    """Put the cluster's Pool in the place of goproc.Pool."""
    monkeypatch.setattr(goproc, "Pool", context.Pool)


def _collect():
    for name in MODULES:
        module = importlib.import_module(name)
        for test, function in vars(module).items():
            if test.startswith("test_") and inspect.isfunction(function) and function.__module__ == name:
                yield f"{test}__of_{name.removeprefix('test_')}", marked(function, f"{name}.{test}")


def marked(function, name):
    """Return a test; if it is an exception, a copy that is expected to fail: the mark must not reach its own module."""
    if name not in EXCEPTIONS:
        return function
    made = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    vars(made).update(vars(function), pytestmark=list(getattr(function, "pytestmark", [])))
    return pytest.mark.xfail(reason=EXCEPTIONS[name], run=name not in NOT_RUN)(made)


globals().update(_collect())
