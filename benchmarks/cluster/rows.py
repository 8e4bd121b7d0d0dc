"""What is measured on many machines. The rows are as those of ../work.py, with other libraries (peers.py)."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import functions
from ..processor import Meter
from ..work import MIB, arrays, integers
from . import peers
from .machines import resident

#: Four long tasks first, then many short ones.
SKEWED = [0.1] * 4 + [0.002] * 196


@dataclass
class Measurement:
    """The time of one repetition, in seconds.

    seconds: elapsed time. processor: processor time of all processes that the subject has started, and of itself.
    scheduler: processor time of Dask's scheduler.
    """

    seconds: float
    processor: float
    scheduler: float


@dataclass(frozen=True)
class Row:
    """Work for a library: an operation (a method of the classes in peers.py) with a function on some items.

    name, title: for the command line, and for the tables. items: returns the items. machines: how many machines of one
    core each. count: the number of units of work; the tables show the time of one unit, in `unit` ("us" or "ms").
    ideal: the seconds that the work takes if no machine ever waits; 0 if that is not known. libraries: those that are
    measured. limit: seconds that one repetition may take.
    """

    name: str
    title: str
    operation: str = "one_by_one"
    items: Callable[[], Any] = lambda: [1]
    function: Callable = functions.nothing
    machines: int = 2
    count: int = 1
    unit: str = "us"
    ideal: float = 0.0
    libraries: tuple[str, ...] = tuple(peers.KINDS)
    limit: float = 180
    repetitions: int = 5

    def can(self, library: str) -> bool:
        return library in self.libraries and hasattr(peers.KINDS[library], self.operation)

    def open(self, peer):
        peer.open()

    def warm_up(self, peer):
        """Have each machine do some tasks; the measurement does not count."""
        return self._measured(peer, lambda: peer.one_by_one(functions.nothing, list(range(50))), 50)

    def once(self, peer):
        """Do the work; return a Measurement."""
        items = self.items()
        operation = getattr(peer, self.operation)
        return self._measured(peer, lambda: operation(self.function, items), len(items))

    @staticmethod
    def _measured(peer, work, count):
        scheduler = peer.scheduler_seconds()
        meter, began = Meter(), time.perf_counter()
        done = sum(1 for _ in work())
        seconds = time.perf_counter() - began
        if done != count:
            raise RuntimeError(f"{done} results of {count} tasks")
        return Measurement(seconds, meter.seconds(), peer.scheduler_seconds() - scheduler)

    def close(self, peer):
        peer.close()


class First(Row):
    """From nothing but running machines to the first result: the library connects, makes its pool, and calls once."""

    def open(self, peer):
        pass

    def warm_up(self, peer):
        return self.once(peer)

    def once(self, peer):
        def work():
            peer.open()
            return [peer.one(self.function, 1)]

        measured = self._measured(peer, work, 1)
        peer.close()
        return measured

    def close(self, peer):
        pass


@dataclass
class Trace:
    """The memory of the main program and of the scheduler over time.

    seconds, results: of each sample, the time since the start, and the number of results so far. memory, scheduler: the
    resident memory, in MiB. finished: whether all results came.
    """

    seconds: list[float]
    results: list[int]
    memory: list[float]
    scheduler: list[float]
    finished: bool


class Memory(Row):
    """The memory of the main program and of the scheduler over a long imap."""

    INTERVAL = 0.1

    def once(self, peer):
        """Return a Trace."""
        trace, done, over = Trace([], [], [], [], False), 0, threading.Event()

        def sample():
            import os

            while True:
                last = over.wait(self.INTERVAL)
                trace.seconds.append(time.perf_counter() - began)
                trace.results.append(done)
                trace.memory.append(resident(os.getpid()))
                trace.scheduler.append(resident(peer.machines.scheduler))
                if last:
                    return

        began = time.perf_counter()
        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            for _ in getattr(peer, self.operation)(self.function, (number for number in range(self.count))):
                done += 1
        finally:
            over.set()
            sampler.join()
        trace.finished = done == self.count
        return trace


#: The numbers of tasks, and of machines, at which the cost of a task is measured.
TASKS = (10**3, 10**4, 10**5, 10**6)
MACHINES = (1, 2, 4, 8)

COMPARED = [
    Row("nothing", "10,000 tasks that do nothing", items=integers(10_000), count=10_000, limit=900, repetitions=3),
    Row(
        "tasks_10ms",
        "1,000 tasks that wait for 10 ms",
        items=lambda: [0.01] * 1000,
        function=functions.wait,
        count=1,
        unit="ms",
        ideal=5.0,
        repetitions=3,
    ),
    Row(
        "skew",
        "4 tasks of 100 ms, then 196 of 2 ms",
        "map",
        lambda: SKEWED,
        functions.wait,
        unit="ms",
        ideal=sum(SKEWED) / 2,
        repetitions=5,
    ),
    Row(
        "arrays",
        "100 arrays of 8 MiB there and back",
        items=arrays(100, 8 * MIB),
        function=functions.echo,
        count=100,
        unit="ms",
        repetitions=3,
    ),
    First("first", "connect, make a pool, first result", unit="ms", repetitions=5),
]

COST = {
    (machines, tasks): Row(
        f"cost_{machines}x{tasks}",
        f"{tasks:,} tasks that do nothing on {machines} machines",
        "imap" if tasks > 10**5 else "one_by_one",
        integers(tasks),
        machines=machines,
        count=tasks,
        libraries=("goproc", "dask") if tasks <= 10**4 else ("goproc",),
        repetitions=3 if tasks < 10**5 else 2,
    )
    for machines in MACHINES
    for tasks in TASKS
}

MEMORY = Memory(
    "memory", "memory over an `imap` of a million items", "imap", count=10**6, libraries=("goproc",), repetitions=1
)

ROWS = {row.name: row for row in (*COMPARED, *COST.values(), MEMORY)}
