"""The parent's side of a pool's results: who waits for them, and how they reach the objects that the user holds.

    threads in get(), next(), join()
         │ the first becomes the collector                       the others sleep until it has their result, or leaves
         ▼
    port.collect()  ──▶  (job, index, kind, payload) ...  ──▶  cache[job]._set(index, (success, value))

There is no thread for this: whoever wants a result collects everybody's. Two things ask for a thread of their own,
started then and not before: callbacks, which multiprocessing calls while the main program does something else; and
replacing workers that end after maxtasksperchild tasks, since a fork needs a Python thread. Used by pool.py.
"""

import threading
import time
from collections import deque
from multiprocessing.reduction import ForkingPickler

from . import _transport
from .errors import CancelledError, EngineError, TaskTimeoutError, WorkerLostError
from .worker import NO_JOB, decode

__all__ = ["Dispatch"]

_RESULT, _FAILURE = _transport.RESULT, _transport.FAILURE


class Dispatch:
    """Collects what a pool's workers deliver.

    port: the _transport.Port. cache: the pool's results that are not complete, by job. crew: the Crew, which is told of
    each worker that has ended, or could not begin.
    """

    def __init__(self, port, cache, crew):
        self._port = port
        self._cache = cache
        self._crew = crew
        self.lock = threading.RLock()  # held by the collector, who alone completes results
        self._pending: deque = deque()  # collected, or given to run(), not yet handed on
        self._followers = []  # (waiter, gate) of the threads that wait for the collector
        self._thread = None
        self._starting = threading.Lock()
        self._closing = False  # nobody becomes the collector any more but finish()
        self.closed = False

    def poll(self):
        """Hand on what has completed, without waiting. Does nothing when another thread is the collector."""
        if self._may_collect() and self.lock.acquire(False):
            try:
                if self._may_collect():
                    self._hand_on(self._port.collect(0))
            finally:
                self.lock.release()
            if self._followers:
                self._wake(1)

    def wait(self, waiter, timeout=None):
        """Collect until waiter.done is true, or timeout seconds have passed; None is for ever.

        Signal handlers run meanwhile, and what they raise is raised.
        """
        deadline = None if timeout is None else time.monotonic() + max(timeout, 0)
        try:
            while not waiter.done:
                left = None if deadline is None else max(deadline - time.monotonic(), 0)
                if self.closed:
                    if waiter is _Never:
                        return
                    time.sleep(0.001)  # its callback, in another thread, has ended the pool, and goes on
                elif self._may_collect() and self.lock.acquire(False):
                    try:
                        if not waiter.done and self._may_collect():
                            self._hand_on(self._port.collect(left))
                    finally:
                        self.lock.release()
                    if not self._may_collect():
                        self._wake(len(self._followers))  # the pool's thread, which collects from now on, is among them
                else:
                    self._follow(waiter, left)
                if left == 0:
                    return
        finally:
            if self._followers:
                self._wake(1)  # one of them is the collector from now on, if this thread was, or was to be

    def serve(self):
        """Start the thread that collects from now on, if there is none yet."""
        with self._starting:
            if self._thread is None and not self._closing:
                thread = threading.Thread(target=self._serve, name="goproc-pool", daemon=True)
                thread._goproc = True  # type: ignore[attr-defined]  # _transport.fork() does not warn about it
                thread.start()
                self._thread = thread
        self._port.wake()  # whoever collects leaves that to it

    def _serve(self):
        try:
            with self._starting:
                pass  # until it is known as the pool's thread
            self.wait(_Never)
        except EngineError:
            pass  # whoever waits for a result is told
        finally:
            self._thread = None
            self._wake(len(self._followers))

    def _may_collect(self):
        """Whether this thread may be the collector: if there is a thread for that, no other, so callbacks run there."""
        thread = self._thread
        return not self._closing and (thread is None or thread is threading.current_thread())

    def finish(self):
        """Hand on what the engine completed when the pool was terminated, and cancel what it did not know of."""
        thread = self._thread
        self._closing = True
        self._port.wake()
        with self.lock:
            if self.closed:
                return
            self._port.collect(0)  # a wake() that nobody has seen comes first
            while frames := self._port.collect(0):
                self._hand_on(frames)
            self.closed = True
            self.fail_all(CancelledError("the pool was terminated before the task was done"))
            self._port.close()
        self._wake(len(self._followers))
        if thread not in (None, threading.current_thread()):
            thread.join()

    def run(self, function):
        """Have the collector call function: it completes a result by other means than collecting."""
        self._pending.append((None, None, None, function))
        self._port.wake()
        self.poll()

    def fail_all(self, error):
        """Complete every result with an exception."""
        for result in list(self._cache.values()):
            result._fail(error)

    def _follow(self, waiter, timeout):
        gate = threading.Lock()
        gate.acquire()
        follower = (waiter, gate)
        self._followers.append(follower)
        try:
            # The collector looks for followers when it has let go of the lock: either it sees this one, or the lock is
            # free.
            if self._may_collect() and self.lock.acquire(False):
                self.lock.release()
            elif not self.closed:
                gate.acquire(timeout=-1 if timeout is None else timeout)
        finally:
            try:
                self._followers.remove(follower)
            except ValueError:
                pass  # it was woken

    def _wake(self, others):
        """Wake the threads whose results have come, and as many others, of which one becomes the collector."""
        for follower in list(self._followers):
            if not follower[0].done:
                if not others:
                    continue
                others -= 1
            try:
                self._followers.remove(follower)
            except ValueError:
                continue  # it has left by itself
            follower[1].release()

    def _hand_on(self, frames):
        # A callback may wait for another result, and so come here again: what it needs may be in this very list.
        pending = self._pending
        pending.extend(frames)
        cache, loads = self._cache, ForkingPickler.loads
        while pending:
            job, index, kind, payload = pending.popleft()
            if kind is None:
                payload()
                continue
            if kind == _RESULT or kind == _FAILURE:
                success = kind == _RESULT
                try:
                    value = loads(payload) if type(payload) is bytes else decode(payload)
                except KeyboardInterrupt:
                    pending.appendleft(
                        (job, index, kind, payload)
                    )  # Ctrl-C is the program's; the result is still to come
                    raise
                except BaseException as error:
                    success, value = False, _undecodable(error, payload)
                if not success and not isinstance(value, BaseException):
                    value = TypeError(f"a task failed with {value!r}, which is no exception")
                payload = None
            elif kind == _transport.EXITED:
                pid, exitcode, served = map(int, payload.split())
                if reason := self._crew.exited(pid, exitcode, bool(served)):
                    self.fail_all(reason)
                continue
            elif kind == _transport.LOST or kind == _transport.TIMEOUT:
                success, value = False, _ended(kind, payload, cache.get(job))
            else:
                success, value = False, CancelledError("the task was cancelled")
            result = cache.get(job)
            if result is None:
                if job == NO_JOB and kind == _FAILURE:
                    self._crew.could_not_begin(value)
                continue
            result._set(index, (success, value))
            result = value = None
        if self._followers:
            self._wake(0)


class _Never:
    """What the pool's own thread waits for."""

    done = False


def _ended(kind, payload, result):
    """Return the exception for a task whose worker has ended."""
    pid, exitcode = map(int, payload.split())
    func = getattr(result, "_func", None)
    name = None if func is None else getattr(func, "__qualname__", None) or type(func).__qualname__
    if kind == _transport.TIMEOUT and result is not None:
        return TaskTimeoutError(pid, result._limit, name)
    return WorkerLostError(pid, exitcode, name)


def _undecodable(error, payload):
    from multiprocessing.pool import MaybeEncodingError

    if isinstance(payload, BaseException):
        return payload
    size = len(payload[0]) if type(payload) is tuple else len(payload)
    wrapped = MaybeEncodingError(error, f"a pickle of {size} bytes")
    wrapped.__cause__ = error
    return wrapped
