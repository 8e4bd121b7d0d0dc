"""Handles of share() in the results of a cluster's tasks: the program receives the objects, as from a local pool."""

import gc
import os
from pathlib import Path

import numpy
import pytest
import share_targets as targets
from helpers import wait_until
from test_sharing import memory_left

pytest.importorskip("distributed", reason="goproc.cluster needs distributed")

import goproc
from goproc import cluster

LENGTH = 200_000
shares = pytest.mark.part("shares")


@pytest.fixture
def array():
    return numpy.arange(float(LENGTH))


@pytest.mark.slow
@shares
def test_a_handle_of_the_program_comes_back_as_its_own_object(pool, array):
    with goproc.share(array) as handle:
        back = pool.map(targets.shared_again, [handle] * 8, chunksize=1)
        assert all(one is handle.get() for one in back)
        assert pool.apply(targets.deep_inside, (handle,))["deep"][0] is handle.get()
    del back
    assert memory_left() == 0


@pytest.mark.slow
def test_a_handle_that_a_task_has_made(pool):
    """The content travels once, with the result; the program may pass it on."""
    arrays = [pool.apply(targets.make, (LENGTH,)) for _ in range(3)]
    assert [(len(one), one[7], one.flags.writeable) for one in arrays] == [(LENGTH, 7.0, False)] * 3
    assert pool.apply(targets.element, (goproc.share(arrays[0]), 9)) == 9.0
    del arrays
    assert memory_left() == 0


@pytest.mark.slow
def test_bytes_and_small_objects(pool):
    assert pool.apply(targets.make_of, (b"abc",)) == b"abc"
    assert pool.apply(targets.make_of, ({"a": [1, 2]},)) == {"a": [1, 2]}


def test_parts_of_a_stream(pool, array):
    with goproc.share(array) as handle:
        values = dict(pool.stream(targets.yield_again, [handle]))
        assert values[0] is handle.get()
    (made,) = [value for _, value in pool.stream(targets.yield_made, [LENGTH])]
    assert made[5] == 5.0 and not made.flags.writeable


@shares
def test_the_program_has_closed_the_handle(pool, array, tmp_path):
    handle = goproc.share(array)
    result = pool.apply_async(targets.shared_again_when_there, (handle, str(tmp_path / "closed"), str(tmp_path)))
    wait_until((tmp_path / "begun").exists)
    handle.close()
    gc.collect()
    (tmp_path / "closed").touch()
    try:
        assert result.get(60)[7] == 7.0  # the machine had forgotten the content already: then it travels
    except goproc.pool.MaybeEncodingError as error:
        assert "whose handle this program has closed" in str(error)


def test_a_pool_of_a_task(client):
    """Handles in the tasks and results of a pool that a task has made stay on its machine."""
    with cluster.Pool(client, nested=True) as pool:
        assert pool.apply(targets.in_a_pool, (LENGTH,)) == (3.0, 4.0, Path(os.devnull).name)
