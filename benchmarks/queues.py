"""Work for processes that use a queue. Rows of rows.py call these functions.

Each takes a function that makes a queue, a context of multiprocessing's kind for the processes, and how often to do the
work. It returns (seconds, processor seconds), which are counted from when all processes are ready.
"""

import time

from .processor import Meter


def _payload(kind):
    if kind == "array":
        import numpy

        return numpy.zeros(125_000)
    return {"small": ("key", 12345), "100kB": bytes(100_000), "1MiB": bytes(1 << 20)}[kind]


def _put(queue, kind, count, ready, go):
    item = _payload(kind)
    ready.release()
    go.wait()
    for _ in range(count):
        queue.put(item)


def _get(queue, count, ready, go):
    ready.release()
    go.wait()
    for _ in range(count):
        queue.get()


def stream(make, context, count, kind="small", producers=1, consumers=1):
    """Put count items by `producers` processes, and get them by `consumers` processes, of which the caller is one."""
    queue, ready, go = make(), context.Semaphore(0), context.Event()
    each, share = count // producers, count // producers * producers // consumers
    processes = [context.Process(target=_put, args=(queue, kind, each, ready, go)) for _ in range(producers)]
    processes += [context.Process(target=_get, args=(queue, share, ready, go)) for _ in range(consumers - 1)]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    meter, began = Meter(), time.perf_counter()
    go.set()
    for _ in range(share):
        queue.get()
    for process in processes:
        process.join()
    return time.perf_counter() - began, meter.seconds()


def _echo(requests, answers, count, ready):
    ready.release()
    for _ in range(count):
        answers.put(requests.get())


def round_trip(make, context, count, kind="small"):
    """Send an item to another process, and get it back, count times."""
    requests, answers, ready = make(), make(), context.Semaphore(0)
    process = context.Process(target=_echo, args=(requests, answers, count, ready))
    process.start()
    ready.acquire()
    item = _payload(kind)
    meter, began = Meter(), time.perf_counter()
    for _ in range(count):
        requests.put(item)
        answers.get()
    spent = time.perf_counter() - began, meter.seconds()
    process.join()
    return spent
