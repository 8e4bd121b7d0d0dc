"""The main program of a round of chaos on many machines: program.py ADDRESS RECORDS TASKS SEED

It gives two pools tasks of all kinds, has each task accounted for, and prints the report as JSON. The file RECORDS has
a record of each task that has begun (../chaos/tasks.py). Functions travel by name: all machines can import tasks.py.
"""

import faulthandler
import json
import random
import sys
import threading
import time

import tasks
from ledger import Ledger

import goproc
from goproc import cluster

#: Seconds after which a result that has not come is a hang.
PATIENCE = 150

#: The tasks of one piece of work; a thread waits for all of them, and then begins another piece.
PIECE = 250

#: How many tasks of a piece of the kind `limited` have a time limit.
LIMITED = 60


class Stage:
    """One pool, and the threads that use it. tries: how often a task of this pool may be run."""

    def __init__(self, pool, tries, ledger, records, rng):
        self.pool, self.tries, self.ledger, self.records, self.rng = pool, tries, ledger, records, rng

    def call(self, kind="plain"):
        """Return (number, action, amount) of a new task."""
        chance = self.rng.random()
        if chance < 0.03:
            return self.ledger.add("own", "lost", tries=self.tries), "own error", 0
        if kind == "limited" and chance < 0.05:
            return self.ledger.add("overdue", "lost", tries=self.tries), "sleep", 60
        amount = self.rng.choice([0, 0, 0, 0.001, 0.005, 0.02])
        data = b"x" * self.rng.choice([0, 0, 0, 0, 100, 20_000, 400_000]) or None
        allowed = ("result", "lost", "overdue") if kind == "limited" else ("result", "lost")
        return self.ledger.add(*allowed, tries=self.tries), "sleep" if amount else "value", amount, data

    def arguments(self, call):
        number, *rest = call
        return (self.records, number, *rest)

    def piece(self, kind, count):
        calls = [self.call("limited" if kind == "limited" and i < LIMITED else "plain") for i in range(count)]
        getattr(self, kind)(calls)

    def single(self, calls):
        results = [self.pool.apply_async(tasks.run, self.arguments(call)) for call in calls]
        for call, result in zip(calls, results, strict=True):
            self.end(call, lambda result=result: result.get(PATIENCE))

    def limited(self, calls):
        results = [self.pool.apply_async(tasks.run, self.arguments(call), timeout=1.0) for call in calls[:LIMITED]]
        for call, result in zip(calls, results, strict=False):
            self.end(call, lambda result=result: result.get(PATIENCE))
        self.single(calls[LIMITED:])

    def mapped(self, calls):
        size = self.rng.choice([1, 1, 7, None])
        arguments = [self.arguments(call) for call in calls]
        outcomes = self.pool.map_async(tasks.run_one, arguments, size, return_exceptions=True).get(PATIENCE)
        for call, outcome in zip(calls, outcomes, strict=True):
            self.end(call, lambda outcome=outcome: outcome)

    def lazily(self, calls):
        iterator = self.pool.imap(tasks.run_one, map(self.arguments, calls))
        for call in calls:
            self.end(call, lambda: iterator.next(PATIENCE))

    def end(self, call, get):
        """Note how a task has ended."""
        number, data = call[0], call[3] if len(call) > 3 else None
        try:
            outcome = get()
        except Exception as error:
            outcome = error
        if isinstance(outcome, goproc.WorkerLostError):
            self.ledger.end(number, "lost")
        elif isinstance(outcome, goproc.TaskTimeoutError):
            self.ledger.end(number, "overdue")
        elif isinstance(outcome, tasks.OwnError):
            self.ledger.end(number, "own")
        elif isinstance(outcome, BaseException):
            self.ledger.fault(f"task {number} has ended as {outcome!r}")
        elif outcome == tasks.answer(number, data):
            self.ledger.end(number, "result")
        else:
            self.ledger.fault(f"task {number} has a result that is not its own: {outcome[0]!r}")


def main():
    address, records, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    faulthandler.enable()  # SIGABRT prints the stacks of all threads
    ledger, began = Ledger(), time.monotonic()
    open(records, "ab").close()
    left = count
    lock = threading.Lock()

    def work(stage, kinds):
        nonlocal left
        while True:
            with lock:
                if left <= 0:
                    return
                left -= (size := min(PIECE, left))
            try:
                stage.piece(stage.rng.choice(kinds), size)
            except BaseException as error:
                ledger.fault(f"the program failed: {error!r}")
                raise

    kinds = ["single", "mapped", "lazily", "limited"]
    with cluster.Pool(address) as plain, cluster.Pool(address, retries=2) as again:
        stages = [
            Stage(pool, tries, ledger, records, random.Random(f"{seed}:{number}"))
            for number, (pool, tries) in enumerate([(plain, 1), (plain, 1), (plain, 1), (again, 3), (again, 3)])
        ]
        threads = [threading.Thread(target=work, args=(stage, kinds)) for stage in stages]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for pool in plain, again:
            pool.close()
            pool.join()
    wrong = ledger.check(tasks.records(records))
    report = {"tasks": len(ledger), "ends": ledger.counts(), "wrong": wrong, "seconds": time.monotonic() - began}
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
