"""numpy arrays arrive as with multiprocessing: writable, resizable, in the same memory order and of the same type."""

import copyreg
import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pool_targets as targets
import pytest

import goproc

LENGTHS = [0, 1, 100, 126, 3_000, 5_000, 100_000]  # of 8 bytes: from 32 KiB on, contents are left out of the pickle


@pytest.fixture(scope="module", params=["fork", "spawn", "forkserver"])
def pool(request):
    with goproc.get_context(request.param).Pool(2) as pool:
        pool.apply_async(targets.nothing).get()  # its thread is the fixture's
        yield pool
    pool.join()


def frozen(array):
    array.flags.writeable = False
    return array


class Subclass(np.ndarray):
    pass


MAKERS = {
    "own": lambda n: np.arange(n, dtype=float),
    "of bytes": lambda n: np.frombuffer(bytes(range(8)) * n, np.int64),
    "frozen": lambda n: frozen(np.arange(n, dtype=float)),
    "in Fortran order": lambda n: np.asfortranarray(np.arange(2 * n, dtype=float).reshape(2, n)),
    "frozen in Fortran order": lambda n: frozen(np.asfortranarray(np.arange(2 * n, dtype=float).reshape(2, n))),
    "transposed": lambda n: np.arange(6 * n, dtype=float).reshape(2, 3, n).transpose(1, 0, 2),
    "strided": lambda n: np.arange(2 * n, dtype=float)[::2],
    "reversed": lambda n: frozen(np.arange(n, dtype=float)[::-1]),
    "broadcast": lambda n: np.broadcast_to(np.arange(n, dtype=float), (3, n)),
    "of many axes": lambda n: frozen(np.arange(n, dtype=float).reshape(1, n, 1, 1)),
    "big-endian": lambda n: frozen(np.arange(n).astype(">i8")),
    "of no axes": lambda n: frozen(np.array(n)),
    "of booleans": lambda n: np.arange(n) % 3 == 0,
    "with metadata": lambda n: np.zeros(n, np.dtype("f8", metadata={"unit": "m"})),
    "complex": lambda n: frozen(np.arange(n, dtype=np.complex64)),
    "structured": lambda n: frozen(np.zeros(n, [("a", "f8"), ("b", "U5")])),
    "of texts": lambda n: frozen(np.arange(n).astype("U8")),
    "of dates": lambda n: frozen(np.arange(n).astype("M8[ms]")),
    "of objects": lambda n: frozen(np.arange(n).astype(object)),
    "of a subclass": lambda n: frozen(np.arange(n, dtype=float).view(Subclass)),
    "masked": lambda n: np.ma.masked_array(frozen(np.arange(n, dtype=float)), mask=np.arange(n) % 2),
}


def there(value):
    """What multiprocessing's pool makes of a value on its way."""
    return ForkingPickler.loads(ForkingPickler.dumps(value))


def described(array):
    flags = array.flags
    strides = array.strides if array.size else None
    order = flags.c_contiguous, flags.f_contiguous
    others = flags.writeable, flags.owndata, flags.aligned
    return type(array).__name__, str(array.dtype), array.shape, strides, order, others


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_arrays_are_as_with_multiprocessing(pool, make):
    for length in LENGTHS:
        array = make(length)
        arrived = there(array)
        expected = there(arrived)
        assert pool.apply(described, (array,)) == described(arrived)
        for back in (
            pool.apply(targets.identity, (array,)),
            pool.apply(targets.identity, ({"in": [array]},))["in"][0],
            pool.map(targets.identity, [array, array])[1],
            *pool.imap(targets.identity, [array]),
        ):
            assert described(back) == described(expected)
            assert np.array_equal(back, array)


def resized(array):
    array.resize(array.size + 10, refcheck=False)
    return array.size


def test_small_arrays_own_their_data(pool):
    if pickle.DEFAULT_PROTOCOL < 5:
        assert pool.apply(resized, (np.zeros(100),)) == 110
        assert resized(pool.apply(np.zeros, (100,))) == 110


def centred(array):
    array -= array.mean()
    return array


@pytest.mark.parametrize("length", [10, 100_000])
def test_whether_a_task_can_change_what_is_read_only_in_the_main_program(pool, length):
    content = np.arange(length, dtype=float).tobytes()
    array = np.frombuffer(content)
    if not there(array).flags.writeable:  # with multiprocessing, from Python 3.14 on
        with pytest.raises(ValueError, match="read-only"):
            pool.apply(centred, (array,))
        return
    centre = array - array.mean()
    assert np.array_equal(pool.apply(centred, (array,)), centre)
    assert all(np.array_equal(result, centre) for result in pool.map(centred, [array] * 3, chunksize=2))
    assert array.tobytes() == content
    back = pool.apply(np.frombuffer, (content,))
    assert np.array_equal(centred(back), centre)


def same_object(one, other):
    return one is other


def test_one_array_twice_in_a_task_remains_one(pool):
    array = frozen(np.zeros(100_000))
    assert pool.apply(same_object, (array, array))
    one, other = pool.apply(targets.identity, ([array, array],))
    assert one is other
    held, whole = pool.apply(targets.identity, ([array[:50_000], array],))
    if held.flags.writeable:
        held += 1
    assert not whole.any()


def test_bytes_stay_immutable(pool):
    content = bytes(100_000)
    array, same = pool.apply(targets.identity, ([np.frombuffer(content, np.uint8), content],))
    if array.flags.writeable:
        array += 1
    assert same == content and type(same) is bytes


def as_list(array):
    return list, (array.tolist(),)


def test_a_reducer_that_the_program_registered_for_arrays_is_used(pool):
    array = np.zeros(3)
    copyreg.pickle(np.ndarray, as_list)
    try:
        assert pool.apply(targets.type_name, (array,)) == "list"
    finally:
        del copyreg.dispatch_table[np.ndarray]
    assert pool.apply(targets.type_name, (array,)) == "ndarray"
