"""Programs that use private parts of a Pool: they read them, submit tasks through them, and replace them."""

import collections
import contextlib
import itertools
import multiprocessing.pool
import operator
import os
import signal
import threading

import inside_targets as inside
import pool_targets as targets
import pytest
import queue_targets

import goproc
import goproc.pool
from goproc._common import calls

PARTS = {"_cache", "_taskqueue", "_inqueue", "_outqueue", "_quick_put", "_quick_get", "_change_notifier"}
THREADS = {"_worker_handler", "_task_handler", "_result_handler"}


def tasks_done():
    return calls.stats()["tasks"]


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


@pytest.fixture(params=[2, 1])
def chunksize(request):
    return request.param


# Tasks that programs hand in by themselves.


def test_imap_for_starmap(context, chunksize):
    with context.Pool(2) as pool:
        before = tasks_done()
        results = inside.imap_for_starmap(pool, inside.add, [(n, 1) for n in range(20)], chunksize)
        assert list(results) == list(range(1, 21))
        assert tasks_done() == before + 20 // chunksize
        pool.close()
        pool.join()


def test_imap_for_starmap_unordered():
    with goproc.Pool(2) as pool:
        kind = goproc.pool.IMapUnorderedIterator
        results = inside.imap_for_starmap(pool, inside.add, ((n, 1) for n in range(50)), 3, kind)
        assert sorted(results) == list(range(1, 51))


def test_exceptions_of_tasks_and_of_the_input():
    def pairs():
        yield 1, 2
        yield 1, "2"
        raise LookupError("no more")

    with goproc.Pool(2) as pool:
        result = goproc.pool.IMapIterator(pool)
        batches = pool._get_tasks(inside.add, pairs(), 1)
        tasks = pool._guarded_task_generation(result._job, goproc.pool.starmapstar, batches)
        pool._taskqueue.put((tasks, result._set_length))
        assert next(result) == [3]
        with pytest.raises(TypeError):
            next(result)
        with pytest.raises(LookupError, match="no more"):
            next(result)
        with pytest.raises(StopIteration):
            next(result)


def test_empty_input():
    with goproc.Pool(1) as pool:
        assert list(inside.imap_for_starmap(pool, inside.add, [])) == []


def test_endless_input_is_not_read_to_its_end():
    read = 0

    def pairs():
        nonlocal read
        for read in itertools.count(1):
            yield read, 0

    with goproc.Pool(2) as pool:
        results = inside.imap_for_starmap(pool, inside.add, pairs())
        assert list(itertools.islice(results, 300)) == list(range(1, 301))
    assert threading.active_count() < 10
    stopped = read
    assert stopped == read


def test_large_tasks_are_not_read_far_ahead(folder):
    """Not more of them than multiprocessing's pipe has room for, and the workers."""
    read = []
    release = os.path.join(folder, "release")

    def pairs():
        for n in range(40):
            read.append(n)
            yield release, bytes(200_000)

    with goproc.Pool(2) as pool:
        results = inside.imap_for_starmap(pool, targets.wait_for_file, pairs())
        threading.Event().wait(0.3)
        assert len(read) < 10
        open(release, "w").close()
        assert sum(map(len, results)) == 40 * 200_000


def test_closing_a_pool_whose_input_has_not_been_read():
    def pairs():
        started.wait()
        yield from ((n, n) for n in range(500))

    started = threading.Event()
    pool = goproc.Pool(2)
    results = inside.imap_for_starmap(pool, inside.add, pairs())
    pool.close()
    started.set()
    pool.join()
    assert sum(results) == 2 * sum(range(500))


def test_terminating_a_pool_whose_input_has_not_been_read(folder):
    with goproc.Pool(1) as pool:
        pairs = ((os.path.join(folder, "never"), n) for n in itertools.count())
        results = inside.imap_for_starmap(pool, targets.wait_for_file, pairs)
    with pytest.raises(goproc.CancelledError):
        next(results)


def test_a_timeout():
    with goproc.Pool(1) as pool:
        result = goproc.pool.IMapIterator(pool)
        with pytest.raises(goproc.TimeoutError):
            result.next(timeout=0.01)


def test_results_made_by_hand():
    come = collections.deque()
    called = threading.Event()

    def callback(value):
        come.append(value)
        called.set()

    with goproc.Pool(2) as pool:
        single = goproc.pool.ApplyResult(pool, callback, None)
        assert pool._cache[single._job] is single
        pool._taskqueue.put(([(single._job, 0, inside.add, (1, 2), {})], None))
        assert called.wait(30)
        assert single.get(30) == 3 == come.pop()
        several = goproc.pool.MapResult(pool, 2, 5, None, None)
        tasks = pool._guarded_task_generation(several._job, goproc.pool.mapstar, pool._get_tasks(abs, range(-4, 1), 2))
        pool._taskqueue.put((tasks, None))
        assert several.get(30) == [4, 3, 2, 1, 0]
        assert several.successful() and several._number_left == 0
        failing = goproc.pool.ApplyResult(pool, None, callback)
        pool._quick_put((failing._job, 0, inside.raise_it, (ValueError("of the task"),), {}))
        with pytest.raises(ValueError, match="of the task"):
            failing.get(30)
        unpicklable = goproc.pool.ApplyResult(pool, None, None)
        pool._inqueue.put((unpicklable._job, 0, threading.Lock(), (), {}))
        with pytest.raises(TypeError, match="pickle"):
            unpicklable.get(30)
        assert goproc.pool.MapResult(pool, 0, 0, None, None).get(30) == []
        assert not pool._cache


def test_completing_a_result_wakes_who_waits_for_it():
    with goproc.Pool(1) as pool:
        result = goproc.pool.ApplyResult(pool, None, None)
        values = []
        threads = [threading.Thread(target=lambda: values.append(result.get(30))) for _ in range(3)]
        for thread in threads:
            thread.start()
        result._set(0, (True, "set"))
        for thread in threads:
            thread.join(30)
        assert values == ["set"] * 3


def test_a_result_of_its_own_class():
    for pool in goproc.Pool(1), targets.PoolWithQueues(1), goproc.pool.ThreadPool(1):
        with pool:
            result = inside.CountingIterator(pool)
            tasks = pool._guarded_task_generation(result._job, abs, [-1, -2])
            pool._taskqueue.put((tasks, result._set_length))
            assert list(result) == [1, 2]
            assert result.seen == 2 and isinstance(result, inside.CountingIterator)


def test_a_lost_worker_fails_results_made_by_hand():
    with goproc.Pool(1) as pool:
        with pytest.raises(goproc.WorkerLostError):
            list(inside.imap_for_starmap(pool, os._exit, [(3,)]))
        assert pool.apply(abs, (-1,)) == 1


def test_a_mapper_of_ones_own():
    with goproc.Pool(2) as pool:
        assert pool._map_async(abs, [-1, -2, -3], inside.sum_of_all, 2).get(30) == [3, 3, 3]
        assert pool._map_async(abs, iter([-1, -2, -3]), inside.sum_of_all).get(30) == [1, 2, 3]
        assert pool._map_async(abs, [], inside.sum_of_all).get(30) == []


# What programs look at.


def test_how_many_tasks_wait(folder):
    release = os.path.join(folder, "release")
    with goproc.Pool(2) as pool:
        assert pool._taskqueue.qsize() == 0 and pool._taskqueue.empty() and not pool._inqueue._reader.poll()
        results = [pool.apply_async(targets.wait_for_file, (release, n)) for n in range(50)]
        assert 40 < pool._taskqueue.qsize() <= 48
        assert not pool._taskqueue.empty() and pool._inqueue._reader.poll()
        assert len(pool._cache) == 50
        open(release, "w").close()
        while pool._taskqueue.qsize():
            pass
        assert [result.get(30) for result in results] == list(range(50))
        assert not pool._cache and pool._inqueue.empty() and pool._outqueue.empty()


def test_the_parts_are_there(context):
    with context.Pool(2) as pool:
        pool.apply(abs, (-1,))
        assert all(hasattr(pool, name) for name in PARTS | THREADS)
        for name in THREADS:
            thread = getattr(pool, name)
            assert thread.is_alive() and thread.daemon and thread._state == goproc.pool.RUN
        assert [worker.exitcode for worker in pool._pool] == [None, None]
        assert pool._processes == 2 and pool._ctx.get_start_method() == context.get_start_method()
        assert pool._change_notifier.put(None) is None
    assert not any(getattr(pool, name).is_alive() for name in THREADS)
    assert pool._worker_handler._state == goproc.pool.TERMINATE


def test_waiting_for_a_pools_threads():
    with goproc.Pool(2) as pool:
        result = pool.map_async(abs, range(-100, 0))
        pool.close()
        pool._worker_handler.join(30)
        pool._task_handler.join(30)
        pool._result_handler.join(30)
        assert not pool._worker_handler.is_alive()
        for worker in pool._pool:
            worker.join()
        assert result.get(0) == list(range(100, 0, -1))


def test_a_method_that_a_program_has_replaced_in_the_class(context, monkeypatch):
    """As libraries do that trace programs: apply() calls it, and the pool stays the engine's."""
    names = []

    def traced(function):
        def method(self, *arguments, **options):
            names.append(function.__name__)
            return function(self, *arguments, **options)

        return method

    for name in ("apply_async", "_map_async", "map_async", "imap", "close"):
        monkeypatch.setattr(goproc.pool.Pool, name, traced(getattr(goproc.pool.Pool, name)))
    before = tasks_done()
    with context.Pool(2) as pool:
        assert pool.apply(abs, (-1,)) == 1
        assert pool.map(abs, [-1]) == pool.map_async(abs, [-1]).get() == list(pool.imap(abs, [-1])) == [1]
        pool.close()
    pool.join()
    assert names == ["apply_async", "_map_async", "map_async", "_map_async", "imap", "close"]
    assert tasks_done() - before == 4


def test_methods_with_multiprocessings_arguments_take_the_place_of_pools(context):
    with inside.Counting(2, None, (), None, context) as pool:
        assert pool.apply(abs, (-1,)) == 1
        assert pool.map(abs, [-2]) == [2]
        assert pool.starmap(pow, [(2, 3)]) == [8]
        assert pool.map_async(abs, iter([-3])).get(30) == [3]
        assert pool.starmap_async(pow, [(2, 2)]).get(30) == [4]
        assert pool.calls == ["apply_async"] + 4 * ["_map_async"]
        assert pool.map(abs, [-4], return_exceptions=False) == [4]
        for name in ("map", "starmap", "map_async", "starmap_async"):
            for own in ({"retries": 1}, {"task_timeout": 60}, {"return_exceptions": True}):
                with pytest.raises(TypeError, match=f"unexpected keyword argument '{next(iter(own))}'"):
                    getattr(pool, name)(abs, [-5], **own)
    pool.join()


def test_methods_that_pass_further_arguments_on_take_the_place_of_pools(tmp_path):
    with inside.Forwarding(1) as pool:
        assert pool.starmap(targets.lose_worker_once, [(tmp_path / "lost", 1)], retries=1) == [1]
        assert pool.map(abs, [-1], task_timeout=60) == [1]
        with pytest.raises(TypeError, match="did you mean 'retries'"):
            pool._map_async(abs, [-1], goproc.pool.mapstar, retrys=1)
    pool.join()


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_the_workers_of_an_ended_pool_can_be_looked_at(context, end):
    with context.Pool(2) as pool:
        pool.map(abs, range(4))
        getattr(pool, end)()
        pool.join()
        assert len(pool._pool) == 2 and "pool_size=2" in repr(pool)
        assert all(worker.exitcode is not None for worker in pool._pool)
        assert end == "terminate" or [worker.exitcode for worker in pool._pool] == [0, 0]


@pytest.mark.parametrize("unordered", [False, True])
def test_the_results_that_an_iterator_has(context, unordered):
    with context.Pool(2) as pool:
        iterator = (pool.imap_unordered if unordered else pool.imap)(abs, range(10))
        while len(iterator._items) < 10:
            pass
        with iterator._cond:
            assert len(iterator._unsorted) == 0
        assert sorted(value for _, value in iterator._items) == list(range(10))
        assert sorted(iterator) == list(range(10))


def test_an_iterator_over_chunks_is_a_generator(context):
    with context.Pool(2) as pool:
        with contextlib.closing(pool.imap(abs, range(-9, 0), 3)) as items:
            assert next(items) == 9 and items.send(None) == 8
        assert list(items) == []
        with pytest.raises(LookupError):
            pool.imap_unordered(abs, range(9), 3).throw(LookupError())


def test_an_iterators_progress():
    with goproc.Pool(1) as pool:
        for results in pool.imap(abs, range(5)), pool.imap_unordered(abs, range(5)):
            next(results)
            while results._index < 5:
                pass
            assert results._length == 5


@pytest.mark.parametrize("name", [name for name in vars(multiprocessing.pool) if not name.startswith("__")])
def test_what_is_in_the_module(name):
    assert hasattr(goproc.pool, name)


def test_what_is_not_in_the_module():
    assert not hasattr(goproc.pool, "what_it_has_not")


def test_reading_from_the_queues_is_refused():
    with goproc.Pool(1) as pool:
        for read in pool._inqueue.get, pool._outqueue.get, pool._quick_get, pool._taskqueue.get:
            with pytest.raises(NotImplementedError, match="_setup_queues"):
                read()
        process = goproc.get_context("spawn").Process(target=print, args=(pool._inqueue,))
        with pytest.raises(NotImplementedError, match="_setup_queues"):
            process.start()


# What programs change.


def test_what_programs_look_at_besides():
    with goproc.Pool(1) as pool:
        result = pool.apply_async(abs, (-1,))
        while not result._event._flag:
            pass
        for part in pool._inqueue, pool._outqueue:
            with part._rlock, part._wlock:
                assert not part._reader.poll()
            with pytest.raises(NotImplementedError, match="no queues"):
                part._reader.fileno()
        assert pool._task_handler.ident is None
        assert goproc.pool.Pool.__dict__["Process"].__func__(pool._ctx).exitcode is None


def test_more_workers(context):
    with context.Pool(2) as pool:
        pool._processes = 5
        pool._repopulate_pool()
        assert len(pool._pool) == 5 == len({worker.pid for worker in pool._pool})
        assert pool.map(abs, range(-20, 0)) == list(range(20, 0, -1))
        pool._processes = 1
        pool._repopulate_pool()
        assert len(pool._pool) == 5


def test_maintaining_a_pool():
    with goproc.Pool(2) as pool:
        worker = pool._pool[0]
        worker.kill()
        worker.join()
        assert pool._join_exited_workers(pool._pool)
        own = pool._ctx, pool.Process, pool._processes, pool._pool, pool._inqueue, pool._outqueue
        rest = pool._initializer, pool._initargs, pool._maxtasksperchild, pool._wrap_exception
        pool._maintain_pool(*own, *rest)
        assert len(pool._pool) == 2 and worker not in pool._pool
        pool._repopulate_pool_static(*own, *rest)
        assert pool.apply(abs, (-1,)) == 1


def test_terminating_a_pool_by_its_finalizers_function():
    pool = goproc.Pool(2)
    workers = list(pool._pool)
    parts = pool._taskqueue, pool._inqueue, pool._outqueue, pool._pool, pool._change_notifier
    pool._terminate_pool(*parts, pool._worker_handler, pool._task_handler, pool._result_handler, pool._cache)
    assert all(worker.exitcode is not None for worker in workers)
    pool.terminate()
    pool.join()


def test_killing_all_workers_so_that_none_comes_after_them(folder):
    with goproc.Pool(2, maxtasksperchild=1) as pool:
        result = pool.map_async(targets.wait_for_file, [os.path.join(folder, "never")] * 4, 1)
        pool._state = goproc.pool.TERMINATE
        pool._worker_handler._state = goproc.pool.TERMINATE
        workers = list(pool._pool)
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        while any(worker.is_alive() for worker in pool._pool):
            pass
        with pytest.raises(goproc.WorkerLostError):
            result.get(30)
        assert not pool._pool


# Classes and programs that replace a part get the queue-driven pool, whole.

OWN_WORKERS = [
    inside.WithWorkers,
    inside.WithWorkersOfABase,
    inside.DerivedTwice,
    inside.StaticWorkers,
]


@pytest.mark.parametrize("cls", OWN_WORKERS)
def test_workers_of_ones_own(context, cls, tmp_path):
    own = type("Own", (cls,), {"folder": str(tmp_path)})
    before = tasks_done(), calls.stats()["started"][context.get_start_method()]
    with own(2, context=context) as pool:
        assert type(pool) is own and isinstance(pool, goproc.pool.Pool)
        assert pool.map(abs, range(-10, 0)) == list(range(10, 0, -1))
        assert pool.apply(operator.add, (1, 2)) == 3
        assert list(pool.imap(abs, [-1, -2])) == [1, 2]
        assert list(inside.imap_for_starmap(pool, inside.add, [(1, 2), (3, 4)])) == [3, 7]
        assert isinstance(pool.apply_async(abs, (-1,)), goproc.pool.AsyncResult)
        assert isinstance(pool.map_async(abs, [-1]), goproc.pool.MapResult)
        assert isinstance(pool.imap_unordered(abs, [-1]), goproc.pool.IMapUnorderedIterator)
        pids = {str(worker.pid) for worker in pool._pool}
        pool.close()
        pool.join()
    assert {path.name for path in tmp_path.iterdir()} == pids
    assert (tasks_done(), calls.stats()["started"][context.get_start_method()]) == (before[0], before[1] + 2)


def test_a_class_is_changed_after_it_was_made(monkeypatch, folder):
    class Late(goproc.pool.Pool):
        pass

    before = tasks_done()
    with Late(1) as pool:
        assert pool.apply(abs, (-1,)) == 1
    assert tasks_done() == before + 1
    Late.folder, Late._repopulate_pool = folder, inside.Workers._repopulate_pool
    with Late(1) as pool:
        assert isinstance(pool, Late) and pool.apply(abs, (-1,)) == 1
        pool.close()
        pool.join()
    assert len(os.listdir(folder)) == 1


def test_pool_itself_is_changed(monkeypatch, folder):
    before = tasks_done()
    original = goproc.pool.Pool._repopulate_pool

    def repopulate(self):
        replaced.append(type(self).__name__)
        original(self)

    replaced = []
    monkeypatch.setattr(goproc.pool.Pool, "_repopulate_pool", repopulate)
    with goproc.Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    assert replaced == ["Pool"] and tasks_done() == before
    monkeypatch.undo()
    with goproc.Pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1
    assert tasks_done() == before + 1


@pytest.mark.parametrize(
    "name", ["_get_tasks", "_handle_tasks", "_handle_results", "_handle_workers", "_join_exited_workers"]
)
def test_what_multiprocessing_calls_by_its_class_is_changed(monkeypatch, name):
    original = getattr(goproc.pool.Pool, name)
    calls = []

    def replacement(*arguments):
        calls.append(len(arguments))
        return original(*arguments)

    monkeypatch.setattr(goproc.pool.Pool, name, staticmethod(replacement))
    with goproc.Pool(1) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    assert calls


def test_the_worker_of_the_module_is_changed(run_script, method, tmp_path):
    (tmp_path / "own.py").write_text(
        "import multiprocessing.pool\n"
        "original = multiprocessing.pool.worker\n"
        "def worker(inqueue, outqueue, *others):\n"
        "    print('begins', flush=True)\n"
        "    original(inqueue, outqueue, *others)\n"
        "    print('ends', flush=True)\n"
        "multiprocessing.pool.worker = worker\n"
    )
    (tmp_path / "program.py").write_text(
        "import multiprocessing, own\n"
        "if __name__ == '__main__':\n"
        "    pool = multiprocessing.Pool(1)\n"
        "    print(pool.map(abs, [-1, -2, -3]), flush=True)\n"
        "    pool.close()\n"
        "    pool.join()\n"
    )
    plain = run_script("program.py", cwd=tmp_path).stdout
    assert sorted(plain.splitlines()) == ["[1, 2, 3]", "begins", "ends"]
    done = run_script("-m", "goproc", "--start-method", method, "program.py", cwd=tmp_path)
    assert sorted(done.stdout.splitlines()) == sorted(plain.splitlines()) and done.stderr == ""


def test_a_method_is_added_to_pool(run_script, method):
    code = """
import multiprocessing, multiprocessing.pool as mpp
import inside_targets
mpp.Pool.imap_for_starmap = inside_targets.imap_for_starmap
if __name__ == "__main__":
    for make in multiprocessing.Pool, mpp.Pool, mpp.ThreadPool:
        with make(2) as pool:
            print(list(pool.imap_for_starmap(pow, [(2, 3), (3, 2)], 1, mpp.IMapIterator)))
"""
    done = run_script("-m", "goproc", "--start-method", method, "-c", code, PYTHONPATH=os.path.dirname(inside.__file__))
    assert done.stdout == "[8, 9]\n" * 3


def test_a_pool_made_by_hand():
    pool = inside.MadeByHand(2)
    try:
        assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
        assert pool.apply_async(operator.add, (1, 2)).get(30) == 3
    finally:
        pool.terminate()
        pool.join()


def test_what_such_pools_have_not(monkeypatch):
    monkeypatch.setattr(goproc.pool.Pool, "_get_tasks", staticmethod(goproc.pool.Pool._get_tasks))
    with pytest.raises(TypeError, match="_get_tasks"):
        goproc.Pool(1, retries=1)


def test_the_log_says_so(run_script):
    code = """
import goproc, inside_targets
goproc.log_to_stderr(10)
with inside_targets.StaticWorkers(1) as pool:
    pass
"""
    done = run_script("-c", code, PYTHONPATH=os.path.dirname(inside.__file__))
    (line,) = [line for line in done.stderr.splitlines() if "driven by queues" in line]
    assert "StaticWorkers is driven" in line and line.endswith("it replaces: _repopulate_pool_static")


@pytest.mark.parametrize("pool", [goproc.pool.Pool, multiprocessing.pool.Pool])
def test_terminate_does_not_wait_for_a_task_that_a_worker_has_taken(pool):
    """The function relies on a lock that keeps workers from the queue."""
    context = goproc.get_context("fork")
    queue, ready = context.SimpleQueue(), context.Semaphore(0)
    worker = context.Process(target=queue_targets.get_for_ever, args=(queue, ready))
    worker.start()
    ready.acquire()
    for _ in range(2000):
        queue.put("task")
        pool._help_stuff_finish(queue, threading.main_thread(), 1)
        assert queue.empty()
        queue._rlock.release()
    worker.kill()
    worker.join()


def test_thread_pools_are_pools():
    with goproc.pool.ThreadPool(2) as pool:
        assert isinstance(pool, goproc.pool.Pool) and isinstance(pool, multiprocessing.pool.ThreadPool)
        assert repr(pool).endswith(".pool.ThreadPool state=RUN pool_size=2>")
        assert pool.map(abs, [-1, -2]) == [1, 2]
        assert isinstance(pool.apply_async(abs, (-1,)), goproc.pool.ApplyResult)
        with pytest.raises(ZeroDivisionError):
            pool.apply(divmod, (1, 0))


REDUCER = """
import marshal, sys, types
import goproc
from multiprocessing.reduction import AbstractReducer, ForkingPickler

def rebuilt(code):
    return types.FunctionType(marshal.loads(code), globals())

class Pickler(ForkingPickler):
    def reducer_override(self, value):
        if isinstance(value, types.FunctionType) and value.__name__ == "<lambda>":
            return rebuilt, (marshal.dumps(value.__code__),)
        return NotImplemented

    @classmethod
    def dumps(cls, value, protocol=None):
        import io
        file = io.BytesIO()
        cls(file, protocol).dump(value)
        return file.getbuffer()

class Reducer(AbstractReducer):
    ForkingPickler = Pickler
    register = Pickler.register
    def dump(self, value, file, protocol=None):
        Pickler(file, protocol).dump(value)

context = goproc.get_context(sys.argv[1])
context.reducer = Reducer()

def make_function(number):
    return lambda x: x + 1

if __name__ == "__main__":
    with context.Pool(2) as pool:
        print(pool.apply_async(lambda x: x + 1, (41,)).get(30))
        print(pool.map(lambda x: x * 2, range(4)), list(pool.imap(lambda x: x * 2, range(4))))
        print(pool.apply(make_function, (1,))(2))
        print(len(pool.apply(lambda x: x, (b"b" * 100_000,))), pool.map(len, [b"b" * 70_000] * 2))
        try:
            pool.apply(lambda: 1 / 0)
        except ZeroDivisionError as error:
            print(error)
"""


def test_a_reducer_of_ones_own(run_script, method, tmp_path):
    (tmp_path / "program.py").write_text(REDUCER)
    expected = "42\n[0, 2, 4, 6] [0, 2, 4, 6]\n3\n100000 [70000, 70000]\ndivision by zero\n"
    assert run_script("program.py", method, cwd=tmp_path).stdout == expected
