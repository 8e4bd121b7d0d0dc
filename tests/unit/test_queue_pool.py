"""Pool classes with queues of their own: the queues handle every task, and the rest works as in any pool."""

import operator
import os

import pool_targets as targets
import pytest
from helpers import THREADS_ARE_MEANT

import goproc
import goproc.pool
from goproc._common import calls


@pytest.fixture
def handles():
    return [targets.Handle(number) for number in range(20)]


def test_queues_are_used(context, handles):
    before = calls.stats()["started"][context.get_start_method()]
    with targets.PoolWithQueues(2, context=context) as pool:
        assert isinstance(pool, goproc.pool.Pool)
        assert pool.apply(targets.number_of, (handles[7],)) == 7
        assert pool.map(targets.number_of, handles) == list(range(20))
        assert list(pool.imap(targets.number_of, iter(handles), 3)) == list(range(20))
        assert sorted(pool.imap_unordered(targets.number_of, handles)) == list(range(20))
        assert pool.starmap(operator.add, [(1, 2), (3, 4)]) == [3, 7]
        with pytest.raises(ZeroDivisionError):
            pool.apply(divmod, (1, 0))
        pool.close()
        pool.join()
    assert calls.stats()["started"][context.get_start_method()] == before + 2


def test_derived_classes(handles):
    with targets.PoolDerivedFromIt(1) as pool:
        assert pool.apply(targets.number_of, (handles[3],)) == ("derived", 3)
        assert pool.apply_async(targets.number_of, (handles[4],)).get(30) == 4
        pool.terminate()
        pool.join()


# From 3.12 on multiprocessing's pool forks its replacements with that warning, too.
@THREADS_ARE_MEANT
def test_workers_are_replaced(context):
    with targets.PoolWithQueues(1, context=context, maxtasksperchild=2) as pool:
        assert len({pool.apply(targets.pid) for _ in range(6)}) == 3
        pool.terminate()
        pool.join()


def test_workers_are_replaced_when_installed(run_script, method):
    code = f"""
import sys
sys.path.insert(0, {os.path.dirname(targets.__file__)!r})
import goproc
goproc.install()
import multiprocessing
import pool_targets as targets
multiprocessing.set_start_method({method!r})
with targets.PoolWithQueues(1, maxtasksperchild=1) as pool:
    print([pool.apply(targets.number_of, (targets.Handle(number),)) for number in range(3)])
    pool.close()
    pool.join()
"""
    assert run_script("-c", code, options=["-W", "ignore::DeprecationWarning"]).stdout == "[0, 1, 2]\n"


def test_iterables_that_raise(context):
    def numbers():
        yield 1
        raise LookupError("no more")

    with targets.PoolWithQueues(1, context=context) as pool:
        iterator = pool.imap(targets.double, numbers())
        assert next(iterator) == 2
        with pytest.raises(LookupError, match="no more"):
            next(iterator)
        pool.terminate()
        pool.join()


def test_other_classes_stay_on_the_engines_rings():
    class Derived(goproc.pool.Pool):
        pass

    before = calls.stats()["tasks"]
    with Derived(1) as pool:
        assert pool.apply(targets.double, (4,)) == 8
    assert calls.stats()["tasks"] == before + 1


@pytest.mark.parametrize(
    "options, error, text",
    [
        ({"retries": 1}, TypeError, "retries: not for pools with parts of their own, as this one: _setup_queues"),
        ({"nested": True, "threads": 1}, TypeError, "threads, nested: not for pools with parts of their own"),
        ({"max_memory_per_task": 0}, ValueError, "max_memory_per_task must be a positive int or None, not 0"),
        ({"pickler": "dill"}, ValueError, "pickler must be one of"),
        ({"nestd": True}, TypeError, r"Pool\(\) got an unexpected keyword argument 'nestd': did you mean 'nested'"),
    ],
)
def test_arguments_that_derived_classes_cannot_obey(options, error, text):
    with pytest.raises(error, match=text):
        targets.PoolWithQueues(1, **options)


def test_arguments_that_change_nothing():
    with targets.PoolWithQueues(1, retries=0, nested=False, threads="auto", pickler="pickle", retry_on=None) as pool:
        assert pool.map(abs, [-1]) == [1]
