"""The rows of the tables. A row is a piece of work that is measured.

A subject (subject.py) opens a row once, and then does the row's work whenever it is told to. The preparation of a
repetition, such as making its arguments, is not measured.
"""

import inspect
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from . import functions, locks, managers, peers
from .processor import Meter


@dataclass
class Measurement:
    """The time of one repetition, in seconds.

    seconds: elapsed time. processor: processor time of all its processes together.
    """

    seconds: float
    processor: float


@dataclass(frozen=True)
class Goal:
    """The goals for developers of goproc, as ratios to multiprocessing.

    floor: the ratio that must be reached. aim: the ratio to work for.
    """

    floor: float
    aim: float


@dataclass(frozen=True)
class Row:
    """Work for a pool: an operation (a method of the classes in peers.py) with a function on some items.

    name, title: for the command line, and for the tables. items: returns the items. workers, method: of the pool.
    count: the number of units of work; the tables show the time of one unit, in `unit` ("us" or "ms").
    clock: the field of Measurement that counts.
    pool, options: further arguments of the peer's open(), and of the operation.
    limit: seconds that a repetition may take.
    rounds, repetitions: if the command line gives none; 0 for one round and five repetitions.
    """

    name: str
    title: str
    operation: str = "map"
    items: Callable[[], Any] = lambda: [1]
    function: Callable = functions.nothing
    workers: int = 2
    method: str = "fork"
    pool: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    count: int = 1
    unit: str = "us"
    clock: str = "seconds"
    goal: Goal | None = None
    limit: float = 60
    rounds: int = 0
    repetitions: int = 0

    def can(self, library: str) -> bool:
        """Return whether a library can do this work."""
        kind = peers.kind(library)
        return hasattr(kind, self.operation) and self.workers >= kind.least_workers

    def open(self, peer):
        peer.open(self.workers, self.method, **self.pool)

    def warm_up(self, peer):
        """Do the work for the first time; this measurement does not count."""
        return self.once(peer)

    def once(self, peer):
        """Do the work; return a Measurement."""
        items = self.items()
        options = self.options_for(peer, items)
        operation = getattr(peer, self.operation)
        meter, began = Meter(), time.perf_counter()
        results = list(operation(self.function, items, **options))
        seconds = time.perf_counter() - began
        if len(results) != len(items):
            raise RuntimeError(f"{len(results)} results of {len(items)} tasks")
        return Measurement(seconds, meter.seconds())

    def options_for(self, peer, items) -> dict:
        """Return the arguments of the operation: for a library that makes no chunks, with a chunk size for map."""
        if self.operation == "map" and "chunksize" not in self.options and not peer.makes_chunks:
            return {"chunksize": -(-len(items) // (4 * self.workers))}  # multiprocessing's default
        return self.options

    def close(self, peer):
        peer.close()


class Idle(Row):
    """A pool that has run a task, and is idle for one second."""

    def open(self, peer):
        super().open(peer)
        peer.apply(self.function, [1])

    def once(self, peer):
        meter, began = Meter(), time.perf_counter()
        time.sleep(1)
        return Measurement(time.perf_counter() - began, meter.seconds())


class NewPool(Row):
    """A new pool for each repetition, measured until the results have come; the end of the pool is not measured."""

    def can(self, library):
        kind = peers.kind(library)
        takes = inspect.signature(kind.open).parameters
        return super().can(library) and self.method in kind.start_methods and takes.keys() >= self.pool.keys()

    def open(self, peer):
        pass

    def once(self, peer):
        items = self.items()
        meter, began = Meter(), time.perf_counter()
        peer.open(self.workers, self.method, **self.pool)
        getattr(peer, self.operation)(self.function, items, **self.options)
        seconds = time.perf_counter() - began
        peer.close()
        return Measurement(seconds, meter.seconds())

    def close(self, peer):
        pass


class NewProcesses(Row):
    """Processes that are started and joined, one after the other."""

    def open(self, peer):
        pass

    def once(self, peer):
        meter, began = Meter(), time.perf_counter()
        for _ in range(self.count):
            peer.start_and_join(self.function, self.method)
        return Measurement(time.perf_counter() - began, meter.seconds())

    def close(self, peer):
        pass


class Locks(Row):
    """Work for two processes that use a lock or the like: a function of locks.py."""

    def can(self, library):
        return hasattr(peers.kind(library), "context")

    def open(self, peer):
        pass

    def once(self, peer):
        return Measurement(*getattr(locks, self.operation)(peer.context(self.method), self.count))

    def close(self, peer):
        pass


class Managers(Row):
    """Calls of a proxy of a manager: a function of managers.py."""

    kept: ClassVar[list] = []  # the manager, and the proxy of its dict

    def can(self, library):
        return hasattr(peers.kind(library), "context")

    def open(self, peer):
        self.kept.append(peer.context(self.method).Manager())
        self.kept.append(self.kept[0].dict())

    def once(self, peer):
        return Measurement(*getattr(managers, self.operation)(self.kept[1], self.count))

    def close(self, peer):
        self.kept[0].shutdown()


class Program(NewPool):
    """A whole program, program.py, from its start to its end."""

    def once(self, peer):
        command = [sys.executable, Path(__file__).with_name("program.py"), peer.name, self.method]
        meter, began = Meter(), time.perf_counter()
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return Measurement(time.perf_counter() - began, meter.seconds())


def payload(size: int) -> bytes:
    """Return new bytes, which share no memory with earlier ones."""
    return b"\x01" * size


def payloads(count: int, size: int) -> Callable[[], list]:
    return lambda: [payload(size) for _ in range(count)]


def arrays(count: int, size: int) -> Callable[[], list]:
    """Return a function that makes count arrays of float64, of size bytes each. Only rows that use numpy import it."""

    def make():
        import numpy

        return [numpy.full(size // 8, number, numpy.float64) for number in range(count)]

    return make


def strings(count: int, length: int) -> Callable[[], list]:
    return lambda: [str(number).rjust(length, "x") for number in range(count)]


def integers(count: int) -> Callable[[], list]:
    return lambda: list(range(count))


MIB = 1 << 20
ONE_BY_ONE = {"chunksize": 1}
#: Four long tasks first, then many short ones: with default chunks, the long ones are in the same chunk.
SKEWED = [0.1] * 4 + [0.002] * 196

GROUPS: dict[str, list[Row]] = {
    "Small tasks": [
        Row("apply", "`apply`, one call after the other", "apply", integers(500), count=500, goal=Goal(15, 35)),
        Row(
            "apply_async",
            "`apply_async` of 10,000, then `get`",
            "apply_async",
            integers(10_000),
            count=10_000,
            goal=Goal(6, 12),
        ),
        Row(
            "map_one_by_one",
            "`map(chunksize=1)` of 10,000",
            "map",
            integers(10_000),
            options=ONE_BY_ONE,
            count=10_000,
            goal=Goal(6, 12),
        ),
        Row("imap", "`imap` of 10,000", "imap", integers(10_000), count=10_000, goal=Goal(8, 20)),
        Row(
            "imap_unordered",
            "`imap_unordered` of 10,000",
            "imap_unordered",
            integers(10_000),
            count=10_000,
            goal=Goal(8, 20),
        ),
        Row("map_ints", "`map` of 200,000 ints", "map", integers(200_000), count=200_000, goal=Goal(1.2, 1.6)),
        Row(
            "map_strings",
            "`map` of 20,000 strings of 90 characters",
            "map",
            strings(20_000, 90),
            count=20_000,
            goal=Goal(1.2, 2),
        ),
        Row(
            "skew",
            "`map` of 4 tasks of 100 ms, then 196 of 2 ms, 4 workers",
            "map",
            lambda: SKEWED,
            functions.wait,
            4,
            options={"chunksize": None},
            unit="ms",
            goal=Goal(1.3, 1.7),
        ),
    ],
    "Data": [
        Row(
            "bytes_1kB",
            "1 kB of bytes there and back, `imap` of 5,000",
            "imap",
            payloads(5000, 1000),
            functions.echo,
            count=5000,
        ),
        Row(
            "bytes_100kB",
            "100 kB of bytes, `map` of 50",
            "map",
            payloads(50, 100_000),
            count=50,
            goal=Goal(3, 8),
        ),
        Row(
            "bytes_64MiB",
            "64 MiB of bytes there and back, `apply`, three times",
            "apply",
            payloads(3, 64 * MIB),
            functions.echo,
            count=3,
            unit="ms",
            goal=Goal(8, 20),
        ),
        Row(
            "array_1kB",
            "1 kB of float64 array there and back, `imap` of 5,000",
            "imap",
            arrays(5000, 1000),
            functions.echo,
            count=5000,
        ),
        Row(
            "array_100kB",
            "100 kB of float64 array there and back, `imap` of 50",
            "imap",
            arrays(50, 100_000),
            functions.echo,
            count=50,
        ),
        Row(
            "array_256kB",
            "256 kB of float64 array, `map` of 40",
            "map",
            arrays(40, 256_000),
            count=40,
            goal=Goal(4, 10),
        ),
        Row(
            "array_64MiB",
            "64 MiB of float64 array there and back, `apply`, three times",
            "apply",
            arrays(3, 64 * MIB),
            functions.echo,
            count=3,
            unit="ms",
            goal=Goal(12, 30),
        ),
    ],
    "Starting": [
        NewProcesses("start_fork", "start and join, fork", "start_and_join", count=20, unit="ms", goal=Goal(1.3, 2)),
        NewProcesses(
            "start_spawn",
            "start and join, spawn",
            "start_and_join",
            method="spawn",
            count=4,
            unit="ms",
            goal=Goal(2, 3.5),
        ),
        NewProcesses(
            "start_forkserver",
            "start and join, forkserver",
            "start_and_join",
            method="forkserver",
            count=10,
            unit="ms",
            goal=Goal(5, 12),
        ),
        NewPool("pool_fork", "`Pool(2)` to its first result, fork", "apply", unit="ms", goal=Goal(1.3, 2)),
        NewPool(
            "pool_spawn",
            "`Pool(2)` to its first result, spawn",
            "apply",
            method="spawn",
            unit="ms",
            goal=Goal(2, 3.5),
        ),
        NewPool(
            "pool_forkserver",
            "`Pool(2)` to its first result, forkserver",
            "apply",
            method="forkserver",
            unit="ms",
            goal=Goal(5, 12),
        ),
        NewPool(
            "pool_64",
            "`Pool(64)` to its first result, fork",
            "apply",
            workers=64,
            unit="ms",
            goal=Goal(1.5, 3),
        ),
        NewPool(
            "maxtasksperchild",
            "`maxtasksperchild=1`, `map(chunksize=1)` of 20",
            "map",
            integers(20),
            count=20,
            pool={"tasks_per_worker": 1},
            options=ONE_BY_ONE,
            unit="ms",
            goal=Goal(1.5, 3),
        ),
        Program("program_fork", "a whole program with a `Pool(2)`, fork", "map", unit="ms"),
        Program("program_spawn", "a whole program with a `Pool(2)`, spawn", "map", method="spawn", unit="ms"),
        Program(
            "program_forkserver",
            "a whole program with a `Pool(2)`, forkserver",
            "map",
            method="forkserver",
            unit="ms",
        ),
    ],
    "Locks": [
        Locks("lock", "`with lock`, one process", "alone", count=20_000, goal=Goal(1.5, 3)),
        Locks("lock_contended", "`with lock`, two processes at once", "contended", count=20_000),
        Locks("event", "`Event`: `set`, and wait for the answer", "ping_pong", count=2_000, goal=Goal(3, 8)),
        Locks("condition", "`Condition`: take turns", "turns", count=1_000),
    ],
    "Managers": [
        Managers("manager_assign", "a manager's `dict`: `d[k] = v`", "assign", count=5_000, goal=Goal(2, 4)),
        Managers("manager_look_up", "a manager's `dict`: `d[k]`", "look_up", count=5_000, goal=Goal(2, 4)),
    ],
    "Processor time": [
        Row(
            "processor_computing",
            "16 tasks that compute for some 50 ms",
            "map",
            lambda: [1_000_000] * 16,
            functions.count,
            options=ONE_BY_ONE,
            unit="ms",
            clock="processor",
        ),
        Row(
            "processor_waiting",
            "10 tasks that wait for 100 ms",
            "map",
            lambda: [0.1] * 10,
            functions.wait,
            options=ONE_BY_ONE,
            unit="ms",
            clock="processor",
        ),
        Idle("processor_idle", "a second without tasks", "apply", unit="ms", clock="processor"),
    ],
}

ROWS = {row.name: row for rows in GROUPS.values() for row in rows}
