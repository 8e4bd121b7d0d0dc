"""Collects a pool's results in the parent, and delivers them to the objects that the user holds.

    threads in get(), next(), join()
         │ the first becomes the collector           the others sleep until it has their result, or stops collecting
         ▼
    port.collect()  ──▶  (job, index, kind, payload) ...  ──▶  cache[job]._set(index, (success, value))

A thread that waits for its own result collects the results of all threads. Results that no thread waits for are
collected by the pool's own thread. The first call that returns before its tasks are done starts this thread, which has
two modes:

watching   The thread sleeps, and collects what no other thread has collected within 10 ms (port.watch). It takes no
           time while others collect. It is for programs that look for results rarely, or never.
serving    The thread is the only collector, from the first callback on: multiprocessing calls callbacks while the main
           program does something else. A pool that replaces its workers after a number of tasks, or by their memory,
           is served from the start: a worker must be replaced at once, and a fork needs a Python thread.

docs/design/results.md says why. Used by engine_pool.py.
"""

import threading
import time
from collections import deque
from multiprocessing import util

from .. import _native
from .._common import cooperative, stdlib
from .._common.own_pickler import CONNECTIONS
from .._common.threads import OwnThread, deadline_after, persist
from ..errors import CancelledError, EngineError
from .codec import NO_JOB, decode
from .describe import ended, note_item
from .failures import raised_by_handler, undecodable, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than loading the engine

__all__ = ["Dispatch"]

_PATIENCE = 0.5  # seconds after which a thread that waits for the collector checks again by itself
_RESULT, _FAILURE, _PART = _native.RESULT, _native.FAILURE, _native.PART

_TO_CALL = None  # a kind besides those of frames: the payload is a function given to run(), which is to be called


class Dispatch:
    """Collects what a pool's workers send.

    port: the _native.Port. cache: the pool's results that are not complete, by job. crew: the Crew, which is told of
    each worker that has ended, or could not begin.
    """

    def __init__(self, port, cache, crew):
        self._port = port
        self._cache = cache
        self._crew = crew
        cooperative.is_patched()  # before the turn is first taken: from now on it tells greenlets apart
        self._turn = _native.Turn()  # the thread that holds it is the collector; only the collector completes results
        self._pending: deque = deque()  # items that were collected, or given to run(), and are not delivered yet
        self._delivering = 0  # how many items of _pending are being delivered, by nested calls
        self._interrupted = None  # the item whose unpickling was interrupted by KeyboardInterrupt
        self._followers = []  # (waiter, gate) of the threads that wait for the collector
        self._thread = None  # the pool's own thread, while it runs
        self._serving = False  # whether the pool's own thread is the only collector
        self._starting = threading.Lock()
        self._closing = False  # from now on only finish() collects
        self._end = _End()  # what the pool's own thread serves until
        self.closed = False
        self._failure = None  # the EngineError that has ended the pool's own thread
        self.retrying: Any = None  # the Retrying, if tasks may have to be run again
        #: The text of the CancelledError of those who wait for results when the pool is terminated.
        self.why_terminated = "the pool was terminated before the task was done"

    def poll(self):
        """Deliver all that has completed, without waiting. Does nothing when another thread is the collector."""
        if self._may_collect():
            with self._turn as depth:
                if depth and self._may_collect():
                    self._collect_all(depth)
            if depth and self._followers:
                self._wake(1)

    def _collect_by_turns(self, waiter, deadline, depth):
        """Collect until something has come, and let other greenlets run meanwhile. The caller keeps the turn."""
        pauses = cooperative.Pauses(deadline)
        while not self._collect(0, depth) and not waiter.done and self._may_collect():
            if not pauses.pause():
                return

    def _collect_all(self, depth):
        """Collect and deliver what has completed before this call: a pool may complete tasks for ever meanwhile."""
        port, end = self._port, None
        while self._collect(0, depth) and port.full and not self.closed:
            if end is None:
                end = port.collected + port.unseen()
            if port.collected >= end:
                break

    def wait(self, waiter, timeout=None):
        """Collect until waiter.done is true, for at most timeout seconds; None for no limit.

        Signal handlers run meanwhile; an exception that one raises ends the wait.
        """
        deadline = None if timeout is None else deadline_after(timeout)
        try:
            while not waiter.done:
                left = None if deadline is None else max(deadline - _native.monotonic(), 0)
                pause = left if self._crew.retry_at is None else self._retry_if_due(left)
                if self.retrying is not None and self._thread is threading.current_thread():
                    pause = self.retrying.run_due(pause)
                if self.closed:
                    if waiter is self._end:
                        return
                    if self._cache.get(getattr(waiter, "_job", None)) is waiter:
                        self._cancel(waiter)  # a signal handler ended the pool before the waiter was in its cache
                    if not waiter.done:
                        time.sleep(0.001)  # the waiter's callback, in another thread, has terminated the pool
                elif self._may_collect():
                    with self._turn as depth:
                        if depth and not waiter.done and self._may_collect():
                            if left == 0:
                                self._collect_all(depth)
                            elif cooperative.is_patched():
                                self._collect_by_turns(waiter, deadline, depth)
                            else:
                                self._collect(pause, depth, waiter)
                    if not depth:
                        self._follow(waiter, pause)
                    elif not self._may_collect():
                        self._wake(len(self._followers))  # one of them is the pool's thread, the collector from now on
                else:
                    self._follow(waiter, pause)
                if left == 0:
                    return
        finally:
            if self._followers:
                self._wake(1)  # the woken thread becomes the collector, if this thread was it or was woken for it
        if self._crew.terminated and util.is_exiting() and threading.current_thread() is not threading.main_thread():
            # The program is exiting: the CancelledError of this daemonic thread would be printed, at the very end.
            while True:
                time.sleep(3600)

    def watch(self):
        """Start the pool's thread, so that results are collected even if no thread asks for them.

        If no thread can be started, results are collected only in calls of the pool or of a result.
        """
        if self._thread is None and stdlib.are_threads_real():
            try:
                self._start()
            except RuntimeError as error:
                util.info("the pool has no thread; its results are collected only in calls of the pool: %s", error)

    def _retry_if_due(self, left):
        """Try a worker again, if workers could not begin and the pause before the next attempt is over.

        Returns how many seconds to wait next: until the end of the pause, but at most left; None for no limit.
        """
        if reason := self._crew.retry_if_due():
            self.run(lambda: self._give_up(reason))
        if (retry_at := self._crew.retry_at) is None:
            return left
        pause = max(retry_at - _native.monotonic(), 0.001)
        return pause if left is None else min(pause, left)

    def _give_up(self, reason):
        """Fail all pending tasks with reason, and withdraw them, so that none runs later."""
        self._crew.withdraw()
        self.fail_all(reason)

    def schedule_retry(self):
        """If a worker is to be tried again later, let the pool's thread do it: no thread may wait for a result then."""
        if self._crew.retry_at is not None:
            if self._serving:
                self._port.wake()
            else:
                self.watch()
                self._port.rouse()

    def serve(self):
        """Make the pool's thread the only collector from now on."""
        self._start()
        if not self._serving:
            self._serving = True
            self._port.wake()  # the present collector stops
            self._port.rouse()

    def serve_watchers(self, result):
        """Have the pool's thread collect for the coroutines that await a result. It may not serve yet.

        Completes the result if no thread will: the pool has been terminated, or the engine cannot go on.
        """
        if not self._closing:
            try:
                self.serve()
            except ValueError:
                if not self._closing:  # if closing, the port has just been closed
                    raise
        if self._failure is not None:
            result._fail(self._failure)
        elif self.closed and self._cache.get(result._job) is result:
            self._cancel(result)

    def serve_until(self, waiter, then):
        """Serve until waiter.done is true. Then call then(), as the last act of the pool's thread."""
        self._end.waiter, self._end.then = waiter, then
        self.serve()
        self._port.wake()

    @property
    def thread(self):
        """The pool's own thread, None if it does not run."""
        return self._thread

    def _start(self):
        with _native.held_signals:  # first: a signal handler may need the lock
            if self._starting.acquire(False):  # no wait: a __del__ may come here meanwhile, in either thread
                try:
                    if self._thread is None and not self._closing:
                        (thread := OwnThread("goproc-pool", self._run)).start()
                        self._thread = thread
                finally:
                    self._starting.release()

    def _attend(self):
        """Collect in the pool's thread: what others leave there, or everything, once serve() has been called."""
        while not self._serving:
            if self._closing:
                return
            self._port.watch(None if self._crew.retry_at is None else self._retry_if_due(None))
            self.poll()
        self.wait(self._end)
        if self._end.done:
            self._end.then()

    def _run(self):
        try:
            with self._starting:
                pass  # wait until _start() has set self._thread
            persist(self._attend)
        except EngineError as error:  # threads that wait for a result raise the same error
            self._failure = error
            for result in list(self._cache.values()):
                if getattr(result, "_watchers", None):
                    result._fail(error)
        except ValueError:
            if not self._closing:  # if closing, the port has just been closed
                raise
        finally:
            self._thread = None
            self._serving = False
            self._wake(len(self._followers))

    def _may_collect(self):
        """Whether this thread may be the collector. While the pool's thread serves, no other thread may."""
        return not self._closing and (not self._serving or self._thread is threading.current_thread())

    def finish(self):
        """Deliver what the engine completed when the pool was terminated, and cancel all other results."""
        thread = self._thread
        self._closing = True
        if self.retrying is not None:
            self.retrying.clear()
        while True:
            with self._turn as depth:
                if depth:
                    self._finish(depth)
                    break
            self._port.wake()
            time.sleep(0.0005)  # another thread is the collector, and is about to stop
        self._port.rouse()
        self._wake(len(self._followers))
        if thread not in (None, threading.current_thread()):
            thread.join()

    def _finish(self, depth):
        """Do finish()'s work. If a signal handler interrupts it, the next call (it may be the handler's) repeats it."""
        if not self.closed:
            self._collect(0, depth)  # this first call may return early because of a wake()
        while not self.closed and self._collect(0, depth):
            pass
        self.closed = True
        for result in list(self._cache.values()):
            self._cancel(result)
        self._port.close()

    def _cancel(self, result):
        result._fail(CancelledError(self.why_terminated))

    def run(self, function):
        """Let the collector call function, which completes a result that no worker completes."""
        if self.closed:
            function()  # there is no collector any more
            return
        self._pending.append((None, None, _TO_CALL, function))
        self._port.wake()
        self.poll()
        if self.closed:
            function()  # a signal handler has terminated the pool meanwhile

    def wake(self):
        """Let the waiting threads check waiter.done again: the program itself, not a worker, has made it true."""
        if not self.closed:
            self._port.wake()
        self._wake(0)

    def fail_all(self, error):
        """Complete every result with an exception."""
        if self.retrying is not None:
            self.retrying.clear()
        for result in list(self._cache.values()):
            result._fail(error)

    def _follow(self, waiter, timeout):
        gate = threading.Lock()
        gate.acquire()
        follower = (waiter, gate)
        try:
            self._followers.append(follower)
            # The collector looks for followers after it has released the turn: it sees this one, or the turn is free.
            free = False
            if self._may_collect():
                with self._turn as depth:
                    free = depth > 0
            if not free and not self.closed:
                # At most _PATIENCE: the wake is lost if a signal handler raises in the collector.
                patience = _PATIENCE if timeout is None else min(timeout, _PATIENCE)
                number = getattr(waiter, "_job", -1)
                _native.wait_noted(gate.acquire, (True, patience), _native.WAIT_RESULT, number=number)
        finally:
            try:
                self._followers.remove(follower)
            except ValueError:
                pass  # _wake() has removed it

    def _wake(self, others):
        """Wake the threads whose results have come, and `others` more; one of these becomes the collector."""
        for follower in list(self._followers):
            if not follower[0].done:
                if not others:
                    continue
                others -= 1
            try:
                self._followers.remove(follower)
            except ValueError:
                continue  # its thread has removed it
            follower[1].release()

    def _collect(self, timeout, depth, waiter=None):
        """Collect and deliver. Return whether anything was collected.

        depth: how often this thread holds the turn. waiter: what it waits for.
        """
        pending = self._pending
        # A callback, or an object's unpickling, may wait for another result, and call this again. Then deliver only the
        # items behind those that are being delivered.
        at = self._delivering if depth > 1 else 0
        # pending may hold items whose delivery a signal handler interrupted.
        frames = self._port.collect(timeout if len(pending) <= at else 0, pending.extend, waiter)
        if pending:
            self._delivering = at + 1
            try:
                self._deliver(pending, at)
            finally:
                self._delivering = at
        if self._followers:
            self._wake(0)
        return bool(frames)

    def _decoded(self, item, result):
        """Return (success, value) of an item. (In a longer function CPython would hang if no memory is left.)"""
        _, index, kind, payload = item
        try:
            value = CONNECTIONS.loads(payload) if type(payload) is bytes else decode(payload, CONNECTIONS)
            if kind == _FAILURE:
                offset, value = value[0], unpacked(value)
                note_item(value, result, index, offset)
        except BaseException as error:
            if raised_by_handler(error):
                raise
            if self._interrupted is not item and isinstance(error, KeyboardInterrupt):
                self._interrupted = item  # a second one comes from the payload, not from Ctrl-C
                raise
            return False, undecodable(error, payload)
        return kind != _FAILURE, value

    def _deliver(self, pending, at):
        """Deliver the pending items, from index at on.

        A signal handler may raise anywhere in here. So an item stays in pending until it has been delivered, and
        delivering an item twice has the same effect as once.
        """
        while len(pending) > at:
            item = pending[at]
            job, index, kind, payload = item
            if kind is _TO_CALL:
                payload()
                del pending[at]
                continue
            result = self._cache.get(job)
            if kind == _RESULT or kind == _PART or kind == _FAILURE:
                if result is None and job != NO_JOB:
                    del pending[at]
                    continue
                success, value = self._decoded(item, result)
            elif kind == _native.EXITED:
                pid, exitcode, served = map(int, payload.split())
                serial = self._crew.serial(pid)
                if reason := self._crew.exited(pid, exitcode, bool(served)):
                    self._give_up(reason)
                self.schedule_retry()
                if serial is not None:
                    self._port.forget(serial)
                del pending[at]
                continue
            elif kind == _native.LOST or kind == _native.TIMEOUT or kind == _native.MEMORY or kind == _native.RETRIED:
                success, value = False, ended(kind, payload, result, index, self._crew.task_memory)
                if kind == _native.RETRIED:
                    del pending[at]
                    continue
            else:
                terminated = self._crew.terminated
                success, value = False, CancelledError(self.why_terminated if terminated else "the task was cancelled")
                if getattr(result, "_cancelling", False):  # an iteration: cancel() fails it as a whole, once
                    del pending[at]
                    continue
            if kind == _PART:
                add_part = getattr(result, "_add_part", None)
                if add_part is not None:  # else a worker has sent a part of a task that is no stream
                    add_part(index, success, value, type(payload) is not bytes)
            elif result is not None:
                retry = None if self.retrying is None else getattr(result, "_retry", None)  # one made by hand has none
                if retry is None or not self.retrying.settle(result, index, success, value):
                    result._set(index, (success, value))
            elif job == NO_JOB and kind == _FAILURE:
                self._crew.could_not_begin(value, index)
            del pending[at]
            item = payload = result = value = None


class _End:
    """The waiter of the pool's own thread. It is never done, unless serve_until() was called."""

    waiter: "Any" = None
    then: "Any" = None

    @property
    def done(self):
        return self.waiter is not None and self.waiter.done
