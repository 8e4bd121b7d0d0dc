"""Chaos for queues: processes that put and get are killed at random moments, and an account is kept.

    queues.py [--kills N] [--seed SEED] [--methods METHOD ...]

Two producers and two consumers use a Queue, a JoinableQueue and a SimpleQueue. One after the other is killed by
SIGKILL, and replaced. Each item has a number, and its content follows from the number. The account:

    whole       Each item that arrives is as it was put.
    once        No item arrives twice.
    not lost    Each item that put() has handed over arrives, but for at most one for each killed consumer: the one that
                it had taken and not yet noted.
    waits       Nobody waits for the dead for long. The longest wait is printed.
    done        At the end task_done() has been called as often as items were taken. join() reports the items that
                killed consumers had taken.

The exit status is 0 only if the account is right, and no wait was longer than LIMIT.
"""

import ctypes
import os
import queue as standard_queue
import random
import signal
import time

import kills

import goproc
from goproc import ConsumerLostError

PRODUCERS = CONSUMERS = 2
WORKERS = PRODUCERS + CONSUMERS
MOST = 4096  # items of one process
LIMIT = 10  # seconds; what is promised is one, but the machine may be busy
SIZES = [0, 10, 100, 5000, 20_000, 200_000]
KINDS = ["queue", "joinable", "simple"]


class Cells(ctypes.Structure):
    """What the processes share besides the queues. Each worker has a place of its own in the arrays."""

    _fields_ = [
        ("since", ctypes.c_double * WORKERS),  # when its wait began; 0 while it does not wait
        ("longest", ctypes.c_double * WORKERS),
        ("gets", ctypes.c_long * WORKERS),
    ]


def content(number, size):
    """Return what an item with the number contains."""
    return bytes([number % 251]) * size


def produce(place, life, queues, cells, account, seed):
    """Put items, each into any of the queues. The account has 1 for each item that was handed over."""
    choice = random.Random(seed)
    for count in range(MOST):
        number, size = life * MOST + count, choice.choice(SIZES)
        item = number, size, content(number, size)
        kind = choice.choice(KINDS)
        cells.since[place] = began = time.monotonic()
        while True:
            try:
                queues[kind].put(item) if kind == "simple" else queues[kind].put(item, timeout=0.2)
                break
            except standard_queue.Full:
                cells.since[place] = began = time.monotonic()  # the consumers are slow: this is no wait for the dead
        account[number] |= 1
        cells.longest[place] = max(cells.longest[place], time.monotonic() - began)
        cells.since[place] = 0
    time.sleep(1000)


def consume(place, life, queues, cells, account, seed):
    """Get items from all queues. The account has 2 for each item that has come, and more if something is wrong."""
    choice = random.Random(seed)
    while True:
        kind = choice.choice(KINDS)
        if kind == "simple":
            if not queues[kind]._reader.poll(0.01):
                continue
            take(queues[kind], kind, account)
        else:
            cells.since[place] = began = time.monotonic()
            try:
                take(queues[kind], kind, account, timeout=0.05)
            except standard_queue.Empty:
                pass
            cells.longest[place] = max(cells.longest[place], time.monotonic() - began)
        cells.gets[place] += 1
        cells.since[place] = 0


def take(queue, kind, account, **options):
    """Get an item and note it."""
    number, size, found = queue.get(**options)
    account[number] += 2
    if found != content(number, size):
        account[number] |= 128
    if kind == "joinable":
        queue.task_done()


def play(method, count, seed):
    """Kill `count` processes that were started by the method; return what was wrong."""
    context, choice = goproc.get_context(method), random.Random(seed)
    cells, account = context.RawValue(Cells), context.RawArray(ctypes.c_ubyte, (count + WORKERS) * MOST)
    queues = {"queue": context.Queue(20), "joinable": context.JoinableQueue(20), "simple": context.SimpleQueue()}
    began, wrong, workers, lives, lost = time.monotonic(), [], [None] * WORKERS, 0, 0

    def start(place):
        nonlocal lives
        cells.since[place] = 0
        arguments = place, lives, queues, cells, account, choice.random()
        workers[place] = context.Process(target=produce if place < PRODUCERS else consume, args=arguments, daemon=True)
        workers[place].start()
        lives += 1

    for place in range(WORKERS):
        start(place)
    for _ in range(count):
        time.sleep(choice.expovariate(1 / 0.004))
        place = choice.randrange(WORKERS)
        os.kill(workers[place].pid, signal.SIGKILL)
        workers[place].join()
        lost += place >= PRODUCERS
        start(place)
        now = time.monotonic()
        for other in range(WORKERS):
            since = cells.since[other]
            if since and now - since > LIMIT:
                wrong.append(f"{method}: a {['consumer', 'producer'][other < PRODUCERS]} waits for {now - since:.1f} s")
        if wrong:
            break
    time.sleep(0.5)
    for worker in workers:
        worker.kill()
        worker.join()
    lost += CONSUMERS
    finish(queues, account, lost, method, wrong)
    print(
        f"chaos of queues: {method}: {count} killed in {time.monotonic() - began:.0f} s, "
        f"{sum(value != 0 for value in account)} items; longest wait {max(cells.longest):.2f} s",
        flush=True,
    )
    return wrong


def finish(queues, account, lost, method, wrong):
    """Get what is left in the queues, and look at the account."""
    for kind, queue in queues.items():
        while not queue.empty():
            take(queue, kind, account)
    told = 0
    while True:
        try:
            queues["joinable"].join()
            break
        except ConsumerLostError as error:
            told += error.tasks
    missing = sum(value == 1 for value in account)
    twice = sum(value & 127 > 3 for value in account)
    half = sum(value & 128 != 0 for value in account)
    if missing > lost or told > lost:
        wrong.append(f"{method}: {missing} items are missing, {told} not reported done; {lost} consumers were killed")
    if twice or half:
        wrong.append(f"{method}: {twice} items came twice, {half} were not whole")


if __name__ == "__main__":
    kills.main(__doc__, "queues", play)
