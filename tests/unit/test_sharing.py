"""share(): the data is in memory once, travels as a handle, arrives as the object, read-only, and is freed.

And what needs no call: a large argument that comes again in the chunks of a map.
"""

import gc
import os
import pickle
import sys
import time
import types
from functools import partial
from pathlib import PurePath

import numpy
import pytest
import share_targets as targets
from helpers import SharedMemoryFiles, where_proc_hides

import goproc
import goproc.futures

LENGTH = 200_000
shares = pytest.mark.part("shares")
repeats = pytest.mark.part("repeats")


@pytest.fixture
def array():
    return numpy.arange(float(LENGTH))


def memory_left():
    """How many descriptors and mappings of shared memory this process has."""
    gc.collect()
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            pass
    return sum("goproc-share" in link for link in links) + targets.mappings()


# ---- the handle


@shares
def test_the_handle(array):
    handle = goproc.share(array)
    assert isinstance(handle, goproc.Shared)
    assert numpy.array_equal(handle.get(), array) and numpy.array_equal(handle.value, array)
    assert not handle.get().flags.writeable
    assert handle.nbytes >= array.nbytes
    assert goproc.share(handle) is handle
    kept = handle.get()
    assert handle.get() is kept
    array[0] = 7  # the program's own object is not the shared one
    assert kept[0] == 0
    del kept
    assert not handle.closed
    handle.close()
    handle.close()
    assert handle.closed
    assert memory_left() == 0


def test_a_closed_handle(array):
    with goproc.share(array) as handle:
        pass
    with pytest.raises(ValueError, match="has been closed"):
        handle.get()
    with pytest.raises(ValueError, match="has been closed"):
        pickle.dumps(handle)
    with goproc.Pool(1) as pool, pytest.raises(ValueError, match="has been closed"):
        pool.apply(targets.element, (handle, 1))


def test_what_cannot_be_pickled():
    with pytest.raises((AttributeError, pickle.PicklingError)):
        goproc.share(lambda: 1)
    assert memory_left() == 0


VALUES = {
    "no bytes": b"",
    "bytes": b"x" * 300_000,
    "text": "text",
    "None": None,
    "number": 17,
    "dict": {"a": [1, 2]},
    "bytearray": bytearray(b"y" * 100_000),
    "empty array": numpy.arange(0),
    "array of no axes": numpy.array(5),
    "transposed": numpy.arange(12).reshape(3, 4).T,
    "strided": numpy.arange(LENGTH)[::3],
    "two empty rows": numpy.zeros((2, 0)),
}


@pytest.mark.parametrize("kind", VALUES)
def test_any_object(kind):
    value = VALUES[kind]
    handle = goproc.share(value)
    got, through = handle.get(), pickle.loads(pickle.dumps(handle))
    for other in got, through:
        assert type(other) is type(value)
        assert numpy.array_equal(other, value) if isinstance(value, numpy.ndarray) else other == value


@shares
def test_all_arrays_are_read_only():
    with (
        goproc.share(
            {
                "large": numpy.zeros(100_000),
                "small": numpy.zeros(3),
                "strided": numpy.zeros(100_000)[::2],
                "objects": numpy.array([None, []], dtype=object),
                "times": numpy.zeros(3, "M8[s]"),
                "records": numpy.zeros(3, [("a", "i4"), ("b", "f8")]),
            }
        ) as handle,
        goproc.Pool(1) as pool,
    ):
        assert set(pool.apply(targets.types, (handle,)).values()) == {("ndarray", False)}
        with pytest.raises(ValueError, match="read-only"):
            pool.apply(targets.write, (goproc.share(numpy.zeros(5)),))
        with pytest.raises(ValueError, match="WRITEABLE"):
            pool.apply(targets.unlock_and_write, (goproc.share(numpy.zeros(5)),))


# ---- where handles travel


@shares
def test_each_worker_maps_it_once(context, array):
    with goproc.share(array) as handle, context.Pool(2) as pool:
        seen = pool.map(partial(targets.where, handle), range(40), chunksize=1)
        seen += pool.starmap(targets.where, [(handle, i) for i in range(10)])
        seen += [result.get() for result in [pool.apply_async(targets.where, (handle,)) for _ in range(10)]]
        seen += pool.imap(targets.where, [handle] * 10)
    pids = {pid for pid, *_ in seen}
    assert len(set(seen)) == len(pids)  # in one worker it is the same object each time
    assert all(not writeable and count == 1 for *_, writeable, count in seen)


def test_deep_inside(context, array):
    value = {"deep": [(1, goproc.share(array))]}
    with context.Pool(1) as pool:
        assert pool.apply(targets.inside, (value,)) == ("ndarray", 3.0)
        assert pool.apply(targets.inside, kwds={"value": value}) == ("ndarray", 3.0)


@shares
def test_initializer(context, array):
    with context.Pool(2, targets.keep, (goproc.share(array),)) as pool:
        assert pool.map(targets.look_at_kept, [3, 4]) == [("ndarray", 3.0, False), ("ndarray", 4.0, False)]


@shares
def test_process(context, array):
    queue = context.SimpleQueue()
    process = context.Process(target=partial(targets.put, queue, goproc.share(array)), args=(5,))
    process.start()
    assert queue.get() == (5.0, False)
    process.join()
    process = context.Process(target=targets.put, args=(queue,), kwargs={"array": goproc.share(array), "index": 6})
    process.start()
    assert queue.get() == (6.0, False)
    process.join()


@shares
@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "JoinableQueue"])
def test_queue(context, array, kind):
    """The handle is held until it has been received, also if the program does not keep it."""
    queue, answers = getattr(context, kind)(), context.SimpleQueue()
    queue.put(goproc.share(array))
    process = context.Process(target=targets.get_and_put, args=(queue, answers))
    process.start()
    assert answers.get() == ("ndarray", 5.0, False)
    process.join()
    del queue
    goproc.share(1).close()  # share() looks which handles have arrived
    assert memory_left() == 0


def test_executor(context, array):
    with goproc.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        futures = [executor.submit(targets.element, goproc.share(array), i) for i in range(5)]
        assert [future.result() for future in futures] == [0.0, 1.0, 2.0, 3.0, 4.0]
        handle = goproc.share(array)
        assert list(executor.map(partial(targets.element, handle), range(5), chunksize=2)) == [0, 1, 2, 3, 4]


def test_nobody_else_holds_the_handle(array):
    """A pool holds the handles in its tasks until they are done."""
    with goproc.Pool(1) as pool:
        results = [pool.apply_async(targets.element, (goproc.share(array), i)) for i in range(20)]
        mapped = pool.map_async(partial(targets.element, goproc.share(array)), range(20), chunksize=3)
        iterated = pool.imap(partial(targets.element, goproc.share(array)), range(20))
        gc.collect()
        assert [result.get() for result in results] == mapped.get() == list(iterated) == list(map(float, range(20)))
        del results, mapped, iterated
        assert memory_left() == 0


@shares
def test_result(context):
    """A task may return a handle: the program receives the object, and it outlives the worker."""
    with context.Pool(1) as pool:
        arrays = [pool.apply(targets.make, (LENGTH,)) for _ in range(3)]
    pool.join()
    assert [(len(array), array[7], array.flags.writeable) for array in arrays] == [(LENGTH, 7.0, False)] * 3
    del arrays
    assert memory_left() == 0


@shares
def test_passed_on(array):
    """share() of what was received copies nothing: the process that receives it next maps the same memory."""
    with goproc.futures.ProcessPoolExecutor(1) as executor:
        assert executor.submit(targets.share_again, goproc.share(array), 9).result() == (True, 9.0, 1)


def test_several_pools(array):
    handle = goproc.share(array)
    with goproc.get_context("fork").Pool(1) as one, goproc.get_context("spawn").Pool(1) as two:
        for pool in one, two, one:
            assert pool.apply(targets.element, (handle, 2)) == 2.0


def test_inherited_by_fork(array):
    targets.keep(goproc.share(array).get())
    try:
        with goproc.get_context("fork").Pool(2) as pool:
            assert [value for _, value, _ in pool.map(targets.look_at_kept, [1, 2])] == [1.0, 2.0]
    finally:
        targets.keep(None)


# ---- the end


@pytest.mark.slow
@shares
def test_freed_while_the_pool_lives(context, array):
    """Workers let the object go when the owner has closed the handle, also while they have nothing to do."""
    handle = goproc.share(array)
    with context.Pool(2) as pool:
        pool.map(partial(targets.where, handle), range(20), chunksize=1)
        pids = [process.pid for process in pool._pool]
        del handle
        assert memory_left() == 0
        while any("goproc-share" in read(f"/proc/{pid}/maps") for pid in pids):
            time.sleep(0.01)  # nothing is submitted: the workers look by themselves


@shares
def test_a_busy_worker_lets_it_go(array):
    with goproc.Pool(1) as pool:
        handle = goproc.share(array)
        pool.apply(targets.where, (handle,))
        handle.close()
        while pool.apply(targets.count_mappings, (0,))[1]:
            pass


@shares
def test_released_by_the_owner(context, array):
    """A handle that arrives too late is a clear error of the task; what was received before stays."""
    handle = goproc.share(array)
    pickled = pickle.dumps(handle)
    received = pickle.loads(pickled)
    handle.close()
    assert received[5] == 5.0
    assert pickle.loads(pickled) is received
    del received
    gc.collect()
    with pytest.raises(FileNotFoundError, match="has closed the handle, or has ended"):
        pickle.loads(pickled)
    # The number of the descriptor may be that of another file, or of another shared object.
    others = [goproc.share(array) for _ in range(3)]
    with pytest.raises(FileNotFoundError, match="has closed the handle, or has ended"):
        pickle.loads(pickled)
    del others


@shares
def test_killed_worker(array):
    """The object outlives a worker that is killed; the next one maps it, too."""
    handle = goproc.share(array)
    with goproc.Pool(2) as pool:
        results = [pool.apply_async(targets.kill_after, (handle, i)) for i in range(8)]
        with pytest.raises(goproc.WorkerLostError):
            results.pop(3).get()
        assert [result.get() for result in results] == [0.0, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0]


@shares
def test_killed_owner(run_script):
    """Nothing is left of a program that is killed: no name, and no process that has the memory."""
    code = """
import goproc, numpy, os, signal
import share_targets as targets
if __name__ == "__main__":
    handle = goproc.share(numpy.zeros(1_000_000))
    pool = goproc.Pool(2)
    pool.map(targets.where, [handle] * 8, chunksize=1)
    print(*(process.pid for process in pool._pool), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    files = SharedMemoryFiles()
    done = run_script("-c", code, status=-9, PYTHONPATH=os.path.dirname(targets.__file__))
    pids = done.stdout.split()
    assert len(pids) == 2
    while any("goproc-share" in read(f"/proc/{pid}/maps") for pid in pids):
        time.sleep(0.01)
    files.check()


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


# ---- where there can be no shared memory


def test_a_limit_of_file_sizes(run_script):
    code = """
import goproc, numpy, resource
import share_targets as targets
if __name__ == "__main__":
    with goproc.Pool(1) as pool:
        goproc.log_to_stderr()
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        array = numpy.arange(200_000.0)
        handles = [goproc.share(array) for _ in range(3)]
        print(handles[0], handles[0].get() is array, pool.apply(targets.element, (handles[0], 5)))
        print(pool.starmap(targets.element, [(array, 1)] * 3, chunksize=1))
"""
    done = run_script("-c", code, PYTHONPATH=os.path.dirname(targets.__file__), GOPROC_DISABLE="")
    assert done.stdout == "<Shared, pickled> True 5.0\n[1.0, 1.0, 1.0]\n"
    assert done.stderr.count("objects cannot be shared here") == 1


@shares
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_worker_of_another_user(array):
    handle = goproc.share(array)
    with goproc.get_context("fork").Pool(1, targets.become_another, (1000,)) as pool:
        with pytest.raises(PermissionError, match="both must have the same user"):
            pool.apply(targets.element, (handle, 1))


@shares
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_worker_of_another_user_where_proc_hides_processes():
    code = f"""
import sys; sys.path.append({os.path.dirname(targets.__file__)!r})
import numpy, goproc, share_targets as targets
handle = goproc.share(numpy.arange(200_000.0))
with goproc.get_context("fork").Pool(1, targets.become_another, (1000,)) as pool:
    pool.apply(targets.element, (handle, 1))
"""
    done = where_proc_hides(sys.executable, "-c", code)
    assert "PermissionError: process" in done.stderr and "both must have the same user" in done.stderr


# ---- without a call


@repeats
@pytest.mark.parametrize("length", [1000, LENGTH])
def test_each_chunk_has_its_own(context, length):
    """As with multiprocessing: what a function receives is writable, and private."""
    array = numpy.arange(float(length))
    with context.Pool(2) as pool:
        for _ in range(2):
            got = pool.map(partial(targets.change, array), range(1, 9), chunksize=1)
            assert got == [(0.0, float(i)) for i in range(1, 9)]
            got = pool.starmap(targets.change, [(array, i) for i in range(1, 9)], chunksize=1)
            assert got == [(0.0, float(i)) for i in range(1, 9)]
            array[0] = 0.0
    with goproc.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        assert list(executor.map(partial(targets.change, array), range(1, 9))) == [(0.0, float(i)) for i in range(1, 9)]
    assert array[1] == 1.0
    assert memory_left() == 0


@repeats
def test_a_call_sees_what_the_program_has_changed():
    array = numpy.zeros(LENGTH)
    with goproc.Pool(2) as pool:
        for i in range(4):
            array[0] = i
            got = pool.map(partial(targets.change_nothing, array), range(4), chunksize=1)
            assert got == [(float(i), True)] * 4


@repeats
def test_temporary_arrays_are_not_mixed_up():
    """Memory that was freed, and is used again, is not taken for the same array."""

    class Made:
        def __init__(self, number):
            self.number = number

        def __reduce__(self):
            return numpy.asarray, (numpy.full(LENGTH, float(self.number)),)

    with goproc.Pool(2) as pool:
        items = [(Made(i), i) for i in range(12)]
        assert pool.starmap(targets.element, items, chunksize=1) == [float(i) for i in range(12)]


@repeats
def test_identity_in_a_chunk(array):
    with goproc.Pool(1) as pool:
        assert pool.map(targets.same, [(array, array)] * 4, chunksize=2) == [True] * 4
        assert pool.map(partial(targets.same, (array, array)), range(4), chunksize=1) == [True] * 4


@repeats
def test_bytes_that_come_again():
    data = bytes(range(256)) * 8192
    with goproc.Pool(2) as pool:
        got = pool.starmap(targets.received_bytes, [(data, i) for i in range(6)], chunksize=1)
        assert got == [("bytes", len(data), i) for i in range(6)]
        for func in partial(targets.received_bytes, data), partial(targets.received_bytes, index=3):
            items = range(6) if func.args else [data] * 6
            got = pool.map(func, items, chunksize=1)
            assert got == [("bytes", len(data), i if func.args else 3) for i in range(6)]


@repeats
def test_kept_by_the_function():
    """What a function keeps does not change, when the map is over and another one is done."""
    with goproc.Pool(1) as pool:
        pool.map(partial(targets.keep_and_sum, numpy.ones(LENGTH)), range(4), chunksize=1)
        for value in range(3):
            pool.map(partial(targets.element, numpy.full(LENGTH, float(value))), range(4), chunksize=1)
        assert pool.apply(targets.sum_of_kept, (0,)) == LENGTH


@repeats
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_workers_of_another_user_are_sent_all(array):
    with goproc.get_context("fork").Pool(2, targets.become_another, (1000,)) as pool:
        assert pool.map(partial(targets.element, array), range(8), chunksize=1) == list(map(float, range(8)))


@repeats
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("retry_on", [KeyError, Exception])
def test_to_be_sent_all_is_no_attempt(array, retry_on):
    work = partial(targets.fail_first, array)
    with goproc.get_context("fork").Pool(1, targets.become_another, (1000,), retries=1, retry_on=retry_on) as pool:
        assert pool.map(work, range(4), chunksize=1) == list(map(float, range(4)))


@repeats
def test_errors_and_lost_workers(array):
    with goproc.Pool(2) as pool:
        with pytest.raises(IndexError):
            pool.map(partial(targets.element, array), [1, 2, LENGTH, 3], chunksize=1)
        with pytest.raises(goproc.WorkerLostError):
            pool.map(partial(targets.kill_after, array), range(6), chunksize=1)
    assert memory_left() == 0


def test_tasks_are_sent_while_another_thread_imports_the_module(monkeypatch):
    with goproc.Pool(1) as pool:
        monkeypatch.setitem(sys.modules, "goproc._common.sharing", types.ModuleType("goproc._common.sharing"))
        assert pool.apply(str, (PurePath("a"),)) == "a"


def test_a_process_is_forked_while_another_thread_imports_the_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "goproc._common.sharing", types.ModuleType("goproc._common.sharing"))
    process = goproc.get_context("fork").Process()
    process.start()
    process.join()
    assert process.exitcode == 0
