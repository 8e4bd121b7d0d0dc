"""Work for two processes that use a lock, an event or a condition. Rows of rows.py call these functions.

Each function takes a context of multiprocessing's kind, and how often to do the work. It returns a Measurement, which
begins when both processes are ready.
"""

import time

from .processor import Meter


def measured(work, count):
    """Do the work count times; return (seconds, processor seconds)."""
    meter, began = Meter(), time.perf_counter()
    work(count)
    return time.perf_counter() - began, meter.seconds()


def alone(context, count):
    """Take and release a lock that nobody else wants."""
    lock = context.Lock()

    def work(count):
        for _ in range(count):
            with lock:
                pass

    return measured(work, count)


def _take(lock, ready, count):
    ready.release()
    for _ in range(count):
        with lock:
            pass


def contended(context, count):
    """Take and release a lock, in two processes at the same time, each half as often."""
    lock, ready = context.Lock(), context.Semaphore(0)
    process = context.Process(target=_take, args=(lock, ready, count // 2))
    lock.acquire()
    process.start()
    ready.acquire()
    lock.release()

    def work(count):
        for _ in range(count // 2):
            with lock:
                pass
        process.join()

    return measured(work, count)


def _answer(ping, pong, ready, count):
    ready.release()
    for _ in range(count):
        ping.wait()
        ping.clear()
        pong.set()


def ping_pong(context, count):
    """Set an event, and wait until the other process has set another one in answer."""
    ping, pong, ready = context.Event(), context.Event(), context.Semaphore(0)
    process = context.Process(target=_answer, args=(ping, pong, ready, count))
    process.start()
    ready.acquire()

    def work(count):
        for _ in range(count):
            ping.set()
            pong.wait()
            pong.clear()

    result = measured(work, count)
    process.join()
    return result


def _turns(condition, turn, mine, ready, count):
    if ready is not None:
        ready.release()
    for _ in range(count):
        with condition:
            while turn.value != mine:
                condition.wait()
            turn.value = 1 - mine
            condition.notify()


def turns(context, count):
    """Wait at a condition until it is this process's turn, and notify the other one."""
    condition, turn, ready = context.Condition(), context.RawValue("i", 0), context.Semaphore(0)
    process = context.Process(target=_turns, args=(condition, turn, 1, ready, count))
    process.start()
    ready.acquire()
    result = measured(lambda count: _turns(condition, turn, 0, None, count), count)
    process.join()
    return result
