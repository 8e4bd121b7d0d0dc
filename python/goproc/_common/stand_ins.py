"""Stand-ins for the locks, conditions and semaphores inside multiprocessing's queues and events.

goproc's queues (queues.py), conditions and events (synchronize.py) need no such parts. But programs use them: they wait
for a JoinableQueue's `_cond`, because its join() has no timeout, or they hold an Event's while they look at the flag.

    Counter           a semaphore whose value is read
    Semaphore         a semaphore that is acquired and released
    Lock              a lock of this process: `_wlock`
    Condition         the same, with wait() and notify(): `_cond`
    parts_of_event    the condition of an event, and the semaphore of its flag

Locks and conditions are not shared: each process has its own. A call of the queue or the event is atomic without them.
"""

import contextlib
import os
import threading

from .. import _native
from .cooperative import Pauses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than the rest of this module

__all__ = ["Condition", "Counter", "Lock", "Semaphore", "parts_of_event"]


class Counter:
    """A semaphore whose value is read. get_value: returns the value."""

    def __init__(self, get_value):
        self.get_value = self._get_value = get_value

    @property
    def _semlock(self):
        return self

    def _is_zero(self):
        return self.get_value() == 0


class Semaphore(Counter):
    """A semaphore that programs acquire and release.

    take: called with (block, timeout); returns whether the semaphore was acquired. give: releases it.
    """

    def __init__(self, get_value, take, give):
        super().__init__(get_value)
        self._take = take
        self.release = give

    def acquire(self, block=True, timeout=None):
        return self._take(block, timeout)

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()


class Lock:
    """A lock of this process. In a forked child it is free if another thread of the parent holds it.

    owner, name: the object whose attribute this is, and the attribute: another process makes its own.
    """

    _make: "Any" = staticmethod(threading.Lock)

    def __init__(self, owner, name):
        self._place = owner, name
        self._pid = os.getpid()
        self._lock = self._make()

    def __reduce__(self):
        return getattr, self._place

    def _look_for_fork(self):
        """Return whether this is a forked child in which the lock was taken, and has been made anew."""
        if self._pid == os.getpid():
            return False
        self._pid = os.getpid()
        if self._lock.acquire(False):
            self._lock.release()
            return False
        self._lock = self._make()
        return True

    def acquire(self, block=True, timeout=None):
        self._look_for_fork()
        return self._lock.acquire(block, -1 if timeout is None or not block else max(0, timeout))

    def release(self):
        if not self._look_for_fork():  # else it was taken before the fork
            self._lock.release()

    def locked(self):
        self._look_for_fork()
        return self._lock.locked()

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()


class Condition(Lock):
    """A condition about one thing, for example that all items of a queue have been worked on.

    sleep: called with a timeout in seconds or None, waits for that thing; returns whether it has happened. Nobody needs
    to notify.
    """

    _make = staticmethod(threading.RLock)

    def __init__(self, owner, name, sleep):
        super().__init__(owner, name)
        self._sleep = sleep
        self._holder = None  # the thread that holds the lock
        self._count = 0  # how often
        self.leave = None  # called before the lock becomes free

    def _look_for_fork(self):
        if is_new := super()._look_for_fork():
            self._holder, self._count = None, 0
        return is_new

    def acquire(self, block=True, timeout=None):
        if not super().acquire(block, timeout):
            return False
        self._holder = threading.get_ident()
        self._count += 1
        return True

    def release(self):
        if self._look_for_fork():
            return
        self._check("release()")
        if self._count == 1 and self.leave is not None:
            self.leave()
        self._count -= 1
        if not self._count:
            self._holder = None
        self._lock.release()

    def is_mine(self):
        """Return whether this thread holds the lock."""
        return self._holder == threading.get_ident()

    def _check(self, call):
        if not self.is_mine():
            raise AssertionError(f"must acquire() condition before using {call}")

    def wait(self, timeout=None):
        """Release the lock, wait for the thing (True) or for timeout seconds (False), and take the lock again."""
        self._check("wait()")
        with self._released():
            return self._sleep(timeout)

    def wait_for(self, predicate, timeout=None):
        """Wait until predicate() is true, for at most timeout seconds; return its last value."""
        self._check("wait_for()")
        pauses = Pauses(None if timeout is None else _native.monotonic() + timeout)
        while not (value := predicate()):
            with self._released():
                goes_on = pauses.pause()
            if not goes_on:
                break
        return value

    @contextlib.contextmanager
    def _released(self):
        count = self._count
        for _ in range(count):
            self.release()
        try:
            yield
        finally:
            for _ in range(count):
                self.acquire()

    def notify(self, n=1):
        self._check("notify()")

    def notify_all(self):
        self._check("notify_all()")


class _Flag(Semaphore):
    """The semaphore of an event's flag.

    flag: the _native.Flag, whose class a derived event may give other methods. condition: the event's. To look at the
    flag, multiprocessing's events acquire the semaphore and release it again, while they hold the condition. Other
    processes must not see the flag cleared meanwhile. So it is cleared only when the condition is released.
    """

    def __init__(self, flag, condition):
        super().__init__(self._value, self._acquire, self._release)
        self._flag = flag
        self._condition = condition
        self._taken = False  # whether the flag is to be cleared
        condition.leave = self._settle

    def _value(self):
        return int(_native.Flag.is_set(self._flag) and not self._taken)

    def _acquire(self, block, timeout):
        if self._condition.is_mine() and self._value():
            self._taken = True
            return True
        if not _native.Flag.wait(self._flag, timeout if block else 0):
            return False
        _native.Flag.clear(self._flag)
        return True

    def _release(self):
        self._taken = False
        _native.Flag.set(self._flag)

    def _settle(self):
        if self._taken:
            self._taken = False
            _native.Flag.clear(self._flag)


def parts_of_event(event):
    """Return the attributes of an event by which programs work on its flag, by their names."""
    condition = Condition(event, "_cond", lambda timeout: _native.Flag.wait(event, timeout))
    return {"_cond": condition, "_flag": _Flag(event, condition)}
