"""Calls that programs make in a loop to ask whether there is something: they let the other threads run.

They would not wait, so they need not release the GIL. But multiprocessing makes a system call in each, and there
releases it. If they keep it, a thread that polls leaves the others a turn only every five milliseconds.
"""

import queue
import sys
import threading

import process_targets as targets
import pytest

import goproc

MOST_POLLS = 200_000  # the other thread needs a few


def others_run(poll):
    """Return whether another thread gets the GIL while this one polls."""
    turn, had = threading.Lock(), threading.Event()
    turn.acquire()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(3600)  # seconds. A thread that only computes keeps the GIL
    try:
        thread = threading.Thread(target=lambda: turn.acquire() and had.set())
        thread.start()
        turn.release()
        for _ in range(MOST_POLLS):
            poll()
            if had.is_set():
                return True
        return False
    finally:
        sys.setswitchinterval(interval)
        thread.join()


def find_none(get, *args, **options):
    """Call get() of an empty queue."""
    try:
        get(*args, **options)
    except queue.Empty:
        return
    pytest.fail("there is an item")


def test_a_thread_that_computes_keeps_the_gil():
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        assert not others_run(lambda: None)


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_an_empty_queue(context, kind):
    empty = getattr(context, kind)()
    assert others_run(empty.empty)
    assert others_run(lambda: find_none(empty.get_nowait))
    assert others_run(lambda: find_none(empty.get, timeout=0))
    assert others_run(lambda: empty._reader.poll())


def test_an_empty_simple_queue(context):
    assert others_run(context.SimpleQueue().empty)


def test_a_held_lock(context):
    lock = context.Lock()
    with lock:
        assert others_run(lambda: lock.acquire(timeout=0))


def test_a_process_that_runs(context):
    process = context.Process(target=targets.sleep)
    process.start()
    try:
        assert others_run(process.is_alive)
        assert others_run(lambda: process.exitcode)
        assert others_run(lambda: process.join(0))
        assert others_run(goproc.active_children)
    finally:
        process.kill()
        process.join()
