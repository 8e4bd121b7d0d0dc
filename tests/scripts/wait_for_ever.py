"""A program of which all processes wait: python wait_for_ever.py SCENARIO METHOD. test_dump.py looks at it.

It prints a line for each pid that the test needs, "NAME PID", then "ready", and waits until it is killed.
"""

import ctypes
import os
import signal
import sys
import threading
import time

import goproc
from goproc import _native

FOR_EVER = 1000


def say(*words):
    print(*words, flush=True)


def take_both(first, second, barrier, timeout=None):
    with first:
        barrier.wait()
        second.acquire(True, timeout)


def take_twice(lock):
    lock.acquire()
    lock.acquire()


def call(function, *args):
    function(*args)


def hold(lock, held):
    with lock:
        held.set()
        time.sleep(FOR_EVER)


def stop_itself():
    os.kill(os.getpid(), signal.SIGSTOP)


def hold_the_gil(held):
    held.set()
    ctypes.PyDLL(None).pause()


def task_that_waits(seconds):
    time.sleep(seconds)


def threads_that_wait(lock, event, started):
    threading.Thread(target=named_in_the_stack, args=(event,), daemon=True).start()
    started.set()
    lock.acquire()


def threads_that_wait_for_events(first, second):
    threading.Thread(target=named_in_the_stack, args=(first,), daemon=True).start()
    second.wait()


def named_in_the_stack(event):
    event.wait()


def start_another(context, lock):
    process = context.Process(target=call, args=(lock.acquire,), name="grandchild")
    process.start()
    process.join()


def start(context, name, target, *args, daemon=True):
    process = context.Process(target=target, args=args, name=name, daemon=daemon)
    process.start()
    say(name, process.pid)
    return process


def circle(context, count, timeout=None):
    locks = [context.Lock() for _ in range(count)]
    barrier = context.Barrier(count)
    for i in range(count):
        start(context, f"p{i}", take_both, locks[i], locks[(i + 1) % count], barrier, timeout)


def holder(context, lock):
    held = context.Event()
    process = start(context, "holder", hold, lock, held)
    held.wait()
    return process


def abba(context):
    circle(context, 2)


def three(context):
    circle(context, 3)


def with_timeout(context):
    circle(context, 2, FOR_EVER)


def itself(context):
    start(context, "alone", take_twice, context.Lock())


def join_in_circle(context):
    lock = context.Lock()
    lock.acquire()
    process = start(context, "joined", call, lock.acquire)
    say("ready")
    process.join()


def held(context):
    lock = context.RLock()
    holder(context, lock)
    start(context, "waiter", call, lock.acquire)


def semaphore(context):
    permits = context.BoundedSemaphore(2)
    holder(context, permits)
    permits.acquire()
    start(context, "waiter", call, permits.acquire)


def signals(context):
    start(context, "waiter", call, context.Semaphore(0).acquire)


def queue(context):
    start(context, "getter", call, context.Queue().get)


def full_queue(context):
    queue = context.Queue(1)
    queue.put("full")
    start(context, "putter", call, queue.put, "more")


def joined_queue(context):
    queue = context.JoinableQueue()
    queue.put("task")
    start(context, "joiner", call, queue.join)


def noted_queue(context):
    start(context, "getter", note_a_queue, context.Lock(), os.getpid())


def note_a_queue(memory, pid):
    """Wait as a queue does that notes it; the lock stands for the queue's memory."""
    address = memory._semlock.handle
    _native.wait_noted(time.sleep, (FOR_EVER,), _native.WAIT_QUEUE_GET, object=address, number=pid)


def event(context):
    start(context, "waiter", call, context.Event().wait)


def condition(context):
    start(context, "waiter", wait_at, context.Condition())


def wait_at(condition):
    with condition:
        condition.wait()


def barrier(context):
    start(context, "waiter", call, context.Barrier(2).wait)


def join(context):
    process = start(context, "sleeper", time.sleep, FOR_EVER)
    say("ready")
    process.join()


def result(context):
    with context.Pool(1) as pool:
        result = pool.apply_async(task_that_waits, (FOR_EVER,))
        say("ready")
        result.get()


def results(context):
    with context.Pool(2) as pool:
        first, second = (pool.apply_async(task_that_waits, (FOR_EVER,)) for _ in range(2))
        threading.Thread(target=first.get, daemon=True).start()
        say("ready")
        second.get()


def idle(context):
    with context.Pool(1) as pool:
        pool.apply(os.getpid)
        say("ready")
        time.sleep(FOR_EVER)


def stopped(context):
    start(context, "stopped", stop_itself)


def gil(context):
    held = context.Event()
    start(context, "greedy", hold_the_gil, held)
    held.wait()


def threads(context):
    lock, started = context.Lock(), context.Event()
    lock.acquire()
    start(context, "threaded", threads_that_wait, lock, context.Event(), started)
    started.wait()


def two_events(context):
    """Its threads open no descriptors. A thread that waits for a lock does, to look whether the holder still runs."""
    start(context, "threaded", threads_that_wait_for_events, context.Event(), context.Event())


def odd_name(context):
    lock = context.Lock()
    lock.acquire()
    process = context.Process(target=größe_日本, args=(lock,), name="größe 日本\n\x1b[2J", daemon=True)
    process.start()
    say("odd", process.pid)


def größe_日本(lock):
    lock.acquire()


def deep(context):
    lock = context.Lock()
    lock.acquire()
    start(context, "deep", go_down, 500, lock)


def go_down(depth, lock):
    if depth:
        go_down(depth - 1, lock)
    lock.acquire()


def nested(context):
    lock = context.Lock()
    lock.acquire()
    start(context, "child", start_another, context, lock, daemon=False)


def manager(context):
    server = context.Manager()
    say("manager", server._process.pid)
    say("ready")
    time.sleep(FOR_EVER)


def forked(context):
    lock = context.Lock()
    lock.acquire()
    pid = os.fork()
    if pid == 0:
        lock.acquire()
    say("forked", pid)


def ended(context):
    say("ended", goproc_child_that_ends(context).pid)
    say("ready")
    time.sleep(FOR_EVER)


def goproc_child_that_ends(context):
    process = context.Process(target=int)
    process.start()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


if __name__ == "__main__":
    say("program", os.getpid())
    globals()[sys.argv[1]](goproc.get_context(sys.argv[2]))
    say("ready")
    time.sleep(FOR_EVER)
