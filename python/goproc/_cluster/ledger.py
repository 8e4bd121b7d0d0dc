"""Which task is where: in the queue, held by a machine, or granted to one. The only authority on what may begin.

    submit() ──▶ queue ──▶ held by a machine ──▶ granted: counts as begun ──▶ answered
                   ▲            │ the machine is lost, or another one is idle     │ the machine is lost
                   ╰────────────╯                                                 ╰──▶ WorkerLostError, or run again

A machine cannot begin a task that it holds before it is granted. So a task that is not granted can be given to another
machine without asking its holder, even if the holder cannot be reached. Programs' threads and the loop of the Dask
client use the ledger; each method takes the lock. docs/design/cluster.md says more.
"""

import threading
from collections import deque
from typing import Any

from .. import _native
from .tasks import SLOW, Seat, Task, as_arrived, fullness, part

__all__ = ["Ledger"]


class Ledger:
    """The tasks of one pool. complete: called with a list of completions, (job, index, kind, payload).

    retries: how often a task whose machine or worker was lost is run again, unless it has a number of its own.
    """

    def __init__(self, complete, retries):
        self.lock = threading.RLock()
        self.inbox: deque[Task] = deque()
        self.queue: deque[Task] = deque()
        self.seats: list[Seat] = []
        self._owners: dict[tuple[int, int], Task] = {}
        self._complete = complete
        self._retries = retries
        self._used: dict[tuple[int, int], int] = {}  # how often a task was run again
        self.lost_workers = 0

    def pending(self):
        """Return how many tasks are not answered."""
        with self.lock:
            self._drain()
            return sum(task.left for task in self.queue) + sum(seat.load for seat in self.seats)

    @property
    def is_empty(self):
        """Whether all tasks are answered."""
        return not self.inbox and not self.queue and not any(seat.tasks for seat in self.seats)

    def _drain(self):
        inbox, queue = self.inbox, self.queue
        while inbox:
            queue.append(inbox.popleft())

    # ---- giving out

    def distribute(self):
        """Give out queued tasks, grant what may be granted, and take back what idle machines can do."""
        with self.lock:
            self._drain()
            queue, seats = self.queue, self.seats
            open_seats = [seat for seat in seats if seat.has_room()]
            while queue and open_seats:
                seat = min(open_seats, key=fullness)
                while queue and open_seats:
                    self._give(seat, queue.popleft())
                    if not seat.has_room():
                        open_seats.remove(seat)
                        break
                    if len(open_seats) > 1:
                        break
            for seat in seats:
                self._grant(seat)
            if not queue:
                self._take_back()
            return [seat for seat in seats if seat.changed]

    def _give(self, seat, task):
        if not seat.load:
            seat.answered = _native.monotonic()  # its silence counts from now
        task.seat, task.position, task.granted = seat, seat.next, False
        seat.next += 1
        seat.tasks[task.position] = task
        seat.load += task.left
        seat.bytes += task.size
        seat.news.append(task)
        seat.changed = True
        owners = self._owners
        if task.count == 1:
            owners[task.job, task.index] = task
        else:
            job = task.job
            owners.update(((job, index), task) for index in task.indices())

    def _grant(self, seat):
        if seat.granted >= seat.load or seat.granted >= seat.most_granted or seat.broken is not None:
            return
        for position in range(seat.grant, seat.next):
            task = seat.tasks.get(position)
            if task is not None and not task.granted:
                if seat.granted >= seat.most_granted:
                    break
                task.granted = True
                seat.granted += task.left
            seat.grant = position + 1
            seat.changed = True

    def _take_back(self):
        """Move tasks that have not begun from machines that have more to machines that have an idle worker."""
        idle = [seat for seat in self.seats if seat.broken is None and seat.load < seat.processes]
        if not idle or len(self.seats) < 2:
            return
        for seat in sorted(self.seats, key=fullness, reverse=True):
            held = [task for task in seat.tasks.values() if not task.granted]
            if held:
                wanted = sum(other.processes - other.load for other in idle)
                count = min(max(wanted, len(held) // 2), len(held))
                for task in held[-count:]:
                    self._remove(seat, task)
                    seat.drops.append(task.position)
                    seat.changed = True
                    self.queue.append(task)
                for other in idle:
                    while self.queue and other.has_room() and other.load < max(other.processes, count):
                        self._give(other, self.queue.popleft())
                    self._grant(other)
                if self.queue:  # the other tasks go back to where they were
                    while self.queue and seat.has_room():
                        self._give(seat, self.queue.popleft())
                    self._grant(seat)
                return
            spare = seat.granted - seat.processes
            if spare > 0 and not seat.recalling and (seat.is_stuck or seat.granted > SLOW * seat.rate):
                seat.recalling = True
                jobs = {task.job for task in seat.tasks.values()}
                seat.calls.append(("recall", spare if seat.is_stuck else max(1, spare // 2), jobs))
                seat.changed = True
                return

    @property
    def has_idle(self):
        """Whether a machine is idle while another one has tasks that it may not have begun."""
        with self.lock:
            return any(seat.load < seat.processes for seat in self.seats) and any(
                seat.load > seat.processes for seat in self.seats
            )

    def _remove(self, seat, task):
        """Take a task off a machine's account."""
        if seat.tasks.pop(task.position, None) is None:
            return
        left = task.left
        seat.load -= left
        seat.bytes -= task.size
        if task.granted:
            seat.granted -= left
            task.granted = False
        task.seat = None
        if task in seat.news:
            seat.news.remove(task)

    def replace_buffers(self, tasks, copied):
        """Replace the buffers of tasks that are not answered by what copied() makes of them."""
        with self.lock:
            self._drain()
            unanswered = {*self.queue, *(task for seat in self.seats for task in seat.tasks.values())}
            for task in tasks:
                if task in unanswered:
                    task.buffers = copied(task.buffers)

    # ---- answers

    def recalled(self, seat, keys):
        """Queue tasks again that a machine has given back: they have not begun there, and never will.

        keys: their (job, index).
        """
        with self.lock:
            seat.recalling = False
            parts: dict[Task, set[int]] = {}
            for job, index in keys:
                task = self._owners.get((job, index))
                if task is not None and task.seat is seat:
                    parts.setdefault(task, set()).add(index)
            for task, indices in reversed(parts.items()):
                if task.missing is None and len(indices) == task.left:
                    self._remove(seat, task)
                    self.queue.appendleft(task)
                else:
                    self.queue.extendleft([part(task, index) for index in sorted(indices, reverse=True)])
                    for index in indices:
                        self._answer(seat, task, index, 1)

    def answered(self, seat, frames):
        """Take the completions of a machine, and hand on those of tasks that it has. Return how many tasks ended."""
        ended = 0
        handed = []
        owners = self._owners
        with self.lock:
            for frame in frames:
                job, index, kind, payload = frame
                first, count = index if type(index) is tuple else (index, 1)
                task = owners.get((job, first))
                if task is None or task.seat is not seat:
                    continue
                if type(payload) is tuple:
                    frame = (job, index, kind, (payload[0], [as_arrived(buffer) for buffer in payload[1]]))
                if kind == _native.PART:
                    task.yielded = True
                    handed.append(frame)
                    continue
                if kind == _native.RETRIED:
                    self._used[job, first] = self._used.get((job, first), 0) + 1
                    handed.append((job, index, kind, (payload, seat.name, None)))
                    continue
                if kind not in (_native.RESULT, _native.FAILURE, _native.CANCELLED):
                    self.lost_workers += 1
                    frame = (job, index, kind, (payload, seat.name, None))
                ended += count
                self._answer(seat, task, first, count)
                handed.append(frame)
        if handed:
            seat.answered = _native.monotonic()
            self._complete(handed)
        return ended

    def _answer(self, seat, task, first, count):
        for index in range(first, first + count):
            self._owners.pop((task.job, index), None)
            if self._used:
                self._used.pop((task.job, index), None)
        if count == task.left:
            self._remove(seat, task)
            return
        if task.missing is None:
            task.missing = set(range(task.index, task.index + task.count))
        before = len(task.missing)
        task.missing.difference_update(range(first, first + count))
        gone = before - len(task.missing)
        seat.load -= gone
        if task.granted:
            seat.granted -= gone
        if not task.missing:
            task.missing = None
            seat.tasks.pop(task.position, None)
            seat.bytes -= task.size
            task.seat = None

    # ---- cancelling

    def cancel(self, job, withdraw=False):
        """Forget a job's tasks; return how many they were.

        withdraw: only those that are not granted; they complete as cancelled.
        """
        with self.lock:
            self._drain()
            count = 0
            if any(task.job == job for task in self.queue):
                kept = deque(task for task in self.queue if task.job != job)
                gone = [task for task in self.queue if task.job == job]
                self.queue.clear()
                self.queue.extend(kept)
                count += self._forget(gone, withdraw)
            for seat in self.seats:
                tasks = [task for task in seat.tasks.values() if task.job == job and not (withdraw and task.granted)]
                if not tasks:
                    continue
                count += self._forget(tasks, withdraw)
                for task in tasks:
                    self._remove(seat, task)
                    seat.drops.append(task.position)
                if not withdraw:
                    seat.calls.append(("cancel", job))
                seat.changed = True
            return count

    def _forget(self, tasks, complete):
        keys = [(task.job, index) for task in tasks for index in task.indices()]
        for key in keys:
            self._owners.pop(key, None)
        if complete:
            self._complete([(job, index, _native.CANCELLED, b"") for job, index in keys])
        return len(keys)

    def jobs(self):
        """Return the jobs that have tasks."""
        self._drain()
        return {task.job for task in self.queue} | {task.job for seat in self.seats for task in seat.tasks.values()}

    def begun(self, job):
        """Whether a task of the job has been granted."""
        with self.lock:
            return any(task.granted for seat in self.seats for task in seat.tasks.values() if task.job == job)

    def seat_of(self, job, index):
        """Return the Seat of the machine that has a task; None if none has."""
        task = self._owners.get((job, index))
        return None if task is None else task.seat

    def take_all(self):
        """Forget all tasks; return a list of their (job, index)."""
        with self.lock:
            self._drain()
            tasks = [*self.queue, *(task for seat in self.seats for task in seat.tasks.values())]
            keys = [(task.job, index) for task in tasks for index in task.indices()]
            self.queue.clear()
            for seat in self.seats:
                seat.tasks.clear()
                seat.news.clear()
                seat.load = seat.granted = seat.bytes = 0
            self._owners.clear()
            return keys

    # ---- machines that come and go

    def lost(self, seat, why):
        """Note that a machine is lost. What it had not begun is queued again; the rest fails, or is run again.

        why: a text that says what happened.
        """
        with self.lock:
            if seat in self.seats:
                self.seats.remove(seat)
            tasks = list(seat.tasks.values())
            seat.news.clear()
            again = []
            failed: list[tuple[Any, ...]] = []
            for task in tasks:
                granted = task.granted
                self._remove(seat, task)
                if not granted:
                    again.append(task)
                elif not task.missing and self._may_run_again(task, task.index):
                    self._use(task, task.index)
                    again.append(task)
                else:
                    again += self._divided(seat, task, why, failed)
            self.queue.extendleft(reversed(again))
        if failed:
            self._complete(failed)

    def _may_run_again(self, task, index):
        return all(self._left_retries(task, index) > 0 for index in task.indices())

    def _left_retries(self, task, index):
        if task.yielded:
            return 0
        most = self._retries if task.retries is None else task.retries.get(index, self._retries)
        return max(most, 0) - self._used.get((task.job, index), 0)

    def _use(self, task, index):
        for index in task.indices():
            self._used[task.job, index] = self._used.get((task.job, index), 0) + 1

    def _divided(self, seat, task, why, failed):
        """Return the tasks of a batch that are run again, one by one; append the completions of the others."""
        again = []
        for index in task.indices():
            if task.count > 1 and self._left_retries(task, index) > 0:
                self._used[task.job, index] = self._used.get((task.job, index), 0) + 1
                again.append(part(task, index))
                continue
            self._owners.pop((task.job, index), None)
            self._used.pop((task.job, index), None)
            payload = task.stream if task.buffers is None and task.size <= 16 << 10 else b""
            report = b"0 0 %d 0\n" % (index - task.index) + payload
            failed.append((task.job, index, _native.LOST, (report, seat.name, why)))
        return again

    def was_used(self, task):
        """Return how often the engine may run a task again, as pairs (index, retries); None for the pool's own."""
        if task.retries is None and not self._used:
            return None
        pairs = []
        for index in task.indices():
            if task.retries is not None and index in task.retries or (task.job, index) in self._used:
                left = self._left_retries(task, index)
                pairs.append((index, left if left > 0 else -1))
        return pairs or None
