"""Stand-ins for private parts of multiprocessing's Pool that the engine's Pool does not have.

Some programs read these parts: how many tasks wait (`_taskqueue.qsize()`), or whether a thread is alive
(`_result_handler.is_alive()`). Some programs submit tasks through them. An `istarmap`, for instance, makes a result
itself, IMapIterator(pool), and puts (task generator, result._set_length) into `_taskqueue`. Both work here.

Reading from a pool's queues, or handing them to another process, raises NotImplementedError: nothing is in them. A
class that overrides such a part gets the queue-driven pool (queue_pool.py), which has these queues.

Used by parts.py, which imports this module at the first access. Each access makes a new stand-in, so that a pool is in
no reference cycle.
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

#: How far ahead of the workers a generator is read: the most tasks and bytes for each worker; two tasks in any case.
_AHEAD, _BYTES_AHEAD = 128, 64 << 10


def stand_in(owner, name):
    """Return the stand-in for the attribute `name` of owner, a pool of the engine."""
    return _STAND_INS[name](owner)


def of_engine(part):
    """Return the pool that a stand-in belongs to, None if part is not a stand-in."""
    return part.owner if isinstance(part, _Part) else None


class _Part:
    def __init__(self, owner):
        self.owner = owner

    def __reduce__(self):
        raise NotImplementedError(_NO_QUEUES)


_NO_QUEUES = (
    "goproc's pool has no queues between its processes, so there is nothing to read from them or to hand to a process; "
    "a class derived from Pool that overrides _setup_queues gets a pool that has queues"
)


class _TaskQueue(_Part):
    """Stands for the queue of the tasks that apply_async and the like have submitted."""

    def put(self, work, block=True, timeout=None):
        """Submit work, a tuple (tasks, set_length). Do nothing if work is None.

        tasks: an iterable of (job, index, func, args, kwds). A list or a tuple is submitted at once; another iterable
        is read in a thread, as in multiprocessing. set_length: called with the number of tasks, unless it is None.
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
        """Return about how many tasks no worker has begun."""
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
    """The base of the stand-ins for the queues to and from the workers."""

    def get(self):
        """Raise NotImplementedError."""
        raise NotImplementedError(_NO_QUEUES)

    recv = get

    def fileno(self):
        """Raise NotImplementedError."""
        raise NotImplementedError(_NO_QUEUES)

    @property
    def _rlock(self):
        """A new lock, which is free: no process reads or writes here."""
        return threading.Lock()

    _wlock = _rlock

    def close(self):
        """Do nothing."""

    def poll(self, timeout=0.0):
        """Return whether the queue has an item."""
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
        """Complete the task index of a job. answer: a tuple (job, index, (success, value))."""
        if answer is not None:
            job, index, value = answer
            _complete(self.owner, job, index, value)

    send = put

    def empty(self):
        """Return True: what workers send is delivered at once."""
        self.owner._dispatch.poll()
        return True


class _Notifier(_OutQueue):
    def put(self, value):
        """Collect the results that have come."""
        self.owner._dispatch.poll()

    send = put


class _Handler(_Part):
    """Stands for a thread of multiprocessing's pool."""

    daemon = True
    ident = native_id = None  # as of a thread that has not been started

    def __init__(self, owner, name):
        super().__init__(owner)
        self.name = name

    @property
    def _state(self):
        return _standard.TERMINATE if self.owner._crew.terminated else self.owner._state

    @_state.setter
    def _state(self, state):
        if self.name == "_worker_handler" and state == _standard.TERMINATE:
            self.owner._crew.replacing = False  # programs do this before they kill the workers: start no new ones

    def is_alive(self):
        """Return whether the pool still has workers, and has not been terminated."""
        crew = self.owner._crew
        self.owner._dispatch.poll()
        return not crew.terminated and not crew.done

    def join(self, timeout=None):
        """Wait until all workers have ended, for at most timeout seconds."""
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
    """Return how many tasks are submitted and not done."""
    try:
        return owner._crew.control.pending()
    except (calls.PoolGoneError, EngineError):
        return 0  # the pool has ended


def _complete(owner, job, index, value):
    """Complete a task that no worker has run. value: (success, result or exception)."""

    def complete():
        result = owner._results.get(job)
        if result is not None:
            result._set(index, value)

    owner._dispatch.run(complete)


class _Feeder:
    """Submits the tasks that a program has put into `_taskqueue`, as multiprocessing's task handler thread does."""

    def __init__(self, owner, tasks, set_length):
        self._owner, self._tasks, self._set_length = owner, tasks, set_length
        self._count = self._bytes = 0  # the number and the size of the submitted tasks
        self._in_thread = False

    def start(self):
        """Call feed() in a thread. The pool does not close before that is done."""
        self._in_thread = True
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
        """Wait until all tasks are submitted. join() calls it."""
        self._thread.join()

    def feed(self):
        """Submit all tasks, and tell set_length how many there were."""
        owner, task = self._owner, None
        try:
            for task in self._tasks:
                self._hand_in(*task)
                if self._in_thread:
                    if not self.done:
                        owner._dispatch.wait(self)
                    if owner._crew.terminated:
                        return
        except Exception as error:
            if owner._crew.terminated:
                return
            if not self._in_thread:
                raise
            self._fail(task, error)
        else:
            if self._set_length:
                self._set_length(task[1] + 1 if task else 0)

    def _fail(self, task, error):
        """Fail the result that the tasks belong to: no more tasks can be read or submitted."""
        result = getattr(self._set_length, "__self__", None) or self._owner._results.get(task and task[0])
        if result is None:
            raise error
        self._owner._dispatch.run(lambda: result._fail(error))

    def _hand_in(self, job, index, func, args, kwds):
        owner = self._owner
        if stdlib.reraises(func):  # reading the iterable has raised args[0]
            return _complete(owner, job, index, (False, *args))
        error = owner._crew.broken and owner._submitter.try_again()
        if error is None:
            form = owner._submitter.form
            try:
                stream, buffers = encode(
                    (CALL, by_name(func, form), outlined(args), kwds), form, owner._submitter.watch
                )
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
        """Whether another task may be submitted now."""
        owner = self._owner
        if owner._crew.terminated:
            return True
        ahead = max(2, min(_AHEAD, _BYTES_AHEAD * self._count // (self._bytes or 1)))
        return _pending(owner) < ahead * len(owner._pool)


def map_by(owner, func, iterable, mapper, chunksize, callback, error_callback):
    """Do what Pool._map_async does, with the program's own mapper, which a worker calls with (func, items)."""
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
    """Initialize a result that the program itself makes. base: the class of queue_pool.py that it behaves like."""
    queue_pool.make_by_hand(result, base, owner, *arguments)
    dispatch = getattr(owner, "_dispatch", None)
    if dispatch is None:
        return  # the pool is queue-driven
    dispatch.watch()
    if hasattr(result, "_cond"):
        result._cond = _Condition(dispatch)
    else:
        result._event = _Event(dispatch, result._event.is_set())
        if result._callback or result._error_callback:
            dispatch.serve()


class _Event(threading.Event):
    """An event; a thread that waits for it collects results meanwhile."""

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
    """A condition; a thread that waits for it collects results meanwhile."""

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
    """A waiter for Dispatch.wait(): done once the condition has been notified."""

    def __init__(self, condition):
        self._condition, self._before = condition, condition._notified

    @property
    def done(self):
        return self._condition._notified != self._before
