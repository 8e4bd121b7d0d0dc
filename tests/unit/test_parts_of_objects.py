"""The private parts of multiprocessing's queues and events by which programs work on them from outside."""

import multiprocessing.reduction
import os
import queue as standard_queue
import threading

import pytest
from helpers import THREADS_ARE_MEANT, wait_until

import goproc

pytestmark = THREADS_ARE_MEANT


def work(queue, count):
    for _ in range(count):
        queue.get()
        queue.task_done()


def put_by_parts(queue, item):
    """Put an item as multiprocessing's own put() does, so that its thread pickles and moves it."""
    if not queue._sem.acquire(True, 5):
        raise standard_queue.Full
    with queue._notempty:
        if queue._thread is None:
            queue._start_thread()
        queue._buffer.append(item)
        if hasattr(queue, "task_done"):
            queue._unfinished_tasks.release()
        queue._notempty.notify()


def put_pickled(queue, item):
    """Put an item as programs do that have pickled it before."""
    assert queue._sem.acquire(True, 5)
    with queue._wlock:
        queue._writer.send_bytes(multiprocessing.reduction.ForkingPickler.dumps(item))


def take_by_parts(queue):
    with queue._rlock:
        pickled = queue._reader.recv_bytes()
    queue._sem.release()
    return multiprocessing.reduction.ForkingPickler.loads(pickled)


def set_it(event):
    with event._cond:
        event._flag.acquire(False)
        event._flag.release()
        event._cond.notify_all()


@pytest.mark.part("queues")
def test_a_join_with_a_timeout(context):
    """JoinableQueue.join() has no timeout, so programs wait for its condition."""
    queue = context.JoinableQueue()
    for item in range(3):
        queue.put(item)
    with queue._cond:
        assert not queue._unfinished_tasks._semlock._is_zero()
        assert queue._cond.wait(timeout=0.05) is False
        assert queue._cond.wait_for(lambda: queue._unfinished_tasks.get_value() == 0, 0.05) is False
    worker = context.Process(target=work, args=(queue, 3))
    worker.start()
    with queue._cond:
        if not queue._unfinished_tasks._semlock._is_zero():
            assert queue._cond.wait(timeout=60) is True
    assert queue._unfinished_tasks._semlock._is_zero()
    queue.join()
    worker.join()


@pytest.mark.part("queues")
def test_task_done_by_its_parts(context):
    queue = context.JoinableQueue()
    queue.put("a")
    queue.get()
    with queue._cond:
        assert queue._unfinished_tasks.acquire(True)
        if queue._unfinished_tasks._semlock._is_zero():
            queue._cond.notify_all()
    queue.join()
    assert not queue._unfinished_tasks.acquire(False)
    assert not queue._unfinished_tasks.acquire(True, 0.05)
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


@pytest.mark.part("queues")
@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_put_by_its_parts(context, kind):
    queue = getattr(context, kind)()
    items = ["a", None, (1, 2, 3), b"x" * 100_000]
    child = context.Process(target=put_by_parts, args=(queue, "of a child"))
    child.start()
    assert queue.get(timeout=60) == "of a child"
    child.join()
    for item in items:
        put_by_parts(queue, item)
        queue.put([item])
    assert [queue.get(timeout=60) for _ in range(8)] == [x for item in items for x in (item, [item])]
    if kind == "JoinableQueue":
        assert queue._unfinished_tasks.get_value() == 9
        for _ in range(9):
            queue.task_done()
        queue.join()


@pytest.mark.part("queues")
def test_an_item_put_by_its_parts_that_cannot_be_pickled(context, capfd):
    queue = context.Queue()
    put_by_parts(queue, lambda: None)
    put_by_parts(queue, "next")
    assert queue.get(timeout=60) == "next"
    assert "pickle" in capfd.readouterr().err


@pytest.mark.part("queues")
def test_bytes_around_a_queue_with_a_maxsize(context):
    queue = context.Queue(2)
    put_pickled(queue, "a")
    put_pickled(queue, "b")
    assert queue._sem.get_value() == 0 and not queue._sem.acquire(False) and not queue._sem.acquire(True, 0.05)
    assert take_by_parts(queue) == "a"
    with queue._sem:
        pass
    child = context.Process(target=put_pickled, args=(queue, "c"))
    child.start()
    assert [take_by_parts(queue), queue.get(timeout=60)] == ["b", "c"]
    child.join()


@pytest.mark.part("locks")
def test_an_event_by_its_parts(context):
    event = context.Event()
    assert event._flag._semlock._is_zero() and event._flag.get_value() == 0
    assert not event._flag.acquire(False)
    with event._cond:
        assert event._cond.wait(0.05) is False
    child = context.Process(target=set_it, args=(event,))
    child.start()
    with event._cond:
        assert event._cond.wait(60) is True
    child.join()
    assert event.is_set() and event._flag.get_value() == 1
    with event._cond:
        assert event._flag.acquire(False)
    assert not event.is_set()


@pytest.mark.part("locks")
def test_a_class_that_uses_the_parts_of_an_event():
    class Counted(goproc.synchronize.Event):
        def is_set(self):
            with self._cond:
                if self._flag.acquire(False):
                    self._flag.release()
                    return True
                return False

        def wait(self, timeout=None):
            with self._cond:
                if self._flag.acquire(False):
                    self._flag.release()
                else:
                    self._cond.wait(timeout)
                if self._flag.acquire(False):
                    self._flag.release()
                    return True
                return False

    event = Counted(ctx=goproc.get_context("fork"))
    assert not event.is_set() and not event.wait(0.05)
    thread = threading.Timer(0.1, event.set)
    thread.start()
    assert event.wait(60) and event.is_set()
    thread.join()


@pytest.mark.part("locks")
@pytest.mark.part("queues")
def test_the_lock_of_a_condition_that_another_thread_holds_at_a_fork():
    """The child's copy is free: no thread of the child would ever release it."""
    context = goproc.get_context("fork")
    event, queue = context.Event(), context.JoinableQueue()
    held, go_on = threading.Event(), threading.Event()

    def hold():
        with event._cond, queue._cond, queue._wlock, queue._rlock:
            held.set()
            go_on.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        set_it(event)
        with queue._wlock, queue._rlock, queue._cond:
            queue.put("of the child")
        queue.close()
        queue.join_thread()
        os._exit(0)
    wait_until(event.is_set)
    assert queue.get(timeout=60) == "of the child"
    assert os.waitpid(child, 0)[1] == 0
    go_on.set()
    thread.join()


@pytest.mark.part("locks")
@pytest.mark.part("queues")
def test_misuse_of_a_condition():
    context = goproc.get_context("spawn")
    event, queue = context.Event(), context.JoinableQueue()
    with queue._cond, queue._cond:  # an RLock, as multiprocessing's
        queue.put("a")
    for condition in (event._cond, queue._cond):
        with pytest.raises((AssertionError, RuntimeError)):
            condition.wait(1)
        with pytest.raises((AssertionError, ValueError, RuntimeError)):
            condition.release()
        looks = iter([False, False, True])
        with condition:
            assert condition.wait_for(looks.__next__, 60)
