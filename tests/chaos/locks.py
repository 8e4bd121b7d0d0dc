"""Chaos for locks: processes that take locks, wait and notify are killed at random moments, and an account is kept.

    locks.py [--kills N] [--seed SEED] [--methods METHOD ...]

Some processes use a Lock, an RLock, a BoundedSemaphore, a Condition, an Event and a Barrier in a loop. One after the
other is killed by SIGKILL, and replaced. The account:

    exclusion   Two processes are never inside one lock, unless one is dead, and its death was reported.
    told        The death of each process that was killed inside a lock is reported.
    waits       Nobody waits for the dead for long. The longest wait of each kind is printed.

The exit status is 0 only if the account is right, and no wait was longer than LIMIT.
"""

import ctypes
import os
import random
import signal
import threading
import time

import kills

import goproc
from goproc import AbandonedLockError

WORKERS = 4
LIMIT = 10  # seconds; what is promised is one, but the machine may be busy
KINDS = ["lock", "rlock", "bounded", "condition", "event", "barrier"]


class Cells(ctypes.Structure):
    """What the processes share besides the locks. Each worker has a place of its own in the arrays."""

    _fields_ = [
        ("inside", ctypes.c_int * 3),  # the pid that is inside each of the locks
        ("told", ctypes.c_int * 3),  # how often a killed holder was reported; guarded by the lock that is then taken
        ("doing", ctypes.c_int * WORKERS),  # the kind that each worker uses
        ("since", ctypes.c_double * WORKERS),  # when its wait began; 0 while it does not wait
        ("longest", ctypes.c_double * (WORKERS * len(KINDS))),
        ("rounds", ctypes.c_long * WORKERS),
        ("broken", ctypes.c_int * WORKERS),  # how often an account was wrong
    ]


class Worker:
    """The loop of one process."""

    def __init__(self, place, objects, cells, seed):
        self.place, self.objects, self.cells, self.random = place, objects, cells, random.Random(seed)

    def run(self):
        while True:
            kind = self.random.randrange(len(KINDS))
            self.cells.doing[self.place] = kind
            began = time.monotonic()
            self.cells.since[self.place] = began
            getattr(self, KINDS[kind])()
            self.cells.since[self.place] = 0
            at = self.place * len(KINDS) + kind
            self.cells.longest[at] = max(self.cells.longest[at], time.monotonic() - began)
            self.cells.rounds[self.place] += 1

    def guarded(self, number, lock):
        """Take the lock; check that nobody else is inside, except a process whose death was reported."""
        cells, told = self.cells, 0
        while True:
            try:
                lock.acquire()
                break
            except AbandonedLockError:
                told += 1
        cells.told[number] += told
        cells.inside[number] = os.getpid()
        for _ in range(self.random.randrange(5000)):
            pass
        if cells.inside[number] != os.getpid():
            cells.broken[self.place] += 1
        cells.inside[number] = 0
        lock.release()

    def lock(self):
        self.guarded(0, self.objects["lock"])

    def rlock(self):
        with_again = self.objects["rlock"]
        self.guarded(1, with_again)

    def bounded(self):
        try:
            with self.objects["bounded"]:
                pass
        except AbandonedLockError:
            pass

    def condition(self):
        condition = self.objects["condition"]
        try:
            with condition:
                if self.random.random() < 0.5:
                    condition.notify_all()
                elif self.random.random() < 0.5:
                    condition.notify()
                else:
                    condition.wait(0.01)
        except AbandonedLockError:
            pass

    def event(self):
        event = self.objects["event"]
        self.random.choice([event.set, event.clear, event.is_set, lambda: event.wait(0.01)])()

    def barrier(self):
        try:
            self.objects["barrier"].wait(0.05)
        except threading.BrokenBarrierError:
            self.objects["barrier"].reset()


def work(place, objects, cells, seed):
    Worker(place, objects, cells, seed).run()


def play(method, count, seed):
    """Kill `count` processes that were started by the method; return what was wrong."""
    context, choice = goproc.get_context(method), random.Random(seed)
    cells = context.RawValue(Cells)
    objects = {
        "lock": context.Lock(),
        "rlock": context.RLock(),
        "bounded": context.BoundedSemaphore(2),
        "condition": context.Condition(),
        "event": context.Event(),
        "barrier": context.Barrier(2),
    }
    began, wrong, workers, inside = time.monotonic(), [], [None] * WORKERS, [0, 0]

    def start(place):
        cells.since[place] = 0
        workers[place] = context.Process(target=work, args=(place, objects, cells, choice.random()), daemon=True)
        workers[place].start()

    for place in range(WORKERS):
        start(place)
    for _ in range(count):
        time.sleep(choice.expovariate(1 / 0.004))
        place = choice.randrange(WORKERS)
        os.kill(workers[place].pid, signal.SIGKILL)
        workers[place].join()
        for number in range(2):
            inside[number] += cells.inside[number] == workers[place].pid
        start(place)
        now = time.monotonic()
        for other in range(WORKERS):
            since = cells.since[other]
            if since and now - since > LIMIT:
                wrong.append(f"{method}: a worker waits for {now - since:.1f} s: {KINDS[cells.doing[other]]}")
        if wrong:
            break
    time.sleep(1)
    for worker in workers:
        worker.kill()
        worker.join()
    if any(cells.broken):
        wrong.append(f"{method}: {sum(cells.broken)} times two processes were inside one lock")
    for number in range(2):
        # The last death may not be reported yet. A process killed just before or after it is "inside" is not counted.
        if cells.told[number] < inside[number] - 1:
            wrong.append(f"{method}: {inside[number]} were killed inside a lock, {cells.told[number]} were told of")
    longest = [max(cells.longest[p * len(KINDS) + k] for p in range(WORKERS)) for k in range(len(KINDS))]
    print(
        f"chaos of locks: {method}: {count} killed in {time.monotonic() - began:.0f} s, {sum(cells.rounds)} rounds, "
        f"{sum(inside)} inside a lock, {sum(cells.told)} told of; longest waits "
        + ", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in zip(KINDS, longest, strict=True)),
        flush=True,
    )
    return wrong


if __name__ == "__main__":
    kills.main(__doc__, "locks", play)
