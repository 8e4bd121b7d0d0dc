"""The curves: the cost of a task against the number of tasks and of workers, and the memory of a long imap.

Each point of a curve is a row. The memory of each library is a row of its own, because libraries do not work in turn
for it.
"""

import os
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from .peers import PEERS
from .processor import Meter
from .results import Results
from .work import ONE_BY_ONE, Measurement, Row, integers

TASKS = [10**3, 10**4, 10**5, 10**6]
WORKERS = [1, 2, 4, 8, 16, 32, 64]

#: Seconds. A library whose previous point predicts a longer repetition for the next point is not measured further.
AFFORDABLE = 20.0


@dataclass
class Trace:
    """The memory of the main program over time.

    seconds, results, memory: of each sample, the time since the start, the number of results so far, and the resident
    memory in MiB. finished: whether all results came within the limits.
    """

    seconds: list[float]
    results: list[int]
    memory: list[float]
    finished: bool


class Memory(Row):
    """One library's imap over a generator of ten million items, up to a limit of time and of memory."""

    ITEMS = 10**7
    SECONDS = 45
    MEMORY = 2048  # MiB
    INTERVAL = 0.1

    def can(self, library):
        return self.name == f"memory_{library}" and super().can(library)

    def warm_up(self, peer):
        """Return an empty Trace, without a warm-up: the first results belong to the curve."""
        return Trace([], [], [], False)

    def once(self, peer):
        """Return a Trace."""
        trace, count = Trace([], [], [], False), 0

        def consume():
            nonlocal count
            for _ in peer.imap(self.function, (number for number in range(self.ITEMS))):
                count += 1

        consumer = threading.Thread(target=consume, daemon=True)
        began = time.perf_counter()
        consumer.start()
        while True:
            consumer.join(self.INTERVAL)
            trace.seconds.append(time.perf_counter() - began)
            trace.results.append(count)
            trace.memory.append(resident())
            trace.finished = count == self.ITEMS
            if not consumer.is_alive() or trace.seconds[-1] > self.SECONDS or trace.memory[-1] > self.MEMORY:
                return trace

    def close(self, peer):
        """Exit at once: some libraries would first run all items that they have read."""
        os._exit(0)


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class Growing(Row):
    """A point of a curve. The warm-up is short, because some points take long."""

    def warm_up(self, peer):
        """Return the Measurement of a short warm-up."""
        meter, began = Meter(), time.perf_counter()
        peer.map(self.function, list(range(1000)), **self.options)
        return Measurement(time.perf_counter() - began, meter.seconds())


BY_TASKS = {
    count: Growing(
        f"tasks_{count}",
        f"`map(chunksize=1)` of {count:,}",
        "map",
        integers(count),
        options=ONE_BY_ONE,
        count=count,
        rounds=1,
        repetitions=5 if count <= 10_000 else 2,
    )
    for count in TASKS
}
BY_WORKERS = {
    workers: Growing(
        f"workers_{workers}",
        f"`map(chunksize=1)` of 10,000, {workers} workers",
        "map",
        integers(10_000),
        options=ONE_BY_ONE,
        count=10_000,
        workers=workers,
        rounds=1,
        repetitions=3,
    )
    for workers in WORKERS
}
MEMORY = {
    library: Memory(
        f"memory_{library}", f"memory of {library}'s `imap`", "imap", limit=Memory.SECONDS + 20, rounds=1, repetitions=1
    )
    for library in PEERS
}
ROWS = {row.name: row for curve in (BY_TASKS, BY_WORKERS, MEMORY) for row in curve.values()}


def affordable(row: Row, library: str, results: Results) -> bool:
    """Return whether a library is fast enough for a point of a curve, judged by its previous point."""
    for previous, count in pairwise(TASKS):
        if row is BY_TASKS[count]:
            before = BY_TASKS[previous].name
            if library not in results.libraries(before):
                return False
            return results.spread(before, library).median * (count / previous) < AFFORDABLE
    return True
