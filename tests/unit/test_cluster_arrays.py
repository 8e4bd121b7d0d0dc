"""Arrays as items on a cluster: pool.map() lends their memory to the pool instead of copying it."""

import functools
import os
import pickle
import signal

import cluster_targets as targets
import pytest
from helpers import wait_until

pytest.importorskip("numpy")
pytest.importorskip("distributed", reason="goproc.cluster needs distributed")

import numpy as np

COUNT = 40


def frozen(array):
    array.flags.writeable = False
    return array


def arrays():
    whole = np.arange(100_000.0)
    return {
        "whole": whole,
        "part": whole[10_000:],
        "every second": whole[::2],
        "backwards": whole[::-1],
        "two dimensions": whole.reshape(100, 1000),
        "in Fortran order": np.asfortranarray(whole.reshape(100, 1000)),
        "read-only": frozen(whole.copy()),
        "of bytes": np.frombuffer(bytes(100_000), np.uint8),
        "without items": np.zeros((0, 3)),
        "small": np.arange(3),
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", ["map", "map_async"])
def test_there_and_back(pool, method):
    """A task gets what it may write to, and so does the program; neither sees what the other one writes."""
    # Read-only arrays stay read-only with protocol 5, the default from Python 3.14 on, as with multiprocessing.
    names = [name for name, array in arrays().items() if array.flags.writeable or pickle.DEFAULT_PROTOCOL < 5]
    given, before = ([made[name] for name in names] for made in (arrays(), arrays()))
    found = getattr(pool, method)(targets.write_first, given, chunksize=1)
    for array, old, new in zip(given, before, found if method == "map" else found.get(60), strict=True):
        assert np.array_equal(array, old)
        assert new.flags.writeable and (new.shape, new.dtype) == (old.shape, old.dtype)
        assert np.array_equal(new.ravel()[1:], old.ravel()[1:]) and (not new.size or new.ravel()[0] == 77)


class Items:
    """An input that writes each item into the memory of the one before."""

    def __init__(self):
        self.memory = np.empty(100_000)

    def __len__(self):
        return COUNT

    def __iter__(self):
        for i in range(COUNT):
            self.memory[:] = i
            yield self.memory


@pytest.mark.slow
def test_an_input_that_uses_its_memory_again(pool):
    assert pool.map(targets.mean, Items(), chunksize=1) == list(range(COUNT))


def test_arrays_that_change_after_map_async(pool):
    given = [np.full(100_000, i) for i in range(COUNT)]
    result = pool.map_async(functools.partial(targets.mean, seconds=0.01), given, chunksize=1)
    for array in given:
        array[:] = -1
    assert result.get(60) == list(range(COUNT))


class Interrupt(Exception):
    pass


@pytest.mark.slow
def test_arrays_that_change_after_an_interrupted_map(pool, tmp_path):
    """The tasks go on, as in multiprocessing, and with what map() was given."""
    path = tmp_path / "means"

    def interrupt(*_):
        raise Interrupt

    given = [np.full(100_000, i) for i in range(COUNT)]
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupt):
            pool.map(functools.partial(targets.note_mean, path, os.getpid()), given, chunksize=1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    for array in given:
        array[:] = -1
    wait_until(lambda: len(path.read_text().split()) >= COUNT)
    assert sorted(map(int, path.read_text().split())) == list(range(COUNT))
