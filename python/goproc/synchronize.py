"""Locks, semaphores, conditions, events and barriers that survive a kill. Mirrors multiprocessing/synchronize.py.

They are in shared memory without names: there is no semaphore file, and no resource tracker for them. The classes
derive from the standard library's of the same names. _native has the mechanism (capi/native/sync), and
docs/design/locks.md the reasons. Called by context.py.

    Lock, RLock, BoundedSemaphore    if the holder is killed, the next acquire() raises AbandonedLockError, once, and
                                     the lock is free then
    Semaphore                        permits have no owner, so those of a killed process are not given back
    Condition, Event                 notify() and set() do not wait for a dead process
    Barrier                          a process that is killed while it waits breaks it
"""

import copyreg
import threading
from multiprocessing import context as _context
from multiprocessing import reduction as _reduction

from . import _native
from ._common import start_methods, stdlib
from .errors import AbandonedLockError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing import synchronize as _standard
    from typing import Any
else:
    _standard = stdlib.standard_module("synchronize")

RECURSIVE_MUTEX, SEMAPHORE, SEM_VALUE_MAX = _standard.RECURSIVE_MUTEX, _standard.SEMAPHORE, _standard.SEM_VALUE_MAX

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

_native.set_abandoned_error(AbandonedLockError)

#: Seconds after which those who wait at a barrier look whether the others still run.
_LOOK = 0.4


def _attach(descriptor):
    return _native.attach_block(descriptor.detach())


def _reduce_block(block):
    _context.assert_spawning(block)
    return _attach, (_reduction.DupFd(block.fileno()),)


copyreg.pickle(_native.Block, _reduce_block)  # type: ignore[arg-type]  # for a pickler of the program's, too


def _is_anonymous(ctx):
    """Whether objects of the context are for forked children only, so that they need no descriptor."""
    if ctx is None:
        ctx = start_methods.default.get_context()
    return ctx.get_start_method() == "fork"


_ABANDONED = {"raise": _native.RAISE, "take": _native.TAKE, "keep": _native.KEEP}


def _mode(abandoned):
    try:
        return _ABANDONED[abandoned]
    except (KeyError, TypeError):
        raise ValueError(f"abandoned={abandoned!r}: it must be 'raise', 'take' or 'keep'") from None


class SemLock(_native.SemLock, _standard.SemLock):
    """The base class of locks and semaphores. Source: multiprocessing.synchronize.SemLock."""

    # Most methods are those of the base class in C. The standard library's own methods, and programs, look for them in
    # the attribute `_semlock`, which is this object itself.

    def __init__(self, kind: int, value: int, maxvalue: int, *, ctx: "Any", abandoned: str = "raise") -> None:
        self._make(kind, value, maxvalue, _is_anonymous(ctx), _mode(abandoned))

    def __getstate__(self) -> object:
        _context.assert_spawning(self)
        return self._place()

    def __setstate__(self, state: "Any") -> None:
        self._settle(*state)

    def _make_methods(self) -> None:
        """Do nothing: the methods are those of the class."""


class Semaphore(SemLock, _standard.Semaphore):
    """A semaphore. Source: multiprocessing.Semaphore.

    value: the number of permits at first. They have no owner: any process may release what another one has acquired.
    """

    def __init__(self, value: int = 1, *, ctx: "Any") -> None:
        SemLock.__init__(self, SEMAPHORE, value, SEM_VALUE_MAX, ctx=ctx)


class BoundedSemaphore(Semaphore, _standard.BoundedSemaphore):
    """A semaphore that cannot be released more often than it was acquired. Source: multiprocessing.BoundedSemaphore.

    value: the number of permits. abandoned: what happens with a permit of a process that was killed. "raise": the next
    acquire() that would wait for it raises AbandonedLockError, once, and the permit is free then. "take": it gets the
    permit. "keep": the permit stays taken, as with multiprocessing. Once a process has released what another one has
    acquired, permits have no owner, as with Semaphore.
    """

    def __init__(self, value: int = 1, *, ctx: "Any", abandoned: str = "raise") -> None:
        SemLock.__init__(self, SEMAPHORE, value, value, ctx=ctx, abandoned=abandoned)


class Lock(SemLock, _standard.Lock):
    """A lock. Any process or thread may release it. Source: multiprocessing.Lock.

    abandoned: what happens when the holder was killed. "raise": the next acquire() raises AbandonedLockError, once, and
    the lock is free then. "take": it gets the lock. "keep": the lock stays locked, as with multiprocessing.
    """

    def __init__(self, *, ctx: "Any", abandoned: str = "raise") -> None:
        SemLock.__init__(self, SEMAPHORE, 1, 1, ctx=ctx, abandoned=abandoned)


class RLock(SemLock, _standard.RLock):
    """A lock that its holder, a thread, may take again. Source: multiprocessing.RLock.

    abandoned: as for Lock.
    """

    def __init__(self, *, ctx: "Any", abandoned: str = "raise") -> None:
        SemLock.__init__(self, RECURSIVE_MUTEX, 1, 1, ctx=ctx, abandoned=abandoned)


class Condition(_standard.Condition):
    """A condition variable. Source: multiprocessing.Condition.

    lock: a Lock or RLock; None for a new RLock. abandoned: for this new lock, as for Lock. notify() wakes no process
    that was killed, and does not wait for the processes that it wakes. If the holder was killed when wait() takes the
    lock again, wait() raises AbandonedLockError with the lock held, because its caller releases the lock. At most 1023
    processes and threads can wait at the same time.
    """

    def __init__(self, lock: "Any" = None, *, ctx: "Any", abandoned: str = "raise") -> None:
        _mode(abandoned)
        self._lock = lock or RLock(ctx=ctx, abandoned=abandoned)
        self._waiters = _native.Waiters()
        self._waiters._make(_is_anonymous(ctx))
        self._make_methods()

    def __getstate__(self) -> "Any":
        _context.assert_spawning(self)
        return self._lock, self._waiters._place()

    def __setstate__(self, state: "Any") -> None:
        self._lock, place = state
        self._waiters = _native.Waiters()
        self._waiters._settle(place)
        self._make_methods()

    @property
    def _sleeping_count(self):
        return _stand_ins().Counter(self._waiters.count)

    @property
    def _woken_count(self):
        return _stand_ins().Counter(int)

    _wait_semaphore = _woken_count

    def wait(self, timeout: "float | None" = None) -> bool:
        """Release the lock, wait until notified (True) or for timeout seconds (False), and take the lock again."""
        lock = self._lock
        assert lock._semlock._is_mine(), "must acquire() condition before using wait()"
        return self._waiters.wait(lock, lock._semlock._count(), timeout)

    def notify(self, n: int = 1) -> None:
        """Wake at most n of those that wait, those that have waited longest first."""
        assert self._lock._semlock._is_mine(), "lock is not owned"
        self._waiters.notify(n)


class _PartOfEvent:
    """An attribute that is made when it is first read. With __getattr__ in the class, each call would take longer."""

    def __set_name__(self, owner, name):
        self._name = name

    def __get__(self, event, owner=None):
        if event is None:
            raise AttributeError(self._name)
        # The parts use the flag itself: a derived class may have methods of its own.
        event.__dict__.update(_stand_ins().parts_of_event(event))
        return event.__dict__[self._name]


class Event(_native.Flag, _standard.Event):
    """A flag that processes wait for. Source: multiprocessing.Event.

    set() does not wait for other processes. wait() returns True if the flag was set meanwhile, even if it has been
    cleared since. The attributes of the object are sent to another process, too.
    """

    def __init__(self, *, ctx: "Any") -> None:
        self._make(_is_anonymous(ctx))

    def __getstate__(self) -> "Any":
        _context.assert_spawning(self)
        return self._place(), {name: value for name, value in vars(self).items() if name not in _PARTS_OF_EVENT}

    def __setstate__(self, state: "Any") -> None:
        place, attributes = state
        self._settle(place)
        vars(self).update(attributes)

    _cond = _PartOfEvent()
    _flag = _PartOfEvent()


_PARTS_OF_EVENT = ("_cond", "_flag")  # each process makes its own


def _stand_ins():
    from ._common import stand_ins

    return stand_ins


class Barrier(_standard.Barrier):
    """A barrier for a number of parties. Source: multiprocessing.Barrier.

    When a process is killed while it waits at the barrier, or passes it, the barrier is broken, and the others get
    BrokenBarrierError.
    """

    def __init__(
        self, parties: int, action: "Callable[[], object] | None" = None, timeout: "float | None" = None, *, ctx: "Any"
    ) -> None:
        anonymous = _is_anonymous(ctx)
        memory = _native.SharedBytes()
        memory._make(8, anonymous)
        inside = _native.Waiters()
        inside._make(anonymous)
        self._set_up(parties, action, timeout, Condition(ctx=ctx, abandoned="take"), memory, inside)

    def _set_up(self, parties, action, timeout, condition, memory, inside):
        self._parties, self._action, self._timeout = parties, action, timeout
        self._cond = condition
        self._wrapper = memory
        self._array = memoryview(memory).cast("i")
        self._inside = inside

    def __getstate__(self) -> "Any":
        _context.assert_spawning(self)
        places = self._wrapper._place(), self._inside._place()
        return self._parties, self._action, self._timeout, self._cond, *places

    def __setstate__(self, state: "Any") -> None:
        parties, action, timeout, condition, memory_place, inside_place = state
        memory = _native.SharedBytes()
        memory._settle(*memory_place)
        inside = _native.Waiters()
        inside._settle(inside_place)
        self._set_up(parties, action, timeout, condition, memory, inside)

    @property
    def _count(self):
        """How many parties are inside. Each has an entry, so that killed parties can be recognized."""
        return self._inside.count()

    def wait(self, timeout: "float | None" = None) -> int:
        """Wait until all parties have come; return a number from 0 to parties - 1, another one for each.

        timeout: seconds to wait at most; None for the barrier's own. Raises threading.BrokenBarrierError if the barrier
        is broken, by a timeout, by abort(), or because a party was killed.
        """
        if timeout is None:
            timeout = self._timeout
        with self._cond._lock:  # in C, so a signal handler that raises does not leave it locked
            self._enter()
            index = self._count
            try:
                with self._inside.enter():
                    if index + 1 == self._parties:
                        self._release()
                    else:
                        self._wait(timeout)
                    return index
            finally:
                self._exit()

    def _look(self):
        """Break the barrier if a party inside was killed; end the draining that a party has not ended."""
        if self._inside.reap() and self._state == 0:
            self._break()
        self._exit()

    def _enter(self):
        self._look()
        while self._state in (-1, 1):  # it drains: the parties of the round before have not left yet
            self._cond.wait(_LOOK)
            self._look()
        if self._state < 0:
            raise threading.BrokenBarrierError
        assert self._state == 0

    def _wait(self, timeout):
        if timeout is not None and not timeout < threading.TIMEOUT_MAX:
            self._cond.wait(timeout)  # NaN or infinity: it raises
        deadline = None if timeout is None else _native.monotonic() + timeout
        while self._state == 0:
            left = _LOOK if deadline is None else min(_LOOK, deadline - _native.monotonic())
            if left <= 0:
                self._break()
                break
            if not self._cond.wait(left):
                self._look()
        if self._state < 0:
            raise threading.BrokenBarrierError

    def reset(self) -> None:
        """Empty the barrier: those that wait get BrokenBarrierError, and then it can be used again."""
        with self._cond:
            self._look()
        super().reset()


def __getattr__(name: str) -> "Any":
    return stdlib.other_name(__name__, _standard, name)
