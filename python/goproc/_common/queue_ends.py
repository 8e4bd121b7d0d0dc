"""The parts of multiprocessing's queues that programs use besides the methods: ends of a pipe, locks and semaphores.

goproc's queues (queues.py) have none of these. A part is made at its first access: `queue._reader` makes a Reader,
which the queue keeps. The locks and semaphores are in stand_ins.py.
"""

import collections
import contextlib
import os
import posix
import threading
import time
import weakref
from multiprocessing import util
from queue import Empty, Full

from .. import _native, connection
from .cooperative import Pauses
from .own_pickler import ORIGINAL, QUEUES
from .stand_ins import Condition, Lock, Semaphore

__all__ = ["MAKERS"]

#: How _native.Queue._put() puts: it waits for room, or only for a place (as in queues.py).
_WAIT, _PLACE = 2, 3


#: The ends that _native.Queue._close_ends() closes.
_PUTTING, _GETTING = 1, 2

#: Seconds between two looks at whether a process can still put, by the thread that looks for wait().
_PAUSE = 0.02


class _End(connection.Connection):
    """Stands for an end of the pipe of multiprocessing's queues. When it is closed, this process has this end no more.

    end: which end of the queue, as _native.Queue._close_ends() takes it.
    """

    def __init__(self, queue, fd, end):
        super().__init__(fd, writable=end == _PUTTING, readable=end == _GETTING)
        self._queue = queue
        self._end = end

    def close(self):
        if self.closed:
            return
        super().close()  # first: _close_ends() needs a descriptor
        try:
            self._queue._close_ends(self._end)
        except OSError as error:
            util.info("other processes will not notice that an end of a queue is closed: %s", error)


class Reader(_End):
    """Stands for the end from which multiprocessing's queues read.

    Programs can wait for its descriptor: it is readable while there are items, and when no process can put any more.
    """

    _waits_since = None  # the process in which somebody has asked for the descriptor

    def __init__(self, queue):
        super().__init__(queue, posix.dup(queue._watch()), _GETTING)

    def __reduce__(self):
        return getattr, (self._queue, "_reader")

    def fileno(self):
        fd = super().fileno()
        if self._waits_since != os.getpid():
            self._waits_since = os.getpid()
            if "_writer" in self._queue.__dict__:
                self._queue._writer.look_for_reader()
        return fd

    def is_waited_for(self):
        """Return whether this process may be waiting for the descriptor."""
        return self._waits_since == os.getpid()

    def _recv_bytes(self, maxsize=None):
        import io

        own = QUEUES.own()
        pickled = (ORIGINAL if own is None else own).dumps(self.recv())
        if maxsize is not None and len(pickled) > maxsize:
            return None
        received = io.BytesIO()
        received.write(pickled)
        return received

    def recv(self):
        self._check_closed()
        lock = self._queue.__dict__.get("_rlock")
        return lock.seen.popleft() if lock is not None and lock.has_seen() else self._queue._receive()

    def _poll(self, timeout):
        lock = self._queue.__dict__.get("_rlock")
        return lock.see(timeout) if lock is not None and lock.locked() else _has_item(self._queue, timeout)


def _look(reference):
    while (queue := reference()) is not None and not queue._has_ended():
        del queue
        time.sleep(_PAUSE)


def _has_item(queue, timeout):
    return type(queue)._poll(queue, timeout)  # not the queue's own _poll, which a ReadLock sets


class Writer(_End):
    """Stands for the end into which multiprocessing's queues write."""

    def __init__(self, queue):
        super().__init__(queue, posix.dup(queue._files()[1]), _PUTTING)

    def __reduce__(self):
        return getattr, (self._queue, "_writer")

    def close(self):
        super().close()
        self.look_for_reader()

    def look_for_reader(self):
        """If this end is closed, and somebody may be waiting for the reader, start a thread that looks for the end.

        When no process can put any more, the reader's descriptor becomes readable, like that of a pipe.
        """
        reader = self._queue.__dict__.get("_reader")
        if self.closed and reader is not None and reader.is_waited_for():
            looks = threading.Thread(target=_look, args=(weakref.ref(self._queue),), name="QueueEndThread", daemon=True)
            looks.start()

    def _send_bytes(self, buf):
        self._queue._put(buf, None, _WAIT, True, None)


class ReadLock:
    """Stands for the lock with which multiprocessing's queues keep other readers away.

    While a program holds the lock, nobody else may get an item that poll() has found. So poll() gets the item, and
    keeps it here for recv(). If recv() is not called, release() puts the item back, behind the others. The lock is not
    shared: each process has its own.
    """

    def __init__(self, queue):
        self._queue = queue
        self._lock = Lock(queue, "_rlock")
        self._owner = os.getpid()
        self.seen: collections.deque = collections.deque()
        self.acquire = self._lock.acquire
        self.locked = self._lock.locked
        queue._poll = queue._reader.poll  # as in multiprocessing

    def has_seen(self):
        """Return whether an item is kept here. An item that was kept when this process was forked is its parent's."""
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self.seen.clear()
        return bool(self.seen)

    def see(self, timeout):
        """Return whether there is an item. timeout: how many seconds to wait for one, None for no bound."""
        until = None if timeout is None else _native.monotonic() + timeout
        while not self.has_seen():
            if not _has_item(self._queue, timeout):
                return False
            with contextlib.suppress(Empty), _native.held_signals:
                self.seen.append(self._queue._get(False))
            if until is not None:
                timeout = max(0.0, until - _native.monotonic())
        return True

    def release(self):
        try:
            while self.has_seen():
                self._queue.put(self.seen.popleft())
                if hasattr(self._queue, "task_done"):
                    self._queue.task_done()  # put() has counted the item a second time
        finally:
            self._lock.release()

    def __enter__(self):
        return self._lock.acquire()

    def __exit__(self, *_):
        self.release()


def _end_of(kind):
    def make(queue):
        end = kind(queue)
        if queue._closed and not hasattr(queue, "qsize"):  # a SimpleQueue: the others read what is left
            end.close()
        return end

    return make


def _places(queue):
    """Return the semaphore of a maxsize. acquire() waits for a place, and leaves it to the put() that follows."""

    def take(block, timeout):
        try:
            queue._put(b"", None, _PLACE, block, timeout)
        except Full:
            return False
        return True

    return Semaphore(lambda: queue._maxsize - queue.qsize(), take, lambda: None)


def _tasks(queue):
    """Return the semaphore of the items that are not done. acquire() reports one done; put() counts by itself."""

    def take(block, timeout):
        pauses = Pauses(None if timeout is None else _native.monotonic() + timeout)
        while True:
            try:
                queue._task_done()
                return True
            except ValueError:
                if not block or not pauses.pause():
                    return False

    return Semaphore(queue._unfinished, take, lambda: None)


def _wait_for_tasks(queue, timeout):
    """Wait until all items are done, for at most timeout seconds; return whether they are."""
    pauses = Pauses(None if timeout is None else _native.monotonic() + timeout)
    while queue._unfinished():
        if not pauses.pause():
            return False
    return True


#: What makes each attribute.
MAKERS = {
    "_reader": _end_of(Reader),
    "_writer": _end_of(Writer),
    "_recv_bytes": lambda queue: queue._reader.recv_bytes,
    "_send_bytes": lambda queue: queue._writer.send_bytes,
    "_sem": _places,
    "_unfinished_tasks": _tasks,
    "_cond": lambda queue: Condition(queue, "_cond", lambda timeout: _wait_for_tasks(queue, timeout)),
    "_rlock": ReadLock,
    "_wlock": lambda queue: Lock(queue, "_wlock"),
}
