"""Stand-ins for the private parts of multiprocessing's Pool, which the engine's Pool does not have.

Some programs look at these parts: how many tasks wait (`_taskqueue.qsize()`), whether a thread is alive
(`_result_handler.is_alive()`). Others submit tasks through them: for an `istarmap` they make a result themselves,
IMapIterator(pool), and put (task generator, result._set_length) into `_taskqueue`. Both work here.

To read from a pool's queues, or to hand them to another process, raises NotImplementedError: nothing is in them. A
class that overrides such parts gets the pool of queue_pool.py, which has them.

Imported at the first access. Each access makes a new stand-in, so that a pool is in no reference cycle.
"""

import threading

from .._common import calls, stdlib
from .._common.threads import OwnThread
from ..errors import EngineError
from . import queue_pool
from .codec import CALL, by_name, encode, outlined
from .failures import interrupts
from .parts import standard_pool as _standard
from .results import MapResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass  # as in engine_pool.py

__all__ = ["make_result", "stand_in"]

#: How far ahead of the workers a generator is read: by that many tasks and bytes for each worker, but by two at least.
_AHEAD, _BYTES_AHEAD = 128, 64 << 10


def stand_in(owner, name):
    """Return what stands for the attribute of that name of a pool that the engine drives."""
    return _STAND_INS[name](owner)


def of_engine(part):
    """Return the pool that the stand-in belongs to, None if it is no stand-in."""
    return part.owner if isinstance(part, _Part) else None


class _Part:
    def __init__(self, owner):
        self.owner = owner

    def __reduce__(self):
        raise NotImplementedError(_NO_QUEUES)


_NO_QUEUES = (
    "goproc's pool has no queues between its processes, so there is nothing to read from them or to hand to a process; "
    "a class derived from Pool that overrides _setup_queues gets a pool that has"
)


class _TaskQueue(_Part):
    """For the queue of what apply_async and the like have submitted."""

    def put(self, work, block=True, timeout=None):
        """Submit (tasks, set_length): tasks are (job, index, func, args, kwds), set_length is told how many.

        A generator is read in a thread, as in multiprocessing; a list or a tuple at once. None is ignored.
        """
        if work is None:
            return
        tasks, set_length = work
        feeder = _Feeder(self.owner, tasks, set_length)
        if type(tasks) in (list, tuple):
            feeder.feed()
        else:
            feeder.start()

    put_nowait = put

    def qsize(self):
        """Return how many tasks no worker has begun."""
        owner = self.owner
        owner._dispatch.poll()
        return max(0, _pending(owner) - len(owner._pool))

    def empty(self):
        """Return whether no task waits for a worker."""
        return not self.qsize()

    def get(self, block=True, timeout=None):
        """Raise NotImplementedError: a task that has been submitted cannot be taken back."""
        raise NotImplementedError(_NO_QUEUES)

    get_nowait = get


class _Queue(_Part):
    """For the queues to and from the workers."""

    def get(self):
        """Raise NotImplementedError."""
        raise NotImplementedError(_NO_QUEUES)

    recv = get

    def fileno(self):
        """Raise NotImplementedError."""
        raise NotImplementedError(_NO_QUEUES)

    @property
    def _rlock(self):
        """A lock that nobody else has: no process reads or writes here."""
        return threading.Lock()

    _wlock = _rlock

    def close(self):
        """Do nothing: there is nothing to close."""

    def poll(self, timeout=0.0):
        """Return whether there is something in it."""
        return not self.empty()

    @property
    def _reader(self):
        return self

    _writer = _reader


class _InQueue(_Queue):
    def put(self, task):
        """Submit the task (job, index, func, args, kwds)."""
        if task is not None:
            _TaskQueue(self.owner).put(([task], None))

    send = put

    def empty(self):
        """Return whether no task waits for a worker."""
        return _TaskQueue(self.owner).empty()


class _OutQueue(_Queue):
    def put(self, answer):
        """Complete the task of (job, index, (success, value))."""
        if answer is not None:
            job, index, value = answer
            _complete(self.owner, job, index, value)

    send = put

    def empty(self):
        """Return True: what workers send is handed on at once."""
        self.owner._dispatch.poll()
        return True


class _Notifier(_OutQueue):
    def put(self, value):
        """Have the pool collect what has come."""
        self.owner._dispatch.poll()

    send = put


class _Handler(_Part):
    """For one of the threads that multiprocessing's pool has."""

    daemon = True
    ident = native_id = None  # there is no such thread

    def __init__(self, owner, name):
        super().__init__(owner)
        self.name = name

    @property
    def _state(self):
        return _standard.TERMINATE if self.owner._crew.terminated else self.owner._state

    @_state.setter
    def _state(self, state):
        if self.name == "_worker_handler" and state == _standard.TERMINATE:
            self.owner._crew.replacing = False  # programs that kill the workers themselves want no others

    def is_alive(self):
        """Return whether the pool can still do something."""
        crew = self.owner._crew
        self.owner._dispatch.poll()
        return not crew.terminated and not crew.done

    def join(self, timeout=None):
        """Wait until all workers have ended, at most timeout seconds."""
        owner = self.owner
        if owner._terminate.still_active():
            owner._dispatch.wait(owner._crew, timeout)


def _results(owner):
    owner._dispatch.poll()
    return owner._results


_STAND_INS = {
    "_cache": _results,
    "_taskqueue": _TaskQueue,
    "_inqueue": _InQueue,
    "_outqueue": _OutQueue,
    "_quick_put": lambda owner: _InQueue(owner).put,
    "_quick_get": lambda owner: _OutQueue(owner).get,
    "_change_notifier": _Notifier,
    "_worker_handler": lambda owner: _Handler(owner, "_worker_handler"),
    "_task_handler": lambda owner: _Handler(owner, "_task_handler"),
    "_result_handler": lambda owner: _Handler(owner, "_result_handler"),
}


def _pending(owner):
    """Return how many tasks are queued, or with workers."""
    try:
        return calls.pool_pending(owner._crew.number)
    except (calls.PoolGoneError, EngineError):
        return 0  # it has ended


def _complete(owner, job, index, value):
    """Complete a task by other means than a worker."""

    def complete():
        result = owner._results.get(job)
        if result is not None:
            result._set(index, value)

    owner._dispatch.run(complete)


class _Feeder:
    """Submits what a program has put into `_taskqueue`, as multiprocessing's thread for that does."""

    def __init__(self, owner, tasks, set_length):
        self._owner, self._tasks, self._set_length = owner, tasks, set_length
        self._count = self._bytes = 0  # what has been handed in
        self._waits = False

    def start(self):
        """Feed from a thread; the pool does not close before that is done."""
        self._waits = True
        self._thread = OwnThread("goproc-tasks", self._run)
        self._owner._feeders.add(self)
        self._thread.start()

    def _run(self):
        try:
            self.feed()
        finally:
            self._owner._feeders.discard(self)
            self._owner._close_when_fed()

    def _read_all(self):
        """The pool is being joined."""
        self._thread.join()

    def feed(self):
        """Submit all tasks, and tell set_length how many there were."""
        owner, task = self._owner, None
        try:
            for task in self._tasks:
                self._hand_in(*task)
                if self._waits:
                    if not self.done:
                        owner._dispatch.wait(self)
                    if owner._crew.terminated:
                        return
        except Exception as error:
            if owner._crew.terminated:
                return
            if not self._waits:
                raise
            self._fail(task, error)
        else:
            if self._set_length:
                self._set_length(task[1] + 1 if task else 0)

    def _fail(self, task, error):
        """Fail the result of the tasks: no more of them can be read or submitted."""
        result = getattr(self._set_length, "__self__", None) or self._owner._results.get(task and task[0])
        if result is None:
            raise error
        self._owner._dispatch.run(lambda: result._fail(error))

    def _hand_in(self, job, index, func, args, kwds):
        owner = self._owner
        if stdlib.reraises(func):  # the iterable has raised that
            return _complete(owner, job, index, (False, *args))
        error = owner._crew.broken and owner._submitter.try_again()
        if error is None:
            try:
                stream, buffers = encode((CALL, by_name(func), outlined(args), kwds))
            except BaseException as reason:
                if interrupts(reason):
                    raise
                error = reason
        if error is not None:
            return _complete(owner, job, index, (False, error))
        self._count += 1
        pieces = (stream,) if type(stream) is bytes else stream
        self._bytes += sum(map(len, pieces)) + sum(buffer.raw().nbytes for buffer in buffers or ())
        owner._port.submit(job, index, stream, buffers)

    @property
    def done(self):
        """Whether there is room for another task."""
        owner = self._owner
        if owner._crew.terminated:
            return True
        ahead = max(2, min(_AHEAD, _BYTES_AHEAD * self._count // (self._bytes or 1)))
        return _pending(owner) < ahead * len(owner._pool)


def map_by(owner, func, iterable, mapper, chunksize, callback, error_callback):
    """Do what Pool._map_async does, with the program's own mapper, which is called with (func, items) in a worker."""
    owner._check_running()
    if not hasattr(iterable, "__len__"):
        iterable = list(iterable)
    length = len(iterable)
    if chunksize is None:
        chunksize = -(-length // (owner._processes * 4))
    result = MapResult(owner, chunksize if length else 0, length, callback, error_callback)
    if length:
        tasks = owner._guarded_task_generation(result._job, mapper, owner._get_tasks(func, iterable, chunksize))
        owner._taskqueue.put((tasks, None))
    return result


def make_result(result, base, owner, *arguments):
    """Initialize a result that the program makes itself. base: the class in queue_pool that it behaves like."""
    queue_pool.make_by_hand(result, base, owner, *arguments)
    dispatch = getattr(owner, "_dispatch", None)
    if dispatch is None:
        return  # of a pool with queues
    dispatch.watch()
    if hasattr(result, "_cond"):
        result._cond = _Condition(dispatch)
    else:
        result._event = _Event(dispatch, result._event.is_set())
        if result._callback or result._error_callback:
            dispatch.serve()


class _Event(threading.Event):
    """An event. A thread that waits for it collects results."""

    def __init__(self, dispatch, is_set):
        super().__init__()
        self._dispatch = dispatch
        if is_set:
            super().set()

    @property
    def done(self):
        return super().is_set()

    def is_set(self):
        if not super().is_set():
            self._dispatch.poll()
        return super().is_set()

    def wait(self, timeout=None):
        self._dispatch.wait(self, timeout)
        return super().is_set()

    def set(self):
        super().set()
        self._dispatch.wake()


class _Condition(threading.Condition):
    """A condition. A thread that waits for it collects results."""

    def __init__(self, dispatch):
        super().__init__(threading.Lock())
        self._dispatch = dispatch
        self._notified = 0

    def wait(self, timeout=None):
        waiter = _Notified(self)
        self.release()
        try:
            self._dispatch.wait(waiter, timeout)
        finally:
            self.acquire()
        return waiter.done

    def notify(self, n=1):
        self._notified += 1
        self._dispatch.wake()


class _Notified:
    def __init__(self, condition):
        self._condition, self._before = condition, condition._notified

    @property
    def done(self):
        return self._condition._notified != self._before
