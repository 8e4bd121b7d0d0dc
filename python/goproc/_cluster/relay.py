"""The engine's pool of one machine: tasks go in, and results come out, as bytes. Used by machine.py.

    give() ──▶ held ──grant()──▶ granted ──▶ port.submit ──▶ the machine's workers
    take() ◀── frames ◀────────────────────── port.collect, by the thread of this class

Only a task that is granted may begin. No more tasks are given to the engine than keep the workers busy: the others can
still be recalled.
"""

import os
import pickle
import threading
import time
from collections import deque
from multiprocessing import process

from .. import _native
from .._common import calls, start_methods
from .._common.nameless import create
from .._common.sharing import Shared
from .._common.threads import OwnThread
from .._pool.blas_threads import for_workers
from .._pool.codec import BY_NAME, NO_JOB, decode
from .._pool.failures import packed, unpacked
from .._pool.machinery import Machinery, NoEngine, quietly, terminate
from .._pool.worker import Plan
from ..errors import EngineError
from .arriving import Begin
from .log_source import LogSource
from .messages import as_buffer

__all__ = ["Relay"]

#: Seconds of work that the engine is given ahead of the workers.
_AHEAD = 0.01

#: Parts that have come together: their worker may wait until the program has taken them.
_PARTS = 32

#: Seconds between two looks at the lease.
_LOOK = 0.25


class Relay:
    """The pool of one machine. settings: a dict, made by pool.py. ring: called, in any thread, when there is news.

    Raises what Pool raises if its workers cannot be started.
    """

    def __init__(self, settings, ring):
        # The process of a Dask worker may be a daemon of multiprocessing, which may have no children. Those of a pool
        # end with this process in any case.
        process.current_process()._config["daemon"] = False
        context = start_methods.default.get_context(settings["start_method"])
        if settings["start_method"] == "forkserver":
            context.set_forkserver_preload(["goproc._pool.worker", "goproc._cluster.arriving"])
        self._contents: dict[bytes, Shared] = {}  # by token
        self.keep_contents(settings["contents"])
        self.processes = settings["processes"]
        self.lost_after = settings["lost_after"]
        self._retries = settings["retries"]
        plan = Plan(
            initializer=Begin(settings["initializer"], settings["sys_path"], os.getpid()),
            initargs=(),
            maxtasks=settings["maxtasks"],
            wrap_exception=True,
            pickler="cloudpickle",
            max_memory=settings["max_memory"],
            task_memory=settings["task_memory"],
            threads=for_workers(settings["threads"], self.processes, settings["start_method"], None),
            nested=settings["nested"],
        )
        self.workers: list = []
        self._ring = ring
        self.log: LogSource | None = None  # if the workers' log records go to the main program
        make_process = _process
        if settings["log"] is not None:
            self.log = LogSource(settings["log"], settings["name"], ring)
            make_process = self.log.marking(_process)
        try:
            machinery = Machinery(
                context, make_process, self.processes, self.workers, {}, plan, BY_NAME, retries=self._retries
            )
        except BaseException as error:
            if self.log is not None:
                self.log.give_up()
                self.log.close(wait=False)
            if isinstance(error, NoEngine):
                raise error.reason from None
            raise
        self._port, self._crew, self._dispatch = machinery.port, machinery.crew, machinery.dispatch
        self._control = self._crew.control
        self._lock = threading.RLock()
        self._held: dict = {}  # by position: tasks that may not begin yet
        self._granted: deque = deque()  # tasks that may begin, and that the engine does not have
        self._given = 0  # the position after the last task that has come
        self.fed = 0  # the tasks below this position have been given to the engine
        self._frames: list = []
        self._bytes = 0  # of the frames
        self._rate = 0.0  # tasks that end in a second
        self._ended_tasks, self._since = 0, _native.monotonic()
        self.done = self.lost = 0  # tasks that have ended, and those whose worker was lost or ended
        self._program = settings["program"]
        self.recalled: list = []
        self.broken: bytes | None = None
        self.seen = _native.monotonic()  # when the main program was last heard of
        self._closing = self._terminating = False
        self.ended = False
        self._thread = OwnThread("goproc-machine", self._run)
        self._thread.start()

    # ---- called on the event loop of the Dask worker

    def give(self, tasks):
        """Take tasks; they are held until they are granted. tasks: as in messages.Order."""
        with self._lock:
            for task in tasks:
                self._held[task[0]] = task
                self._given = task[0] + 1

    def grant(self, position):
        """Let the tasks below a position begin."""
        with self._lock:
            held = self._held
            while held and (first := next(iter(held))) < position:
                self._granted.append(held.pop(first))
            self._feed()

    def drop(self, positions):
        """Forget tasks that are held."""
        with self._lock:
            for at in positions:
                self._held.pop(at, None)

    def keep_contents(self, contents):
        """Keep the contents of shared objects in memory that the workers can map. contents: by token."""
        for token, content in contents.items():
            if content is not None and token not in self._contents:
                made = create([content], "shares")
                if made is not None:
                    self._contents[token] = Shared(token, *made)

    def _do_forget(self, tokens):
        for token in tokens:
            handle = self._contents.pop(token, None)
            if handle is not None:
                handle.close()

    def call(self, name, *arguments):
        """Do what the main program asks for; see messages.Order."""
        getattr(self, f"_do_{name}")(*arguments)

    def _do_cancel(self, job):
        with self._lock:
            self._held = {at: task for at, task in self._held.items() if task[1] != job}
            self._granted = deque(task for task in self._granted if task[1] != job)
        quietly(self._control.cancel, job)
        self._port.wake()

    def _do_taken(self, job, index, part):
        quietly(self._control.taken, job, index, part)

    def _do_recall(self, count, jobs):
        """Give back `count` granted tasks that no worker has begun: the last ones that the engine does not have.

        If there are fewer, the engine withdraws all tasks of jobs that have not begun, because it withdraws tasks by
        their jobs only. They complete as cancelled, see _keep().
        """
        with self._lock:
            while self._granted and count > 0:
                _, job, index, number, *_ = self._granted.pop()
                self.recalled += [(job, index + at) for at in range(number)]
                count -= number
        if count > 0:
            for job in jobs:
                quietly(self._control.withdraw, job)
            self._port.wake()
        self._ring(True)

    def _do_mark(self, number):
        if self.log is not None:
            self.log.mark(number)

    def _do_close(self):
        self._closing = True
        self._port.wake()

    def _do_terminate(self):
        self._terminating = True
        self._port.wake()

    def take(self):
        """Return the frames that have come since the last call."""
        with self._lock:
            frames, self._frames, self._bytes = self._frames, [], 0
            return frames

    @property
    def has_news(self):
        """Whether a poll has something to return."""
        if self._frames or self.recalled or self.broken is not None:
            return True
        if self.log is None:
            return self.ended
        return self.log.has_news or (self.ended and self.log.is_done)

    def report(self):
        """Return what this pool does, for `goproc cluster`: numbers, by name; the main program; the workers' pids."""
        with self._lock:
            pending = quietly(self._control.pending) or 0
            running = min(pending, self.processes)
            waiting = pending - running + sum(task[3] for task in (*self._granted, *self._held.values()))
        pids = [process.pid for process in list(self.workers)]
        numbers = {"running": running, "waiting": waiting, "done": self.done, "lost": self.lost}
        return {**numbers, "program": self._program, "pids": pids}

    # ---- the thread

    def _feed(self):
        """Give the engine as many of the granted tasks as keep the workers busy. The caller holds the lock."""
        if not self._granted or self._terminating:
            return
        try:
            pending = self._control.pending()
            if self._crew.broken is not None and (error := self._crew.try_again()) is not None:
                self._give_up(error)
                return
            most = 2 * self.processes + int(self._rate * _AHEAD)
            while self._granted and pending < most:
                position, job, index, count, stream, buffers, limits, retries = self._granted[0]
                for at, microseconds in limits or ():
                    self._control.limit(job, at, microseconds)
                for at, number in retries or ():
                    self._control.retry(job, at, number)
                self._port.submit(job, index, stream, buffers, count)
                self._granted.popleft()
                self.fed = max(self.fed, position + 1)
                pending += count
                stream = buffers = None
        except (EngineError, calls.PoolGoneError, ValueError):
            pass  # the pool is being ended
        except (MemoryError, OSError) as error:
            self._granted.popleft()
            self._frames.append((job, index, _native.FAILURE, pickle.dumps(packed(error, True), 5)))

    def _run(self):
        try:
            while not self.ended:
                self._turn()
        except (EngineError, ValueError) as error:
            self._give_up(error)
        finally:
            self._finish()
            self._do_forget(list(self._contents))

    def _turn(self):
        now = _native.monotonic()
        if self._terminating or now - self.seen > self.lost_after:
            self.ended = True
            return
        if self._closing and not self._granted and not self._held and not self._crew.closing:
            self._crew.closing = True
            quietly(self._control.close)
        if self._crew.closing and self._crew.done:
            self.ended = True
            return
        pause = _LOOK
        if self._crew.retry_at is not None:
            if reason := self._crew.retry_if_due():
                self._give_up(reason)
            if self._crew.retry_at is not None:
                pause = min(pause, max(self._crew.retry_at - now, 0.001))
        frames = self._port.collect(pause)
        if frames:
            self._keep([frame for frame in frames if self._is_of_task(*frame)])

    def _keep(self, frames):
        size = count = lost = 0
        recalled = [(job, index) for job, index, kind, _ in frames if kind == _native.CANCELLED]
        if recalled:
            frames = [frame for frame in frames if frame[2] != _native.CANCELLED]
        for at, (job, index, kind, payload) in enumerate(frames):
            if type(payload) is tuple:
                stream, buffers = payload
                size += memoryview(stream).nbytes + sum(memoryview(buffer).nbytes for buffer in buffers)
                payload = as_buffer(stream), [as_buffer(buffer) for buffer in buffers]
                frames[at] = job, index, kind, payload
            elif isinstance(payload, BaseException):
                frames[at] = job, index, _native.FAILURE, pickle.dumps(packed(payload, True), 5)
            else:
                size += len(payload)
            if kind != _native.PART and kind != _native.RETRIED:
                number = index[1] if type(index) is tuple else 1
                count += number
                if kind not in (_native.RESULT, _native.FAILURE):
                    lost += number
        with self._lock:
            self.lost += lost
            self.done += count - lost
            self._frames += frames
            self._bytes += size
            self.recalled += recalled
            self._measure(count)
            self._feed()
            parts = sum(frame[2] == _native.PART for frame in self._frames)
            urgent = parts >= _PARTS or self._bytes > 4 << 20 or self._pending() < self.processes
        if frames or recalled:
            self._ring(urgent or bool(recalled))

    def _pending(self):
        try:
            return self._control.pending() + len(self._granted)
        except (EngineError, calls.PoolGoneError):
            return 0

    def _measure(self, count):
        """Measure how many tasks end in a second."""
        self._ended_tasks += count
        now = _native.monotonic()
        if now - self._since >= 0.02:
            rate = self._ended_tasks / (now - self._since)
            self._rate = rate if not self._rate else (self._rate + rate) / 2
            self._ended_tasks, self._since = 0, now

    def _is_of_task(self, job, index, kind, payload):
        """Whether a frame is about a task. If it is about a worker, do what it calls for."""
        if kind == _native.EXITED:
            pid, exitcode, served = map(int, payload.split())
            serial = self._crew.serial(pid)
            if reason := self._crew.exited(pid, exitcode, bool(served)):
                self._give_up(reason)
            if serial is not None:
                self._port.forget(serial)
            return False
        if job == NO_JOB:
            if kind == _native.FAILURE:
                self._crew.could_not_begin(unpacked(decode(payload)), index)
            return False
        return True

    def _give_up(self, reason):
        """Report that no worker can begin. The main program decides about the tasks."""
        from .._common.by_value import dumps

        with self._lock:
            self._held.clear()
            self._granted.clear()
            quietly(self._control.cancel_all)
            try:
                cause = reason.__cause__
                self.broken = pickle.dumps((dumps(reason), None if cause is None else packed(cause, True)), 5)
            except Exception:
                self.broken = pickle.dumps((pickle.dumps(RuntimeError(repr(reason))), None), 5)
        self._ring(True)

    def _finish(self):
        self.ended = True
        with self._lock:
            self._held.clear()
            self._granted.clear()
        try:
            terminate(self._crew, self._dispatch)
        except EngineError:
            pass
        self._end_log()
        self._ring(True)

    def _end_log(self):
        """Let the program take the log records that are left, unless it is gone."""
        if self.log is None:
            return
        self.log.close(wait=False)
        while not self.log.is_done and _native.monotonic() - self.seen <= self.lost_after:
            time.sleep(_LOOK)
        self.log.give_up()


def _process(context, *args, **kwds):
    """Make a Process object that does not import the main module of the Dask worker's program."""
    made = context.Process(*args, **kwds)
    made._without_main = True  # spawn.py looks for this
    start_methods.bind_children()
    return made
