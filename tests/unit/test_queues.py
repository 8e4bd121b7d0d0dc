"""Queue, JoinableQueue and SimpleQueue in shared memory: what is promised when a process is killed, and all else."""

import multiprocessing.queues
import os
import pickle
import queue as standard_queue
import signal
import threading
import time
from multiprocessing import connection

import pytest
import queue_targets as targets
from helpers import QUEUES, THREADS_ARE_MEANT, start, wait_until

import goproc
from goproc import ConsumerLostError, ProducerLostError
from goproc.connection import wait

pytestmark = pytest.mark.part("queues")

SIZES = [0, 1, 4096, 16 << 10, 100_000, 1 << 20, 20 << 20]


def memory_of(queue):
    """Return how many bytes of memory the file of a queue takes."""
    return os.stat(queue._files()[0]).st_blocks * 512


def threads_of_process():
    return len(os.listdir("/proc/self/task"))


# ---- what is promised when a process is killed


def test_what_was_put_before_the_kill_arrives(context, make_queue):
    queue = make_queue()
    items = ["one", b"2" * 100_000, list(range(1000)), bytes(3 << 20)]
    process = start(context, targets.put_and_die, queue, items)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [queue.get() for _ in items] == items
    assert queue.empty()


@pytest.mark.parametrize("size", [10, 3000, 100_000, 1 << 20])
def test_a_producer_that_is_killed_leaves_no_half_item(context, make_queue, size):
    queue = make_queue()
    for _ in range(5):
        process = start(context, targets.put_for_ever, queue, size)
        for number in range(20):
            assert queue.get() == (number, bytes([number % 251]) * size)
        process.kill()
        process.join()
        number = 19
        while not queue.empty():
            number += 1
            assert queue.get() == (number, bytes([number % 251]) * size)
        queue.put("ours")
        assert queue.get() == "ours"


def test_a_consumer_that_is_killed_holds_nobody_up(context, make_queue):
    queue = make_queue()
    ready = context.Semaphore(0)
    for _ in range(5):
        process = start(context, targets.get_for_ever, queue, ready)
        assert ready.acquire(timeout=60)
        for number in range(50):
            queue.put(number)
        process.kill()
        process.join()
        while not queue.empty():
            queue.get()
        queue.put("ours")
        assert queue.get() == "ours"


def test_a_bounded_queue_keeps_its_bound_when_consumers_and_producers_are_killed(context):
    queue, ready = context.Queue(3), context.Semaphore(0)
    for _ in range(5):
        producer = start(context, targets.put_for_ever, queue, 10)
        consumer = start(context, targets.get_for_ever, queue, ready, 0.001)
        assert ready.acquire(timeout=60)
        time.sleep(0.02)
        for process in (consumer, producer):
            process.kill()
            process.join()
    while not queue.empty():
        queue.get()
    for number in range(3):
        queue.put(number, timeout=10)
    assert queue.full()
    with pytest.raises(standard_queue.Full):
        queue.put_nowait(3)


@pytest.mark.slow
def test_items_in_the_buffer_of_a_killed_process_do_not_count(context):
    queue = context.Queue(1000)
    process = start(context, targets.put_for_ever, queue, 1 << 20)
    wait_until(queue.full, 60)
    process.kill()
    process.join()
    while not queue.empty():
        queue.get()
    for number in range(1000):
        queue.put(number, timeout=10)
    with pytest.raises(standard_queue.Full):
        queue.put_nowait(1000)
    assert [queue.get() for _ in range(1000)] == list(range(1000))


def test_join_is_told_of_a_killed_consumer_once(context):
    queue, taken = context.JoinableQueue(), context.Semaphore(0)
    for number in range(5):
        queue.put(number)
    process = start(context, targets.take_tasks, queue, taken, 4, 1)
    assert taken.acquire(timeout=60)
    process.kill()
    with pytest.raises(ConsumerLostError, match=rf"process {process.pid} was killed: it had got 3 items") as caught:
        queue.join()
    assert (caught.value.pid, caught.value.tasks) == (process.pid, 3)
    assert pickle.loads(pickle.dumps(caught.value)).tasks == 3
    process.join()
    assert queue.get() == 4
    queue.task_done()
    queue.join()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("end", [targets.put_and_die, targets.put_and_exit])
def test_join_is_told_of_items_that_were_lost_with_their_producer_once(context, end, asks):
    queue = context.JoinableQueue()
    process = start(context, end, queue, 100 * [bytes(10_000)])
    process.join()
    items = 0
    while not queue.empty():
        assert queue.get() == bytes(10_000)
        queue.task_done()
        items += 1
    if asks:
        assert queue.qsize() == 0
    with pytest.raises(ProducerLostError, match=rf"process {process.pid} has ended: \d+ items") as caught:
        queue.join()
    assert (caught.value.pid, caught.value.items) == (process.pid, 100 - items)
    queue.join()
    queue.put("more")
    assert queue.get() == "more"
    queue.task_done()
    queue.join()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


def test_a_join_that_waits_is_told_of_lost_items(context):
    queue = context.JoinableQueue()
    process = start(context, targets.fill_and_wait, queue, filled := context.Event())
    assert filled.wait(60)
    told = []
    thread = threading.Thread(target=targets.join_and_tell, args=(queue, told))
    thread.start()
    while queue.qsize() > 50:
        queue.get()
        queue.task_done()
    process.kill()
    process.join()
    while not queue.empty():
        queue.get()
        queue.task_done()
    thread.join()
    assert [(type(error), error.pid) for error in told] == [(ProducerLostError, process.pid)]


@pytest.mark.slow
def test_a_consumer_that_ends_by_itself_leaves_its_tasks_to_others(context):
    queue = context.JoinableQueue()
    queue.put("task")
    start(context, targets.take_and_end, queue).join()
    joined = threading.Thread(target=queue.join)
    joined.start()
    joined.join(1)
    assert joined.is_alive()
    queue.task_done()
    joined.join(10)
    assert not joined.is_alive()


def test_tasks_may_be_reported_done_before_they_are_taken(context):
    queue = context.JoinableQueue()
    for number in range(3):
        queue.put(number)
    assert queue.get() == 0
    for _ in range(3):
        queue.task_done()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()
    queue.join()
    assert [queue.get(), queue.get()] == [1, 2]
    queue.join()
    queue.put("more")
    queue.get()
    assert queue._unfinished() == 1
    queue.task_done()
    queue.join()


def test_another_process_may_report_a_task_done(context):
    queue = context.JoinableQueue()
    queue.put("task")
    queue.get()
    start(context, targets.report, queue).join()
    queue.join()


# ---- what queues do


@pytest.mark.parametrize("size", SIZES)
def test_items_of_any_size(context, make_queue, size):
    queue = make_queue()
    process = start(context, targets.move, queue, answers := context.SimpleQueue())
    for item in [bytes(size), bytearray(size), "x" * size, [bytes(size), bytearray(size), "end"], size]:
        queue.put(item)
        answer = answers.get()
        assert type(answer) is type(item)
        assert answer == item
    queue.put(None)
    process.join()


NUMBERS = [0, -1, 2**63 - 1, -(2**63), 2**63, 10**40, True, False, None, 1.5, -0.0, float("inf"), 1j, ...]
TEXTS = [
    "",
    "a",
    "\xe9",
    "\u20ac",
    "\U0001f600",
    "\ud800",
    "x" * 400,
    "x" * 401,
    "\U0001f600" * 200,
    b"",
    b"\0" * 400,
    b"y" * 401,
]
NESTED = [(), (1,), ("a", (2, (None, (b"c", (1.5, (3,)))))), tuple(range(100)), [], [1, "a", (2,)], [None] * 401, [[1]]]
TABLES = [{}, {"b": 1, "a": 2, 3: (4,)}, {"a": [1]}, {("a", 1): b"x"}, set(), {1}, frozenset([1]), bytearray(b"z")]


def test_items_of_all_simple_types(context, make_queue):
    items = [*NUMBERS, *TEXTS, *NESTED, *TABLES, targets.Number(7), targets.Text("t"), targets.Pair((1, 2))]
    requests, answers = make_queue(), make_queue()
    process = start(context, targets.echo, requests, answers, len(items))
    for item in items:
        requests.put(item)
        arrived = answers.get()
        assert repr(arrived) == repr(item)
        assert type(arrived) is type(item)
    process.join()


def test_what_is_the_same_object_twice_stays_that(make_queue):
    queue, inner = make_queue(), [1]
    queue.put((inner, inner))
    queue.put([inner, inner])
    queue.put({"a": inner, "b": inner})
    inner.append(inner)
    queue.put(inner)
    for arrived in queue.get(), queue.get(), list(queue.get().values()):
        assert arrived[0] is arrived[1]
    arrived = queue.get()
    assert arrived[1] is arrived


def test_items_of_all_kinds_keep_their_order(context):
    queue = context.Queue()
    items = [(number, "x" * 100) if number % 3 else {"number": [number, bytes(5000)]} for number in range(2000)]
    for item in items:  # more than there is room for
        queue.put(item)
    assert [queue.get() for _ in items] == items


def test_a_reducer_of_the_programs_own_pickles_everything(run_script):
    done = run_script("own_reducer_for_queues.py")
    assert done.stdout == "3 pickled, 3 unpickled\n"


def test_arrays_arrive_writable_and_as_they_were(context, make_queue):
    queue = make_queue()
    numpy = pytest.importorskip("numpy")
    process = start(context, targets.move, queue, answers := context.SimpleQueue())
    for array in [
        numpy.arange(10),
        numpy.arange(1_000_000.0).reshape(1000, 1000),
        numpy.asfortranarray(numpy.arange(1_000_000).reshape(1000, 1000)),
        numpy.arange(1_000_000)[::2],
    ]:
        queue.put({"array": array, "more": [array, 1]})
        answer = answers.get()
        assert (answer["array"] == array).all()
        assert answer["array"].dtype == array.dtype
        answer["array"].flat[0] = 7  # it is writable, and nobody else's
    queue.put(None)
    process.join()


def test_each_item_once_and_in_each_producers_order(context, make_queue):
    queue = make_queue()
    producers = [start(context, targets.put_numbers, queue, number, 500) for number in range(3)]
    seen = {number: [] for number in range(3)}
    for _ in range(1500):
        producer, number = queue.get()
        seen[producer].append(number)
    for process in producers:
        process.join()
    assert all(numbers == list(range(500)) for numbers in seen.values())


def test_many_producers_and_many_consumers(context):
    source, sink = context.Queue(), context.Queue()
    movers = [start(context, targets.move, source, sink) for _ in range(3)]
    for number in range(3000):
        source.put(number)
    for _ in movers:
        source.put(None)
    got = [sink.get() for _ in range(3003)]
    for process in movers:
        process.join()
    assert sorted(item for item in got if item is not None) == list(range(3000))


@pytest.mark.slow
def test_64_processes_at_one_queue():
    context = goproc.get_context("fork")
    queue = context.Queue()
    processes = [start(context, targets.put_numbers, queue, number, 100) for number in range(64)]
    got = sorted(queue.get() for _ in range(6400))
    for process in processes:
        process.join()
    assert got == [(producer, number) for producer in range(64) for number in range(100)]


@pytest.mark.slow
def test_70_processes_with_more_than_fits_at_a_bounded_queue():
    context = goproc.get_context("fork")
    queue = context.JoinableQueue(200)
    processes = [start(context, targets.fill_and_end, queue, 10, 100_000, False) for _ in range(70)]
    for _ in range(700):
        assert queue.get()[1] == bytes(100_000)
        queue.task_done()
    for process in processes:
        process.join()
    queue.join()


def test_put_does_not_wait_for_room(context):
    queue = context.Queue()
    items = [(number, bytes(100_000)) for number in range(300)]
    targets.put_all(queue, items)
    assert queue.qsize() == 300
    assert not queue.full()
    assert [queue.get() for _ in items] == items
    queue.close()
    queue.join_thread()


def test_the_memory_that_nobody_reads_from_is_bounded():
    queue = goproc.get_context("fork").Queue()
    for _ in range(100):
        queue.put(bytes(1 << 20))
    assert memory_of(queue) < 10 << 20
    queue.cancel_join_thread()
    while queue.qsize():
        queue.get()
    queue.close()
    queue.join_thread()


def test_the_memory_of_a_burst_is_given_back(context):
    queue = context.Queue()
    queue.put(bytes(100 << 20))
    assert memory_of(queue) > 100 << 20
    queue.get()
    assert memory_of(queue) < 10 << 20
    for _ in range(7):
        queue.put(bytes(1 << 20))
    assert memory_of(queue) > 7 << 20
    for _ in range(7):
        queue.get()
    with pytest.raises(standard_queue.Empty):
        queue.get(timeout=0.3)
    assert memory_of(queue) < 1 << 20


def test_no_thread_while_there_is_room(context, make_queue):
    queue = make_queue()
    before = threads_of_process()
    for number in range(100):
        queue.put(number)
    assert threads_of_process() == before
    assert [queue.get() for _ in range(100)] == list(range(100))


def test_a_child_moves_what_is_in_its_buffer_before_it_ends(context):
    queue = context.Queue()
    process = start(context, targets.fill_and_end, queue, 40, 1 << 20, False)
    time.sleep(0.2)
    assert [queue.get()[0] for _ in range(40)] == list(range(40))
    process.join()
    assert process.exitcode == 0


def test_a_child_need_not_wait_until_its_buffer_is_empty(context):
    queue = context.Queue()
    process = start(context, targets.fill_and_end, queue, 40, 1 << 20, True)
    process.join(60)
    assert process.exitcode == 0


@THREADS_ARE_MEANT
def test_a_forked_child_does_not_have_its_parents_buffer():
    context = goproc.get_context("fork")
    queue = context.Queue()
    for number in range(40):
        queue.put((number, bytes(1 << 20)))

    def child():
        assert not queue._buffer
        queue.put("the child's")

    process = context.Process(target=child)
    process.start()
    got = [queue.get() for _ in range(41)]
    process.join()
    assert process.exitcode == 0
    assert sorted(item[0] for item in got if item != "the child's") == list(range(40))
    queue.close()
    queue.join_thread()


def test_a_child_that_forks_does_not_give_its_buffer_to_its_child():
    context = goproc.get_context("spawn")
    queue = context.Queue()
    process = start(context, targets.fill_and_fork, queue)
    got = [queue.get(timeout=60) for _ in range(21)]
    process.join()
    assert sorted(item[0] for item in got if item != "the child's") == list(range(20))
    assert queue.empty()


# ---- waiting


def test_timeouts(context):
    queue = context.Queue(1)
    for arguments in [(False,), (True, 0), (True, 0.05), (True, -1)]:
        with pytest.raises(standard_queue.Empty):
            queue.get(*arguments)
    with pytest.raises(standard_queue.Empty):
        queue.get_nowait()
    queue.put("full")
    for arguments in [(False,), (True, 0), (True, 0.05), (True, -1)]:
        with pytest.raises(standard_queue.Full):
            queue.put("more", *arguments)
    with pytest.raises(standard_queue.Full):
        queue.put_nowait("more")
    assert queue.get(block=True, timeout=5) == "full"


def test_put_waits_for_a_place(context):
    queue, results = context.Queue(1), context.Queue()
    queue.put("full")
    process = start(context, targets.put_full, queue, results)
    with pytest.raises(standard_queue.Empty):
        results.get(timeout=0.3)
    assert queue.get() == "full"
    assert results.get(timeout=30) == "put"
    assert queue.get() == "more"
    process.join()


def test_a_simple_queue_waits_for_room(context):
    queue = context.SimpleQueue()
    process = start(context, targets.fill_and_end, queue, 40, 1 << 20, False)
    time.sleep(0.3)
    assert process.is_alive()
    assert [queue.get()[0] for _ in range(40)] == list(range(40))
    process.join()


@pytest.mark.slow
def test_waiting_takes_no_processor_time(context):
    queue = context.Queue()
    began = time.process_time()
    with pytest.raises(standard_queue.Empty):
        queue.get(timeout=1)
    assert time.process_time() - began < 0.1


def test_a_signal_handlers_exception_ends_the_wait():
    class Stop(Exception):
        pass

    def stop(*unused):
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    queue = goproc.get_context("fork").JoinableQueue(1)
    try:
        with pytest.raises(Stop):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            queue.get()
        queue.put("full")
        with pytest.raises(Stop):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            queue.put("more")
        with pytest.raises(Stop):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            queue.join()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert queue.get() == "full"


@pytest.mark.parametrize("maxsize", [0, 1000])
def test_a_signal_handlers_exception_in_put_leaves_nothing_counted_that_is_not_there(maxsize):
    class Stop(Exception):
        pass

    def stop(*unused):
        raise Stop

    queue, item = goproc.get_context("fork").JoinableQueue(maxsize), bytes(15_000)
    before = signal.signal(signal.SIGALRM, stop)
    try:
        for attempt in range(300):
            put = []
            while not queue._buffer:  # until the shared memory is full
                queue.put((-1, item))
            with pytest.raises(Stop):
                signal.setitimer(signal.ITIMER_REAL, 5e-5 + attempt * 1e-6)
                for number in range(maxsize // 2 or 10_000):
                    queue.put((number, item))
                    put.append(number)
                signal.pause()
            arrived = []
            while queue.qsize():
                arrived.append(queue.get(timeout=60)[0])
                queue.task_done()
            arrived = arrived[arrived.index(0) :] if put else []
            assert arrived[: len(put)] == put
            queue.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


PUTS_IN_DEL = """
import gc

import goproc

collected = 0

class Cycle:
    def __init__(self):
        self.cycle = self

    def __del__(self):
        global collected
        collected += 1
        queue.put("x" * 1000)

if __name__ == "__main__":
    queue = goproc.Queue()
    for threshold in range(1, 41):  # the collector runs at other places each time
        collected = 0
        gc.set_threshold(threshold)
        for number in range(600):  # more than the memory has room for
            Cycle()
            queue.put("y" * 30000)
        gc.set_threshold(700)
        gc.collect()
        got = [len(queue.get()) for _ in range(1200)]
        assert (collected, got.count(30_000), got.count(1000), queue.empty()) == (600, 600, 600, True)
    print("end")
"""


def test_objects_that_put_when_they_are_collected(run_script, tmp_path):
    """The garbage collector runs at any time, also where put() holds a lock, and in the queue's thread."""
    (tmp_path / "program.py").write_text(PUTS_IN_DEL)
    assert run_script(tmp_path / "program.py").stdout == "end\n"


def test_a_thread_that_computes_keeps_nobody_out(context):
    queue, stop = context.Queue(), threading.Event()

    def compute():
        while not stop.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(50):
            queue.put(number)
            assert queue.get() == number
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_many_threads_use_one_queue(context):
    queue, got = context.Queue(), []
    getters = [threading.Thread(target=lambda: got.extend(iter(queue.get, None))) for _ in range(4)]
    putters = [threading.Thread(target=targets.put_numbers, args=(queue, number, 500)) for number in range(4)]
    for thread in getters + putters:
        thread.start()
    for thread in putters:
        thread.join()
    for _ in getters:
        queue.put(None)
    for thread in getters:
        thread.join()
    assert sorted(got) == [(producer, number) for producer in range(4) for number in range(500)]


# ---- what programs use besides


def test_waiting_for_a_queue_with_others(context, make_queue):
    queue = make_queue()
    ours, theirs = context.Pipe()
    assert wait([queue._reader, ours], 0) == []
    process = start(context, targets.put_all, queue, ["a", "b"])
    assert wait([queue._reader, ours, process.sentinel], 60)
    assert wait([queue._reader, ours], 60) == [queue._reader]
    assert queue._reader.poll(60)
    assert queue._reader.recv() == "a"
    assert wait([queue._reader], 60) == [queue._reader]
    assert queue.get() == "b"
    assert wait([queue._reader], 0) == []
    process.join()
    queue._writer.send("c")
    assert wait([queue._reader], 0) == [queue._reader]
    assert pickle.loads(queue._reader.recv_bytes()) == "c"
    assert wait([queue._reader], 0) == []
    assert isinstance(queue._reader, connection.Connection)
    ours.close()
    theirs.close()


def test_readable_while_there_are_items(context):
    queue = context.Queue()
    reader = queue._reader
    processes = [start(context, targets.put_numbers, queue, number, 300) for number in range(2)]
    for _ in range(600):
        assert wait([reader], 60)
        queue.get(timeout=10)
    assert wait([reader], 0) == []
    for process in processes:
        process.join()


def test_they_are_the_standard_librarys(context):
    for kind in QUEUES:
        assert isinstance(getattr(context, kind)(), getattr(multiprocessing.queues, kind))
    assert not hasattr(context.Queue(), "task_done")
    assert not hasattr(context.SimpleQueue(), "qsize")


def test_the_private_names(context):
    queue = context.JoinableQueue(5)
    queue.put("item")
    assert queue._maxsize == 5
    assert queue._opid == os.getpid()
    assert queue._sem._semlock._get_value() == 4
    assert queue._unfinished_tasks._semlock._get_value() == 1
    assert queue._poll()
    with queue._rlock:
        assert pickle.loads(queue._recv_bytes()) == "item"
    assert len(queue._buffer) == 0
    with pytest.raises(AttributeError, match="'JoinableQueue' object has no attribute '_nonsense'"):
        queue._nonsense  # noqa: B018


def test_an_item_that_was_seen_with_the_readers_lock(context, make_queue):
    """No other process gets it, as with multiprocessing. Nothing is lost."""
    queue, taken = make_queue(), context.SimpleQueue()
    processes = [start(context, targets.move, queue, taken) for _ in range(2)]
    mine = []
    for number in range(1000):
        queue.put(number)
        with queue._rlock:
            if queue._reader.poll():
                mine.append(queue._reader.recv() if number % 2 else pickle.loads(queue._reader.recv_bytes()))
        with queue._rlock:
            if queue._reader.poll() and queue._reader.poll(0):  # it goes back
                assert not queue._reader.closed
    for _ in processes:
        queue.put(None)
    theirs = []
    while theirs.count(None) < len(processes):
        theirs.append(taken.get())
    assert sorted([*mine, *filter(lambda item: item is not None, theirs)]) == list(range(1000))
    for process in processes:
        process.join()


def test_the_parts_of_get(context):
    """A class of a program may have get() of its own, as in multiprocessing: lock, look, receive."""
    queue = context.JoinableQueue()
    processes = [start(context, targets.work_off, queue) for _ in range(2)]
    for number in range(500):
        queue.put(number)
        assert queue._rlock.acquire(True, 60)
        try:
            if queue._poll():
                assert pickle.loads(queue._recv_bytes()) <= number
                queue.task_done()
        finally:
            queue._rlock.release()
    queue.join()
    for process in processes:
        process.terminate()
        process.join()


def test_a_fork_while_the_readers_lock_is_held():
    context = goproc.get_context("fork")
    queue, empty = context.SimpleQueue(), context.SimpleQueue()
    queue.put("item")
    with queue._rlock:
        assert queue._reader.poll()
        process = start(context, targets.tell_whether_empty, queue, empty)
        assert empty.get()
        assert queue._reader.recv() == "item"
    process.join()


def test_what_cannot_be_pickled(context, capfd):
    queue = context.Queue(1)
    queue.put(lambda: None)
    assert "Traceback" in capfd.readouterr().err
    assert queue.empty()
    queue.put("item")
    assert queue.get() == "item"
    with pytest.raises((pickle.PicklingError, AttributeError)):
        context.SimpleQueue().put(lambda: None)


def test_closed_queues(context):
    queue, simple = context.Queue(), context.SimpleQueue()
    queue.close()
    queue.join_thread()
    simple.close()
    with pytest.raises(ValueError, match="is closed"):
        queue.put(1)
    with pytest.raises(ValueError, match="is closed"):
        queue.get()
    for use in (simple.get, simple.empty, lambda: simple.put(1)):
        with pytest.raises(OSError, match="handle is closed"):
            use()


def test_the_reading_end_of_a_closed_queue(context):
    queue, unused = context.Queue(), context.Queue()
    queue.put("item")
    assert queue._reader.recv() == "item"
    for each in (queue, unused):
        each.close()
        each.join_thread()
    for use in (queue._reader.recv, queue._reader.recv_bytes, queue._reader.poll, queue._poll, queue.empty):
        with pytest.raises(OSError, match="handle is closed"):
            use()
    assert not unused._reader.poll()


def test_pickling_is_for_starting_processes_only(context, make_queue):
    queue = make_queue()
    with pytest.raises(RuntimeError, match="through inheritance"):
        pickle.dumps(queue)


def test_a_fork_contexts_queue_cannot_be_sent():
    for kind in QUEUES:
        queue = getattr(goproc.get_context("fork"), kind)()
        with pytest.raises(RuntimeError, match="created in a fork context"):
            start(goproc.get_context("spawn"), targets.put_all, queue, [])


def test_wrong_use(context):
    with pytest.raises(TypeError):
        context.Queue("large")
    with pytest.raises(TypeError):
        context.Queue().get(True, 1, 2)
    with pytest.raises(TypeError):
        context.Queue().get(wait=True)
    for maxsize in 1 << 31, 1 << 40:
        with pytest.raises(OverflowError):
            context.Queue(maxsize)
    assert context.Queue(-1)._maxsize == multiprocessing.synchronize.SEM_VALUE_MAX


def test_queues_are_given_back():
    context = goproc.get_context("fork")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        queue = context.Queue()
        queue.put(1)
        queue.get()
    del queue
    assert len(os.listdir("/proc/self/fd")) <= before + 2


CLOSES_ALL = """
import os, goproc
queue = goproc.get_context("fork").Queue()
for number in queue._files():
    os.close(number)
for item in (1, bytes(100_000)):
    queue.put(item)
    assert queue.get() == item
try:
    queue.put(bytes(20 << 20))
except OSError as error:
    print(error.errno)
"""


def test_a_program_that_closes_all_descriptors(run_script):
    assert run_script("-c", CLOSES_ALL).stdout.split() == ["9"]


SMALL_FILES_ONLY = """
import resource, goproc, multiprocessing.queues
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
queue = goproc.get_context("spawn").Queue()
print(type(queue) is multiprocessing.queues.Queue)
queue.put("item")
print(queue.get())
"""


def test_where_shared_memory_is_refused(run_script):
    done = run_script("-c", SMALL_FILES_ONLY, GOPROC_LOG="warning")
    assert done.stdout.split() == ["True", "item"]
    assert "a queue is multiprocessing's, in a pipe" in done.stderr
