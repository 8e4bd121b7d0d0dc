"""The curves: what is measured at several sizes.

- The cost of a task against the number of tasks, and against the number of workers. Each point is a row.
- The efficiency against the length of a task, and the memory against the size of the items. A row measures all points.
- The memory of workers that read the same array: one point.
- The memory of a long imap. Each library is a row of its own, because libraries do not work in turn for it.
"""

import functools
import math
import os
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from . import functions
from .peers import PEERS, kind
from .processor import Meter, members
from .results import Results
from .work import MIB, ONE_BY_ONE, Measurement, Row, integers, payload

TASKS = [10**3, 10**4, 10**5, 10**6]
WORKERS = [1, 2, 4, 8, 16, 32, 64]

#: Seconds. A library whose previous point predicts a longer repetition for the next point is not measured further.
AFFORDABLE = 20.0


@dataclass
class Curve:
    """One repetition of a row that measures several points: what was measured, by the point's x as a text."""

    points: dict[str, float]


class Efficiency(Row):
    """Tasks that compute, of several lengths: the useful part of what the workers' processors could have done.

    The efficiency is count * length / (elapsed time * workers). The length is the processor time of a task in a loop of
    one process, just before and just after: the machine's speed varies. `count` is the largest number of tasks.
    """

    LENGTHS = [1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0]  # seconds
    WORK = 0.12  # seconds that all tasks of a length take together in a loop, if `count` allows it

    def warm_up(self, peer):
        """Return a Curve without points."""
        self.work(peer, [1] * 100)
        return Curve({})

    def work(self, peer, items):
        """Do the row's operation."""
        results = list(getattr(peer, self.operation)(functions.compute, items, **self.options_for(peer, items)))
        if len(results) != len(items):
            raise RuntimeError(f"{len(results)} results of {len(items)} tasks")

    def once(self, peer):
        """Return a Curve: the efficiency by the length in seconds."""
        points = {}
        for length in self.LENGTHS:
            steps = round(length / pace(10_000)) or 1
            count = max(self.workers, min(self.count, math.ceil(self.WORK / length)))
            items = [steps] * count
            before = steps * pace(steps)
            began = time.perf_counter()
            self.work(peer, items)
            seconds = time.perf_counter() - began
            alone = (before + steps * pace(steps)) / 2
            points[f"{length:g}"] = count * alone / (seconds * self.workers)
        return Curve(points)


def pace(steps: int) -> float:
    """Return the processor time of a step of functions.compute, with the call's share; measured for some 5 ms.

    steps: of each call. A call of many steps is measured by one of fewer.
    """
    steps = min(steps, 50_000)
    calls, began = 0, time.thread_time()
    while True:
        for _ in range(10):
            functions.compute(steps)
        calls += 10
        if (seconds := time.thread_time() - began) > 0.005:
            return seconds / (calls * steps)


class Sizes(Row):
    """Bytes of several sizes, there and back, one size after the other: the peak memory of all processes together.

    `count` is the number of items of each size. A generator makes them; each result is dropped when the next one comes.
    """

    SIZES = [1 << 10, 16 << 10, 256 << 10, MIB, 4 * MIB, 16 * MIB, 64 * MIB]  # bytes

    def warm_up(self, peer):
        """Return a Curve without points."""
        for _ in peer.imap(self.function, range(100)):
            pass
        return Curve({})

    def once(self, peer):
        """Return a Curve: the peak in MiB, by the size in bytes."""
        points = {}
        for size in self.SIZES:
            with Peak() as peak:
                for result in peer.imap(self.function, (payload(size) for _ in range(self.count))):
                    if len(result) != size:
                        raise RuntimeError(f"{len(result)} bytes came back of {size}")
            points[f"{size}"] = peak.memory
            result = None
        return Curve(points)


class SharedMemory(Row):
    """Workers that read the same large array: the peak memory of all processes but the main program. One repetition."""

    BYTES = 1 << 30

    def warm_up(self, peer):
        """Return a Curve without points."""
        peer.map(functions.nothing, list(range(100)), **self.options)
        return Curve({})

    def once(self, peer):
        """Return a Curve: the peak in MiB, by the number of workers."""
        import numpy

        shared = peer.share(numpy.ones(self.BYTES // 8))
        with Peak(main=False) as peak:
            results = peer.map(functools.partial(self.function, shared), range(self.count), **self.options)
        if list(results) != [self.BYTES / 8] * self.count:
            raise RuntimeError("a worker has read another array")
        return Curve({f"{self.workers}": peak.memory})

    def can(self, library):
        return hasattr(kind(library), "share")


class Peak:
    """The peak of the memory of this session's processes while it is entered, in MiB.

    main: whether the main program counts. The memory is the sum of the proportional set sizes, in which each shared
    page counts once. A thread samples it. Source: /proc/PID/smaps_rollup, see proc_pid_smaps(5).
    """

    INTERVAL = 0.003

    def __init__(self, main: bool = True):
        self._without = set() if main else {os.getpid()}

    def __enter__(self):
        self.memory = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _watch(self):
        pids, count = self._pids(), 0
        while True:
            over = self._over.is_set()
            self.memory = max(self.memory, sum(map(proportional, pids)))
            if over:
                return
            count += 1
            if count % 20 == 0:
                pids = self._pids()
            self._over.wait(self.INTERVAL)

    def _pids(self):
        return set(members()) - self._without


def proportional(pid: int) -> float:
    """Return the proportional set size of a process in MiB; 0 if it has ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


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
EFFICIENCY = {
    "apply_async": Efficiency(
        "efficiency_async", "efficiency of `apply_async`", "apply_async", count=2000, rounds=1, repetitions=3
    ),
    "map(chunksize=1)": Efficiency(
        "efficiency_one_by_one",
        "efficiency of `map(chunksize=1)`",
        "map",
        options=ONE_BY_ONE,
        count=2000,
        rounds=1,
        repetitions=3,
    ),
    "map": Efficiency("efficiency_map", "efficiency of `map`", "map", count=20_000, rounds=1, repetitions=3),
}
SIZES = Sizes(
    "sizes",
    "memory of `imap`, 8 items there and back",
    "imap",
    function=functions.echo,
    count=8,
    rounds=1,
    repetitions=1,
)
SHARED = SharedMemory(
    "shared_memory",
    "memory of 8 workers that read a shared array of 1 GiB",
    "map",
    function=functions.read,
    workers=8,
    options=ONE_BY_ONE,
    count=16,
    limit=180,
    rounds=1,
    repetitions=1,
)
ROWS = {
    row.name: row
    for row in (*BY_TASKS.values(), *BY_WORKERS.values(), *EFFICIENCY.values(), SIZES, SHARED, *MEMORY.values())
}
#: The rows that are not a table's: report.py has no line of times for them.
DRAWN = {row.name for row in (*EFFICIENCY.values(), SIZES, SHARED)}


def affordable(row: Row, library: str, results: Results) -> bool:
    """Return whether a library is fast enough for a point of a curve, judged by its previous point."""
    for previous, count in pairwise(TASKS):
        if row is BY_TASKS[count]:
            before = BY_TASKS[previous].name
            if library not in results.libraries(before):
                return False
            return results.spread(before, library).median * (count / previous) < AFFORDABLE
    return True
