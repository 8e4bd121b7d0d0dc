"""The port of a cluster's pool: takes the tasks of a program, and gives it their results, like _native.Port.

The collector waits on a lock that the other side releases, its bell. So a thread in collect() can be interrupted by
signals, and holds nothing while a signal handler runs.
"""

import contextlib
import threading
import time
from collections import deque
from pickle import PickleBuffer
from typing import Any

from .. import _native
from .tasks import Task

__all__ = ["Port"]

#: The longest sleep, in seconds; how long a completion waits for a thread that wants it; how many are taken at once.
_SLEEP, _PATIENCE, _MOST = 0.2, 0.01, 4096


class Port:
    """See _native.Port, whose methods these are. contents: the pool's Contents.

    call_soon: called when the loop has to look at the ledger's inbox.
    """

    def __init__(self, contents):
        self.contents = contents
        self.collected = 0  # how many completions have been collected
        self.full = False
        self.ledger: Any = None  # set by crew.py
        self.call_soon: Any = None
        self.limits: dict = {}  # by job and index: microseconds
        self.retries: dict = {}
        self._ready: deque = deque()
        self._bell, self._watch_bell = threading.Lock(), threading.Lock()
        self._posted: deque = deque()
        self._woken = self._roused = self._closed = False
        self._calls = 0
        self._lent = threading.local()  # .tasks: a list of tasks, while this thread is in a block of lent()

    def __reduce__(self):
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def submit(self, job, index, stream, buffers=None, count=1):
        """Queue a task. The program may change the buffers afterwards: they are copied, except in a block of lent()."""
        if self._closed:
            raise ValueError("Pool not running")
        if type(stream) is not bytes:
            stream = b"".join(map(bytes, stream)) if type(stream) is list else bytes(stream)
        lent = getattr(self._lent, "tasks", None)
        if buffers:
            buffers = [_copied(buffer) for buffer in buffers] if lent is None else list(map(_lent, buffers))
        task = Task(job, index, stream, buffers or None, count)
        if lent is not None and buffers:
            lent.append(task)
        if self.limits or self.retries:
            self._limit(task)
        task.contents = self.contents.take(job)
        self.ledger.inbox.append(task)
        self.call_soon()
        return False

    @contextlib.contextmanager
    def lent(self):
        """A block in which this thread submits tasks and waits for all of them, so that their buffers need no copy.

        If the block ends by an exception, the buffers of tasks that are not answered are copied.
        """
        tasks: list[Task] = []
        self._lent.tasks = tasks
        try:
            yield
        except BaseException:
            self.ledger.replace_buffers(tasks, lambda buffers: list(map(_copied, buffers)))
            raise
        finally:
            self._lent.tasks = None

    def _limit(self, task):
        keys = [(task.job, index) for index in task.indices()]
        task.limits = [(key[1], self.limits.pop(key)) for key in keys if key in self.limits] or None
        task.retries = {key[1]: self.retries.pop(key) for key in keys if key in self.retries} or None

    def complete(self, frames):
        """Let collect() return these completions; called by any thread."""
        self._ready.extend(frames)
        self._ring()

    def _ring(self):
        for bell in self._bell, self._watch_bell:
            try:
                bell.release()
            except RuntimeError:
                pass  # it has been rung already

    def collect(self, timeout=None, take=None, waiter=None):
        """Wait until something has completed; see _native.Port.collect."""
        deadline = None if timeout is None else _native.monotonic() + timeout
        ready = self._ready
        since = None
        while True:
            self._bell.acquire(blocking=False)
            self._calls += 1
            if self._posted and take is not None:
                with _native.held_signals:
                    posted = [self._posted.popleft() for _ in range(len(self._posted))]
                    take(posted)
                if timeout != 0:
                    return []
            if self._woken:
                self._woken = False
                if timeout != 0:
                    return []
            if ready:
                with _native.held_signals:
                    frames = [ready.popleft() for _ in range(min(len(ready), _MOST))]
                    self.full = bool(ready)
                    self.collected += len(frames)
                    if take is not None:
                        take(frames)
                    return frames
            self.full = False
            if self._closed:
                return []
            pause = _SLEEP
            if deadline is not None:
                pause = min(pause, deadline - _native.monotonic())
                if pause <= 0:
                    return []
            since = _native.monotonic() if since is None else since
            number = getattr(waiter, "_job", -1)
            _native.wait_noted(self._bell.acquire, (True, pause), _native.WAIT_RESULT, number=number, since=since)

    def unseen(self):
        """Return how many completions wait to be collected."""
        return len(self._ready)

    def forget(self, serial):
        """Do nothing: no worker has memory of this process."""

    def post(self, item):
        """Have collect() give the item to take; see _native.Port.post."""
        if not self._closed:
            self._posted.append(item)
            self.rouse()
            self.wake()

    def watch(self, timeout=None):
        """Wait until there is a completion that no thread has collected within 10 ms; see _native.Port.watch."""
        deadline = None if timeout is None else _native.monotonic() + timeout
        while not self._closed:
            calls = self._calls
            if self._roused:
                self._roused = False
                return False
            left = None if deadline is None else deadline - _native.monotonic()
            if left is not None and left <= 0:
                return False
            if self._ready:
                time.sleep(_PATIENCE)
                if self._ready and calls == self._calls:
                    return True
                continue
            self._watch_bell.acquire(timeout=-1 if left is None else left)
        return False

    def rouse(self):
        """Have the watch() that waits, or else the next one, return at once."""
        self._roused = True
        self._ring()

    def wake(self):
        """Have the collect() that waits, or else the next one, return at once."""
        if not self._closed:
            self._woken = True
            self._ring()

    def close(self):
        """Take no more tasks, and end all waits."""
        self._closed = True
        self._ready.clear()
        self._ring()


def _copied(buffer):
    view = memoryview(buffer) if type(buffer) is not PickleBuffer else buffer.raw()
    # No memoryview: CPython up to 3.12.1 crashes when it collects a cycle with a PickleBuffer of one (gh-77894).
    whole = type(view.obj) is bytes and view.nbytes == len(view.obj)
    return view.obj if whole else bytearray(view)


def _lent(buffer):
    """Return the object that owns the buffer's memory, if it is writable and owns no more than that; else a copy."""
    view = memoryview(buffer)
    if not view.readonly and view.c_contiguous and view.nbytes == memoryview(view.obj).nbytes:
        return view.obj
    return _copied(buffer)
