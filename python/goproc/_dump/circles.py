"""Circles of threads that wait for each other: each waits for something that the next one holds.

A circle is proved: all its waits existed at one moment. Everything is read twice, and the second reading begins when
the first has ended. Each thread was in the same wait both times, so it took and released nothing in between. Only waits
without a timeout count. Only threads that sleep count: one that has just got a lock may not have noted that yet.
"""

import time

from .program import JOIN, LOCK, read_lock
from .record import Unreadable

__all__ = ["Link", "find_circles"]

_TRIES, _PAUSE = 5, 0.02


class Link:
    """One wait of a circle.

    view, thread: the process and the thread that waits. wait: its note. lock: the lock that it waits for; None for the
    end of a process. holder: the pid and the thread that it waits for.
    """

    def __init__(self, view, thread, wait, lock, holder):
        self.view, self.thread, self.wait, self.lock, self.holder = view, thread, wait, lock, holder

    def still_holds(self):
        """Whether the same thread waits for the same lock or process, and the lock has the same holder."""
        try:
            now = self.view.process.wait_at(self.wait.place)
            if (now.thread, now.kind, now.object, now.number, now.since) != (
                self.wait.thread,
                self.wait.kind,
                self.wait.object,
                self.wait.number,
                self.wait.since,
            ):
                return False
            if self.lock is None:
                return True
            return bool(now.asleep) and read_lock(self.view.process, now).state() == self.lock.state()
        except Unreadable:
            return False


def find_circles(views):
    """Return the circles among the threads of the Views, each as a list of Links: each waits for the next one."""
    links = {}
    for view in views:
        for thread in view.threads:
            if thread.waits and (link := _link(view, thread, thread.waits[-1], views)) is not None:
                links[view.pid, thread.id] = link
    found, seen = [], set()
    for start in links:
        path, at = [], start
        while at in links and at not in seen:
            seen.add(at)
            path.append(at)
            at = links[at].holder
        if at in path:
            found.append([links[key] for key in path[path.index(at) :]])
    return [circle for circle in found if _is_proved(circle)]


def _link(view, thread, wait, views):
    if wait.deadline:
        return None
    if wait.kind == JOIN:
        # A process ends when its main thread has ended.
        return Link(view, thread, wait, None, (wait.number, wait.number))
    lock = thread.locks.get(wait.place)
    if wait.kind != LOCK or lock is None or lock.most != 1 or lock.is_semaphore or len(lock.holders) != 1:
        return None
    holder = lock.holders[0]
    return Link(view, thread, wait, lock, (holder.pid, holder.thread)) if holder.pid and holder.thread else None


def _is_proved(circle):
    for _ in range(_TRIES):  # a thread that waits wakes up now and then, to look
        if all(link.still_holds() for link in circle):
            # The first reading may be of a moment when a thread was awake. So read once more.
            if all(link.still_holds() for link in circle):
                return True
        time.sleep(_PAUSE)
    return False
