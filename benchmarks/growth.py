"""The curves: what a task costs with more and more tasks and workers, and what memory a long imap takes.

Their points are rows like any other. A library's memory is a row of its own: there is nothing to alternate.
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

#: A library that would take longer than this for one repetition of a point, judged by the point before, stops there.
AFFORDABLE = 20.0


@dataclass
class Trace:
    """How the memory of the main program grew: the seconds, the results so far, and the MiB, of each sample.

    finished: whether all results came within the limits.
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
        """There is nothing to warm up: the first results belong to the curve."""
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
        """End at once: some libraries would first do all that they have read."""
        os._exit(0)


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class Growing(Row):
    """A point of a curve. So that the long ones do not take twice as long, the warm-up is short."""

    def warm_up(self, peer):
        """Return what it took."""
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
    """Whether a library is fast enough for a point of a curve, judged by what the point before took."""
    for previous, count in pairwise(TASKS):
        if row is BY_TASKS[count]:
            before = BY_TASKS[previous].name
            if library not in results.libraries(before):
                return False
            return results.spread(before, library).median * (count / previous) < AFFORDABLE
    return True
