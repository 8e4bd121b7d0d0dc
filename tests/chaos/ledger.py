"""The account of the tasks: each task has exactly one outcome, which is allowed, and has run at most once."""

import collections
import threading
from dataclasses import dataclass, field

#: The ways to end. "lost" is WorkerLostError, "overdue" TaskTimeoutError, "cancelled" CancelledError. "given up": the
#: error of all tasks of a pool whose workers die at birth. "void": a task of a map that has failed.
ENDS = ("result", "own", "lost", "overdue", "cancelled", "given up", "void")


@dataclass
class Task:
    """A task, and what may become of it."""

    number: int
    allowed: "set[str]"
    tries: int = 1  # how often it may be run
    ends: "list[str]" = field(default_factory=list)


class Ledger:
    """All tasks of a round. Its methods may be called from any thread."""

    def __init__(self):
        self._lock = threading.Lock()
        self._tasks = {}
        self.faults = []

    def add(self, *allowed, tries=1):
        """Return the number of a new task that may end in one of the ways."""
        assert set(allowed) <= set(ENDS), allowed
        with self._lock:
            number = len(self._tasks)
            self._tasks[number] = Task(number, set(allowed), tries)
            return number

    def allow(self, numbers, end):
        """Note that the tasks may end that way, too, from now on."""
        with self._lock:
            for number in numbers:
                self._tasks[number].allowed.add(end)

    def end(self, number, end):
        """Note how the task has ended."""
        with self._lock:
            self._tasks[number].ends.append(end)

    def fault(self, text):
        """Note that something is wrong."""
        with self._lock:
            self.faults.append(text)

    def counts(self):
        """Return how many tasks have ended in which way."""
        with self._lock:
            return collections.Counter(end for task in self._tasks.values() for end in task.ends)

    def __len__(self):
        return len(self._tasks)

    def check(self, records):
        """Return all that is wrong. records: the (number, pid) of the tasks that have been begun."""
        wrong = list(self.faults)
        begun = collections.Counter(number for number, _ in records)
        for number in begun.keys() - self._tasks.keys():
            wrong.append(f"task {number} was run, but never submitted")
        for task in self._tasks.values():
            name = f"task {task.number}"
            if not task.ends:
                wrong.append(f"{name} has not ended; it was begun {begun[task.number]} times")
            if len(task.ends) > 1:
                wrong.append(f"{name} has ended more than once: {task.ends}")
            if not task.allowed.issuperset(task.ends):
                wrong.append(f"{name} may end as {sorted(task.allowed)}, not as {task.ends}")
            if begun[task.number] > task.tries:
                wrong.append(f"{name} was begun {begun[task.number]} times")
            if not begun[task.number] and {"result", "own"}.intersection(task.ends):
                wrong.append(f"{name} has ended as {task.ends} but was never begun")
        return wrong
