"""The parent's side of a pool's results: who waits for them, and how they reach the objects that the user holds.

    threads in get(), next(), join()
         │ the first becomes the collector                       the others sleep until it has their result, or leaves
         ▼
    port.collect()  ──▶  (job, index, kind, payload) ...  ──▶  cache[job]._set(index, (success, value))

Whoever wants a result collects everybody's. Results that nobody waits for are collected by the pool's own thread. The
first call that returns before its tasks are done starts it. It has two modes:

watching   It sleeps, and collects what no thread has collected within 10 ms (port.watch). It costs nothing while others
           take the results: it is there for programs that look rarely, or never.
serving    It is the only one to collect. This begins with the first callback, for multiprocessing calls callbacks while
           the main program does something else. Pools that replace their workers after a number of tasks are served
           from the start, since a fork needs a Python thread.

Used by engine_pool.py.
"""

import threading
import time
from collections import deque
from multiprocessing import context, reduction, util
from multiprocessing.reduction import ForkingPickler

from .. import _native
from .._common import cooperative, stdlib
from .._common.threads import OwnThread
from ..errors import CancelledError, EngineError
from .codec import NO_JOB, decode
from .failures import raised_by_handler, undecodable, unpacked

__all__ = ["Dispatch"]

#: Seconds after which a thread that waits for the collector checks by itself.
_PATIENCE = 0.5

_RESULT, _FAILURE = _native.RESULT, _native.FAILURE

#: In the place of the kind of a frame: the payload is a function of run()'s, which is to be called.
_TO_CALL = None


class Dispatch:
    """Collects what a pool's workers deliver.

    port: the _native.Port. cache: the pool's results that are not complete, by job. crew: the Crew, which is told of
    each worker that has ended, or could not begin.
    """

    def __init__(self, port, cache, crew):
        self._port = port
        self._cache = cache
        self._crew = crew
        self._turn = _native.Turn()  # the collector's, who alone completes results
        self._pending: deque = deque()  # collected, or given to run(), not yet handed on
        self._handing = 0  # how many of these are being handed on, by nested calls
        self._interrupted = None  # the one whose unpickling a signal handler has interrupted
        self._followers = []  # (waiter, gate) of the threads that wait for the collector
        self._thread = None  # the pool's own, while it runs
        self._serving = False  # whether it, and nobody else, collects
        self._starting = threading.Lock()
        self._closing = False  # only finish() collects any more
        self.closed = False
        #: The text of the CancelledError of those who wait for results when the pool is terminated.
        self.why_terminated = "the pool was terminated before the task was done"

    def poll(self):
        """Hand on all that has completed, without waiting. Does nothing when another thread is the collector."""
        if self._may_collect():
            with self._turn as depth:
                if depth and self._may_collect():
                    self._collect_all(depth)
            if depth and self._followers:
                self._wake(1)

    def _collect_by_turns(self, waiter, deadline, depth):
        """Collect until something has come, and let other greenlets run meanwhile. This one keeps the turn."""
        pauses = cooperative.Pauses(deadline)
        while not self._collect(0, depth) and not waiter.done and self._may_collect():
            if not pauses.pause():
                return

    def _collect_all(self, depth):
        """Collect and hand on what has completed by now, but not what completes meanwhile, which may never end."""
        port, end = self._port, None
        while self._collect(0, depth) and port.full and not self.closed:
            if end is None:
                end = port.collected + port.unseen()
            if port.collected >= end:
                break

    def wait(self, waiter, timeout=None):
        """Collect until waiter.done is true, or timeout seconds have passed; None is for ever.

        Signal handlers run meanwhile, and what they raise is raised.
        """
        deadline = None if timeout is None else time.monotonic() + max(timeout, 0)
        try:
            while not waiter.done:
                left = None if deadline is None else max(deadline - time.monotonic(), 0)
                pause = left if self._crew.due is None else self._attend(left)
                if self.closed:
                    if waiter is _Never:
                        return
                    if self._cache.get(getattr(waiter, "_job", None)) is waiter:
                        self._cancel(waiter)  # a signal handler ended the pool before the waiter was in its cache
                    if not waiter.done:
                        time.sleep(0.001)  # its callback, in another thread, has ended the pool, and goes on
                elif self._may_collect():
                    with self._turn as depth:
                        if depth and not waiter.done and self._may_collect():
                            if left == 0:
                                self._collect_all(depth)
                            elif cooperative.is_patched():
                                self._collect_by_turns(waiter, deadline, depth)
                            else:
                                self._collect(pause, depth)
                    if not depth:
                        self._follow(waiter, pause)
                    elif not self._may_collect():
                        self._wake(len(self._followers))  # the pool's thread, which collects from now on, is among them
                else:
                    self._follow(waiter, pause)
                if left == 0:
                    return
        finally:
            if self._followers:
                self._wake(1)  # one of them is the collector from now on, if this thread was, or was to be
        if self._crew.terminated and util.is_exiting() and threading.current_thread() is not threading.main_thread():
            # A daemonic thread, at the end of the program, which has terminated the pool. What it raised would be
            # printed last, and is nobody's error.
            while True:
                time.sleep(3600)

    def watch(self):
        """Start the pool's thread, so that results are collected even if nobody asks for them.

        Where that is impossible, they are collected when a call of the pool or of a result is made.
        """
        if self._thread is None and stdlib.are_threads_real():
            try:
                self._start()
            except RuntimeError as error:
                util.info("nobody but the pool's callers collects its results: %s", error)

    def _attend(self, left):
        """Have a worker tried again, if workers could not begin and the pause is over.

        Returns how many seconds to wait next: until the end of the pause, at most left if that is not None.
        """
        if reason := self._crew.attend():
            self.run(lambda: self._give_up(reason))
        if (due := self._crew.due) is None:
            return left
        pause = max(due - time.monotonic(), 0.001)
        return pause if left is None else min(pause, left)

    def _give_up(self, reason):
        """Fail all pending tasks, and have none of them run later."""
        self._crew.withdraw()
        self.fail_all(reason)

    def see_to_workers(self):
        """If workers are to be tried again later, have the pool's thread do that, as nobody may wait for a result."""
        if self._crew.due is not None:
            if self._serving:
                self._port.wake()
            else:
                self.watch()
                self._port.rouse()

    def serve(self):
        """Have the pool's thread, and nobody else, collect from now on."""
        self._start()
        if not self._serving:
            self._serving = True
            self._port.wake()  # the present collector leaves that to it
            self._port.rouse()

    def _start(self):
        with _native.held_signals, self._starting:  # in this order: a handler may use the pool
            if self._thread is None and not self._closing:
                thread = OwnThread("goproc-pool", self._run)
                thread.start()
                self._thread = thread

    def _run(self):
        try:
            with self._starting:
                pass  # wait until _start() has noted it as the pool's thread
            while not self._serving:
                if self._closing:
                    return
                self._port.watch(None if self._crew.due is None else self._attend(None))
                self.poll()
            self.wait(_Never)
        except EngineError:
            pass  # threads that wait for a result get the same error
        except ValueError:
            if not self._closing:  # else the port has been closed just now
                raise
        finally:
            self._thread = None
            self._serving = False
            self._wake(len(self._followers))

    def _may_collect(self):
        """Whether this thread may be the collector. While the pool's thread serves, only that one may."""
        return not self._closing and (not self._serving or self._thread is threading.current_thread())

    def finish(self):
        """Hand on what the engine completed when the pool was terminated, and cancel all other results."""
        thread = self._thread
        self._closing = True
        while True:
            with self._turn as depth:
                if depth:
                    self._finish(depth)
                    break
            self._port.wake()
            time.sleep(0.0005)  # another thread is the collector, and leaves
        self._port.rouse()
        self._wake(len(self._followers))
        if thread not in (None, threading.current_thread()):
            thread.join()

    def _finish(self, depth):
        """If a signal handler interrupts this, the next call, or one by the handler, does it again."""
        if not self.closed:
            self._collect(0, depth)  # this may only take up an earlier wake()
        while not self.closed and self._collect(0, depth):
            pass
        self.closed = True
        for result in list(self._cache.values()):
            self._cancel(result)
        self._port.close()

    def _cancel(self, result):
        result._fail(CancelledError(self.why_terminated))

    def run(self, function):
        """Have the collector call function, which completes a result by other means than collecting."""
        if self.closed:
            function()  # nobody collects any more
            return
        self._pending.append((None, None, _TO_CALL, function))
        self._port.wake()
        self.poll()
        if self.closed:
            function()  # a signal handler has terminated the pool meanwhile

    def wake(self):
        """Have the waiting threads check whether they have what they wait for: it has come by other means."""
        if not self.closed:
            self._port.wake()
        self._wake(0)

    def fail_all(self, error):
        """Complete every result with an exception."""
        for result in list(self._cache.values()):
            result._fail(error)

    def _follow(self, waiter, timeout):
        gate = threading.Lock()
        gate.acquire()
        follower = (waiter, gate)
        try:
            self._followers.append(follower)
            # The collector looks for followers when it has let go of the turn: either it sees this one, or the turn is
            # free.
            free = False
            if self._may_collect():
                with self._turn as depth:
                    free = depth > 0
            if not free and not self.closed:
                # The wake may be lost, when a signal handler raises in the collector.
                gate.acquire(timeout=_PATIENCE if timeout is None else min(timeout, _PATIENCE))
        finally:
            try:
                self._followers.remove(follower)
            except ValueError:
                pass  # it was woken

    def _wake(self, others):
        """Wake the threads whose results have come, and that many others, of which one becomes the collector."""
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

    def _collect(self, timeout, depth):
        """Collect and hand on. depth: how often this thread has the turn. Return whether anything was collected."""
        pending = self._pending
        # A callback, or what is unpickled, may wait for another result, and so come here again: what it needs may be
        # behind the one that is being handed on.
        at = self._handing if depth > 1 else 0
        # pending may hold items whose handing on a signal handler has interrupted.
        frames = self._port.collect(timeout if len(pending) <= at else 0, pending.extend)
        if pending:
            self._handing = at + 1
            try:
                self._hand_on(pending, at)
            finally:
                self._handing = at
        if self._followers:
            self._wake(0)
        return bool(frames)

    def _hand_on(self, pending, at):
        """Hand on what is pending, from index at on.

        A signal handler may raise anywhere in here. So each item stays where it is until it has been handed on. Handing
        it on again, from the beginning, changes nothing.
        """
        cache, loads = self._cache, ForkingPickler.loads
        plain = context.reduction is reduction  # the program has set no reducer of its own
        while len(pending) > at:
            item = pending[at]
            job, index, kind, payload = item
            if kind is _TO_CALL:
                payload()
                del pending[at]
                continue
            result = cache.get(job)
            if kind == _RESULT or kind == _FAILURE:
                if result is None and job != NO_JOB:
                    del pending[at]
                    continue
                success = kind == _RESULT
                try:
                    value = loads(payload) if type(payload) is bytes and plain else decode(payload)
                    if not success:
                        from .describe import note_item

                        offset, value = value[0], unpacked(value)
                        note_item(value, result, index, offset)
                except BaseException as error:
                    if raised_by_handler(error):
                        raise
                    if self._interrupted is not item and isinstance(error, KeyboardInterrupt):
                        self._interrupted = item  # if it raises that again, the payload itself does
                        raise
                    success, value = False, undecodable(error, payload)
            elif kind == _native.EXITED:
                pid, exitcode, served = map(int, payload.split())
                serial = self._crew.serial(pid)
                if reason := self._crew.exited(pid, exitcode, bool(served)):
                    self._give_up(reason)
                self.see_to_workers()
                if serial is not None:
                    self._port.forget(serial)
                del pending[at]
                continue
            elif kind == _native.LOST or kind == _native.TIMEOUT or kind == _native.RETRIED:
                from .describe import ended

                success, value = False, ended(kind, payload, result, index)
                if kind == _native.RETRIED:
                    del pending[at]
                    continue
            else:
                terminated = self._crew.terminated
                success, value = False, CancelledError(self.why_terminated if terminated else "the task was cancelled")
                if getattr(result, "_cancelling", False):  # an iteration: cancel() fails it as a whole, once
                    del pending[at]
                    continue
            if result is not None:
                result._set(index, (success, value))
            elif job == NO_JOB and kind == _FAILURE:
                self._crew.could_not_begin(value)
            del pending[at]
            item = payload = result = value = None


class _Never:
    """What the pool's own thread waits for."""

    done = False
