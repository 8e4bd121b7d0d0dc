"""One fault of processes that share something: sharing.py LIBRARY FAULT. Prints {"outcome": ..., "ms": ...} as JSON.

A process is killed while it uses a lock, a queue or the like; the outcome is what the next one who uses it meets. The
caller must limit the time, because that may hang. Each fault is a function of the library's fork context.
"""

import importlib
import json
import os
import signal
import sys
import time

from libraries import MODULES

ROUNDS = 20  # of those faults that depend on where exactly the process is killed


def start(context, target, *args):
    process = context.Process(target=target, args=args)
    process.start()
    return process


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def kill(process):
    os.kill(process.pid, signal.SIGKILL)  # billiard's processes have no kill()


def timed(call):
    """Return what a call returns, or the name of its exception, and how long it takes in ms."""
    begin = time.monotonic()
    try:
        call()
        outcome = "goes on"
    except Exception as error:
        outcome = type(error).__name__
    return outcome, 1000 * (time.monotonic() - begin)


# ---- locks


def hold_and_die(lock, held):
    lock.acquire()
    held.set()
    die()


def take(context, lock):
    held = context.Event()
    start(context, hold_and_die, lock, held).join()
    return timed(lock.acquire)


def held_lock(context):
    return take(context, context.Lock())


def held_permit(context):
    return take(context, context.BoundedSemaphore(1))


def wait_for_condition(condition, waits):
    with condition:
        waits.release()
        condition.wait()


def waiter_of_condition(context):
    condition, waits = context.Condition(), context.Semaphore(0)
    process = start(context, wait_for_condition, condition, waits)
    waits.acquire()
    with condition:  # so it waits
        kill(process)
    process.join()

    def notify():
        with condition:
            condition.notify_all()

    return timed(notify)


def wait_for_event(event, waits):
    waits.release()
    event.wait()


def waiter_of_event(context):
    event, waits = context.Event(), context.Semaphore(0)
    process = start(context, wait_for_event, event, waits)
    waits.acquire()
    time.sleep(0.2)
    kill(process)
    process.join()
    return timed(event.set)


# ---- queues


def put_for_ever(queue):
    while True:
        queue.put(bytes(300_000))


def put_one(queue):
    queue.put("alive")


def killed_in_put(context):
    queue = context.Queue(4)

    def next_one():
        for _ in range(ROUNDS):
            process = start(context, put_for_ever, queue)
            for _ in range(5):
                queue.get()
            kill(process)
            process.join()
            process = start(context, put_one, queue)
            while queue.get() != "alive":
                pass
            process.join()

    return timed(next_one)


def get_for_ever(queue):
    while True:
        queue.get()


def killed_in_get(context):
    queue = context.Queue()

    def next_one():
        for _ in range(ROUNDS):
            process = start(context, get_for_ever, queue)
            for _ in range(5):
                queue.put(bytes(300_000))
            time.sleep(0.02)
            kill(process)
            process.join()
            queue.put("alive")
            while queue.get() != "alive":
                pass

    return timed(next_one)


def get_and_die(queue):
    queue.get()
    die()


def killed_with_a_task(context):
    queue = context.JoinableQueue()
    queue.put(1)
    start(context, get_and_die, queue).join()
    return timed(queue.join)


FAULTS = {
    "lock": held_lock,
    "permit": held_permit,
    "condition": waiter_of_condition,
    "event": waiter_of_event,
    "put": killed_in_put,
    "get": killed_in_get,
    "task": killed_with_a_task,
}


if __name__ == "__main__":
    library, fault = sys.argv[1:]
    outcome, ms = FAULTS[fault](importlib.import_module(MODULES[library]).get_context("fork"))
    print(json.dumps({"outcome": outcome, "ms": ms}), flush=True)
    os._exit(0)
