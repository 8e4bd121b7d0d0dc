"""Queues in shared memory that survive a kill. Mirrors multiprocessing/queues.py.

put() pickles an item itself, and copies it into memory that all processes of the queue share. If there is no room, the
item waits in a buffer of the process, and a thread moves it. The classes derive from the standard library's of the same
names. _native has the mechanism (capi/native/queue), and docs/design/queues.md the reasons. Called by context.py.

    Queue, JoinableQueue    put() does not wait for room, unless the queue has a maxsize
    SimpleQueue             put() waits for room
"""

import collections
import contextlib
import copyreg
import os
import sys
import threading
import weakref
from multiprocessing import context as _context
from multiprocessing import reduction as _reduction
from multiprocessing import util as _util
from queue import Empty, Full

from . import _native
from ._common import cooperative, queue_types, stdlib
from ._common.own_pickler import QUEUES
from ._pool.codec import OUT_OF_BAND, encode, sent, sent_by_me
from ._pool.failures import interrupts
from .errors import ConsumerLostError, ProducerLostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing import queues as _standard
    from typing import Any
else:
    _standard = stdlib.standard_module("queues")

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

_native.set_queue_names(QUEUES, Empty, Full, ConsumerLostError, ProducerLostError)

#: How _native.Queue._put() puts: if there is room; only count it as one in the buffer; wait for room; only wait for a
#: place, as there are items in the buffer already.
_IF_ROOM, _COUNT, _WAIT, _PLACE = range(4)

#: For _native.Queue._close_ends() and _ends().
_BOTH_ENDS = 3

#: How long the thread waits for more items before it ends, in seconds.
_LINGER = 1.0

#: In the buffer: the thread is to end.
_END = None


def _encoded(obj):
    """Pickle an item: return the first two arguments of _native.Queue._put()."""
    if type(obj) is bytes and len(obj) >= OUT_OF_BAND and QUEUES.own() is None:
        return obj, True
    encoded = encode(obj)
    if sent:  # handles of shared objects: nobody else may hold them until they have arrived
        from ._common import sharing

        sharing.fly(sent_by_me())
    return encoded


def _unchanging(buffers):
    """Return an item's buffers with the same contents, which the program cannot change: copies of all but bytes.

    buffers: as _native.Queue._put() takes them; only a list is changed.
    """
    if type(buffers) is not list:
        return buffers
    return [
        buffer if type(buffer) is bytearray or type(memoryview(buffer).obj) is bytes else bytearray(buffer.raw())
        for buffer in buffers
    ]


def _files(queue):
    """Return what another process needs to use the queue; only while a process is being started."""
    _context.assert_spawning(queue)
    if queue._for_forks:
        raise RuntimeError(
            "A SemLock created in a fork context is being shared with a process in a spawn context. This is not "
            "supported. Please use the same context to create multiprocessing objects and Process."
        )
    if queue._ends() != _BOTH_ENDS:
        raise OSError("handle is closed")
    return tuple(map(_reduction.DupFd, queue._files()))


class _Part:
    """A private attribute of multiprocessing's queues, which is made when it is first read.

    The classes have no __getattr__ for it: with that, each call of put() and get() would take longer.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, queue: "Any", owner: "type | None" = None) -> "Any":
        if queue is None:
            raise AttributeError(self._name)
        from ._common import queue_ends

        made = queue.__dict__[self._name] = queue_ends.MAKERS[self._name](queue)
        return made


class _Parts:
    """The private attributes that all queues have."""

    #: Whether the queue was made in a fork context. multiprocessing's cannot be sent to a spawned process then.
    _for_forks = False

    _reader, _writer, _rlock, _wlock = _Part(), _Part(), _Part(), _Part()


class _Buffer(collections.deque):
    """The items for which there was no room, and which the thread will move.

    Programs append objects that are not pickled, as multiprocessing's put() does, and then notify the thread.
    """

    def __init__(self, queue):
        super().__init__()
        self._queue = weakref.ref(queue)

    def append(self, obj):
        queue = self._queue()
        encoded = queue._encode(obj)
        if encoded is None:
            return
        stream, buffers = encoded[0], _unchanging(encoded[1])
        with _native.held_signals:
            try:
                queue._put(stream, None, _COUNT, False, None)
            except Full:
                pass  # another process has taken the place that _sem found: there is one item too many for a moment
            self.keep(queue, stream, buffers)

    def keep(self, queue, stream, buffers):
        """Append an item that has been counted. It holds the queue, so the queue lives until all have been moved."""
        super().append((queue, stream, buffers))

    def end(self):
        """Have the thread end when it has moved all items."""
        super().append(_END)


def _reduce(queue):
    """Return what pickle needs to make a queue. It names _make, because install() gives the class another module."""
    return _make, (type(queue).__name__,), queue.__getstate__()


def _make(name):
    cls = globals()[name]
    return cls.__new__(cls)


class Queue(_native.Queue, _Parts, _standard.Queue, metaclass=queue_types.QueueType):
    """A queue for any number of processes that put and get. Source: multiprocessing.Queue.

    maxsize: how many items it may have; 0 for no bound. Then put() never waits: items for which there is no room in the
    shared memory wait in the process. An item in the shared memory is not lost when the process that put it is killed,
    and an item that was put in part is never seen.
    """

    _sem, _recv_bytes, _send_bytes = _Part(), _Part(), _Part()

    def __init__(self, maxsize: int = 0, *, ctx: "Any") -> None:
        most = _standard_maxsize()
        if maxsize > most:
            ctx.BoundedSemaphore(maxsize)  # raises what multiprocessing raises
        self._make(maxsize if 0 < maxsize <= most else 0, isinstance(self, JoinableQueue))
        self._for_forks = ctx.get_start_method() == "fork"
        self._maxsize = maxsize if maxsize > 0 else most
        self._opid = os.getpid()
        self._ignore_epipe = False
        self._set_up()

    def __getstate__(self) -> "Any":
        return self._ignore_epipe, self._maxsize, self._opid, _files(self)

    def __setstate__(self, state: "Any") -> None:
        self._ignore_epipe, self._maxsize, self._opid, files = state
        self._attach(*(file.detach() for file in files))
        self._set_up()

    def _set_up(self):
        self._reset()
        _util.register_after_fork(self, Queue._after_fork)

    def _reset(self, after_fork=False):
        if after_fork:
            self._notempty._at_fork_reinit()
        else:
            # Reentrant: the garbage collector may call a __del__ that puts, while this thread holds the lock.
            self._notempty: Any = threading.Condition(threading.RLock())
        self._buffer = _Buffer(self)
        self._thread = None
        self._jointhread = None
        self._joincancelled = False
        self._closed = False
        self._close = None
        _let_others_run()

    def put(self, obj: "Any", block: bool = True, timeout: "float | None" = None) -> None:
        """Put an item. block, timeout: whether to wait for a place, for how many seconds, if there are maxsize items.

        Raises queue.Full, and ValueError if the queue is closed. For an object that cannot be pickled,
        _on_queue_feeder_error() is called instead.
        """
        if self._put_plain(obj):
            return
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        encoded = self._encode(obj)
        if encoded is None:
            return
        stream, buffers = encoded
        until = None if timeout is None or not block else _native.monotonic() + timeout
        while not self._put(stream, buffers, _PLACE if self._buffer else _IF_ROOM, block, timeout):
            buffers = _unchanging(buffers)
            try:
                with _native.held_signals:  # a signal handler must not raise between counting and keeping
                    self._put(stream, None, _COUNT, False, None)
                    self._put_aside(stream, buffers)
                return
            except Full:  # the last place was taken meanwhile
                if not block:
                    raise
            if until is not None:
                timeout = max(0.0, until - _native.monotonic())

    def _encode(self, obj):
        """Do what _encoded() does; None if the object cannot be pickled: _on_queue_feeder_error() has been called."""
        try:
            return _encoded(obj)
        except Exception as error:
            if interrupts(error):
                raise
            self._on_queue_feeder_error(error, obj)
            return None

    def _put_aside(self, stream, buffers):
        """Put an item that has been counted into the buffer, for the thread."""
        with self._notempty:
            self._buffer.keep(self, stream, buffers)
            if self._thread is None:
                self._start_thread()
            self._notempty.notify()

    get = _native.Queue._get
    empty = _native.Queue._empty
    full = _native.Queue._full
    qsize = _native.Queue._qsize

    def put_nowait(self, obj: "Any") -> None:
        """Put an item. Raises queue.Full at once if there are maxsize items."""
        self.put(obj, False)

    def get_nowait(self) -> "Any":
        """Remove and return an item. Raises queue.Empty at once if there is none."""
        return self.get(False)

    def _start_thread(self):
        _util.debug("Queue._start_thread()")
        arguments = weakref.ref(self), self._buffer, self._notempty
        thread = threading.Thread(target=_move, args=arguments, name="QueueFeederThread", daemon=True)
        if self._thread is not None:  # a __del__ that puts has started a thread meanwhile
            return
        self._thread = thread
        try:
            thread.start()
        except BaseException:  # at the interpreter's end no thread can be started
            self._thread = None
            raise
        if not self._joincancelled:
            self._jointhread = _util.Finalize(thread, _join, [weakref.ref(thread)], exitpriority=-5)
        if self._close is None:
            self._close = _util.Finalize(self, _end, [self._buffer, self._notempty], exitpriority=10)


def _standard_maxsize():
    from multiprocessing.synchronize import SEM_VALUE_MAX

    return SEM_VALUE_MAX


def _move(reference, buffer, notempty):
    """Move items from the buffer of a queue into its shared memory: the target of the thread."""
    while True:
        with notempty:
            if not buffer:
                notempty.wait(_LINGER)
            queue = reference()
            # CPython collects no garbage from here to the next call. So no __del__ puts an item for this thread, which
            # is about to end.
            if not buffer or buffer[0] is _END:
                if queue is not None:
                    queue._thread = None
                return
            queue, stream, buffers = buffer[0]
        try:
            queue._feed(stream, buffers)
        except Exception as error:
            if _util.is_exiting() or (queue._ignore_epipe and isinstance(error, BrokenPipeError)):
                _util.info("error in queue thread: %s", error)
                return
            queue._on_queue_feeder_error(error, stream)
        # Only now: while the item is in the buffer, put() puts further items behind it.
        buffer.popleft()
        del queue, stream, buffers


def _end(buffer, notempty):
    _util.debug("telling queue thread to quit")
    with notempty:
        buffer.end()
        notempty.notify()


def _join(reference):
    _util.debug("joining queue thread")
    thread = reference()
    if thread is not None:
        thread.join()


class JoinableQueue(Queue, _standard.JoinableQueue):
    """A queue whose join() waits until all items have been worked on. Source: multiprocessing.JoinableQueue.

    maxsize: as for Queue. If a process is killed after it has got items and before it has called task_done() for them,
    join() raises ConsumerLostError, once, and these items count as done from then on. If a process has ended whose
    items were still in its buffer, join() raises ProducerLostError, once, and these items do not count from then on.
    """

    _cond, _unfinished_tasks = _Part(), _Part()

    task_done = _native.Queue._task_done
    join = _native.Queue._join
    put = Queue.put


class SimpleQueue(_native.Queue, _Parts, _standard.SimpleQueue, metaclass=queue_types.QueueType):
    """A queue without a bound, a timeout and a thread: put() waits for room. Source: multiprocessing.SimpleQueue."""

    def __init__(self, *, ctx: "Any") -> None:
        self._make(0, False)
        self._for_forks = ctx.get_start_method() == "fork"
        _let_others_run()

    def __getstate__(self) -> "Any":
        return _files(self)

    def __setstate__(self, state: "Any") -> None:
        self._attach(*(file.detach() for file in state))
        _let_others_run()

    def _check(self):
        if self._closed:
            raise OSError("handle is closed")

    def close(self) -> None:
        """Close the queue for this process."""
        self._closed = True
        with contextlib.suppress(OSError):  # then other processes do not notice it
            self._close_ends(_BOTH_ENDS)
        for name in ("_reader", "_writer"):
            if name in self.__dict__:
                self.__dict__[name].close()

    def empty(self) -> bool:
        """Return whether there is no item now. Raises OSError if the queue is closed."""
        self._check()
        return self._empty()

    def get(self) -> "Any":
        """Remove and return an item; wait for one. Raises OSError if the queue is closed."""
        self._check()
        return self._receive()

    def put(self, obj: "Any") -> None:
        """Put an item; wait for room. Raises OSError if the queue is closed, and what pickling raises."""
        if self._put_plain(obj):
            return
        stream, buffers = _encoded(obj)
        self._check()
        self._put(stream, buffers, _WAIT, True, None)


for _class in Queue, JoinableQueue, SimpleQueue:
    copyreg.pickle(_class, _reduce)  # type: ignore[arg-type]
    queue_types.mirror(_class, getattr(_standard, _class.__name__))


def _let_others_run():
    """Have get() and poll() wait by the functions with which gevent or eventlet has replaced the standard library's."""
    if Queue._receive is not _get and cooperative.is_patched():
        for kind, name, function in (
            (Queue, "get", _get),
            (Queue, "_receive", _get),
            (Queue, "_poll", _poll),
            (SimpleQueue, "_receive", _get),
            (SimpleQueue, "_poll", _poll),
        ):
            queue_types.set_own(kind, name, function)


def _get(self, block=True, timeout=None):
    pauses = cooperative.Pauses(None if timeout is None else _native.monotonic() + timeout)
    while True:
        try:
            return _native.Queue._get(self, False)
        except Empty:
            if not block or not pauses.pause():
                raise


def _poll(self, timeout=0.0):
    pauses = cooperative.Pauses(None if timeout is None else _native.monotonic() + timeout)
    while not _native.Queue._poll(self, 0.0):
        if not pauses.pause():
            return False
    return True


def __getattr__(name: str) -> "Any":
    return stdlib.other_name(__name__, _standard, name)


sys.modules[__name__].__class__ = queue_types.QueuesModule
