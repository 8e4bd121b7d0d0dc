"""Kinds of rows: a row of the tables is a piece of work that is measured. rows.py has the rows themselves.

A subject (subject.py) opens a row once, and then does the row's work whenever it is told to. The preparation of a
repetition, such as making its arguments, is not measured.
"""

import functools
import inspect
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from . import functions, locks, managers, peers, queues
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
    """The goals for developers of goproc, as ratios to multiprocessing, or to the row's base.

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
    base: the library that goproc is compared with.
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
    base: str = "multiprocessing"
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


class Executor(Row):
    """Work for an executor."""

    def open(self, peer):
        peer.open_executor(self.workers, self.method)

    def close(self, peer):
        peer.close_executor()


class Parallel(Row):
    """Work for joblib's Parallel, with each library's workers."""

    def open(self, peer):
        peer.open_parallel(self.workers)

    def close(self, peer):
        peer.close_parallel()


class SameArray(Row):
    """A map whose function has a large array, the same one in each repetition."""

    BYTES = 200_000_000
    kept: ClassVar[list] = []  # the array

    def open(self, peer):
        import numpy

        self.kept.append(numpy.arange(self.BYTES // 8, dtype=numpy.float64))
        super().open(peer)

    def once(self, peer):
        items = self.items()
        function = functools.partial(self.function, self.kept[0])
        options = self.options_for(peer, items)
        meter, began = Meter(), time.perf_counter()
        results = list(peer.map(function, items, **options))
        seconds = time.perf_counter() - began
        if results != list(map(float, items)):
            raise RuntimeError("a worker has read other elements than those of the array")
        return Measurement(seconds, meter.seconds())


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
        if not super().can(library):
            return False
        kind = peers.kind(library)
        takes = inspect.signature(kind.open).parameters
        return self.method in kind.start_methods and takes.keys() >= self.pool.keys()

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


@dataclass(frozen=True)
class Queues(Row):
    """Work for processes that use a queue: a function of queues.py. kind: the name of the queue's class."""

    kind: str = "Queue"
    work: dict[str, Any] = field(default_factory=dict)

    def can(self, library):
        return hasattr(peers.kind(library), "queue")

    def open(self, peer):
        pass

    def once(self, peer):
        context = peer.context(self.method)
        make = functools.partial(peer.queue, context, self.kind)
        return Measurement(*getattr(queues, self.operation)(make, context, self.count, **self.work))

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
