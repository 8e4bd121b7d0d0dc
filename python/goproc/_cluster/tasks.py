"""The tasks of a cluster's pool, and the account of each machine. Used by ledger.py."""

from typing import Any

from .. import _native
from .._pool.codec import decode, encode
from .._pool.inputs import call

__all__ = ["GRANTED", "HELD", "SLOW", "Seat", "Task", "as_arrived", "fullness", "part"]

#: Seconds of a machine's work that are granted to it beyond a task for each worker, and that it holds beyond these.
GRANTED, HELD = 0.06, 0.12

#: Seconds: a machine that does not end its tasks within that time gives some of them to an idle machine.
SLOW = 0.1

#: The most bytes of tasks that a machine has beyond a task for each worker.
MOST_BYTES = 64 << 20


class Task:
    """One submitted payload: a task, or a batch of `count` tasks with the indices from index on."""

    __slots__ = (
        *("job", "index", "count", "stream", "buffers", "size", "limits", "retries"),
        *("position", "granted", "missing", "seat", "contents", "yielded"),
    )

    def __init__(self, job, index, stream, buffers, count):
        self.job, self.index, self.count = job, index, count
        self.stream, self.buffers = stream, buffers
        self.size = len(stream) + sum(memoryview(buffer).nbytes for buffer in buffers or ())
        self.limits: Any = None  # pairs (index, microseconds)
        self.retries: Any = None  # by index: how often it may be run again if its worker is lost; None: as in the pool
        self.position = -1  # in the order of its machine's tasks
        self.granted = False
        self.missing: Any = None  # of a batch: the indices that are not answered; None: all
        self.seat: Any = None  # the Seat of the machine that has it
        self.yielded = False  # whether it has sent a part: then the program has seen that it ran
        self.contents: Any = ()  # ids of shared objects that it needs

    @property
    def left(self):
        """How many of its tasks are not answered."""
        return self.count if self.missing is None else len(self.missing)

    def indices(self):
        """The indices that are not answered."""
        return range(self.index, self.index + self.count) if self.missing is None else sorted(self.missing)


class Seat:
    """The account of one machine. processes: the number of its workers."""

    def __init__(self, name, processes):
        self.name, self.processes = name, processes
        self.tasks: dict[int, Task] = {}  # by position: what the machine has, and has not answered
        self.load = 0  # how many tasks these are
        self.granted = 0  # how many of them are granted
        self.bytes = 0
        self.next = 0  # the next position
        self.grant = 0  # the tasks below this position are granted
        self.rate = 0.0  # tasks that end in a second
        self.news: list[Task] = []  # not sent yet
        self.drops: list[int] = []
        self.calls: list[tuple[Any, ...]] = []
        self.changed = False  # whether there is something to send
        self.broken: Any = None  # the exception for which its workers cannot begin
        self.kick: Any = None  # called, on the loop, when there is something to send
        self.recalling = False  # whether it has been asked to give tasks back
        self.answered = _native.monotonic()  # when it last answered a task

    @property
    def pace(self):
        """An estimate of how many tasks the machine ends in a second. It may have begun a long task."""
        silence = _native.monotonic() - self.answered
        return self.rate if silence < SLOW or not self.load else min(self.rate, self.processes / silence)

    @property
    def most_granted(self):
        """How many tasks may be granted to it."""
        return 2 * self.processes + int(self.pace * GRANTED)

    @property
    def most(self):
        """How many tasks it may have."""
        return self.most_granted + self.processes + int(self.pace * HELD)

    @property
    def is_stuck(self):
        """Whether it has answered nothing for a moment, though it has tasks."""
        return self.load > 0 and _native.monotonic() - self.answered > SLOW

    def has_room(self):
        """Whether it may be given another task."""
        if self.broken is not None:
            return False
        return self.load < self.processes or (self.load < self.most and self.bytes < MOST_BYTES)


def as_arrived(buffer):
    """Return a buffer of a payload as a local port does: a read-only memoryview becomes bytes again."""
    return bytes(buffer) if type(buffer) is memoryview and buffer.readonly else buffer


def part(task, index):
    """Return one task of a batch as a task of its own."""
    how, func, items, together = decode(task.stream)
    item = items[index - task.index]
    stream, _ = encode(call(func, (item,) if together else item, how))
    one = Task(task.job, index, b"".join(stream) if type(stream) is list else stream, None, 1)
    one.retries, one.limits = task.retries, task.limits
    return one


def fullness(seat):
    return seat.load / seat.processes if seat.broken is None else 1e9
