"""share(): an object whose large data lies in memory without a name, and travels as a handle.

    share(obj) ──▶ Shared: the handle; the data is in a memfd ──pickle──▶ token, pid and number of the descriptor
                   ──unpickle──▶ arrived(): the object itself, over memory that this process maps once, read-only

The memfd begins with a header, the sizes of the buffers and the pickle stream; then come the buffers. A receiver opens
/proc/PID/fd/N of the process that has sent the handle, and compares the token. docs/design/shared-objects.md has the
reasons. Imported when a program first calls share(), or receives a handle.
"""

import os
import posix
import sys
import threading
import weakref
from functools import partial
from mmap import MAP_SHARED, PROT_READ, mmap
from multiprocessing import context as _context
from pickle import loads
from struct import Struct
from types import GenericAlias, NoneType

from .. import _native
from . import start_methods
from .buffers import may_travel_apart
from .nameless import ALIGNMENT, create, open_place, write
from .own_pickler import ORIGINAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Shared", "arrived", "begin_child", "fly", "received", "share"]

#: Whether the owner has closed its handle; the token, at TOKEN_AT; the length of the stream; the number of buffers;
#: whether arrivals are counted; their number.
_HEADER = Struct("=Q16sQQQQ")
_CLOSED_AT, _COUNTED_AT, _ARRIVALS_AT = 0, 40, 48
_TABLE_AT = 64

#: The handles of this process, and the mappings of received objects, by token.
_handles: "weakref.WeakValueDictionary[bytes, Shared]" = weakref.WeakValueDictionary()
_memories: "weakref.WeakValueDictionary[bytes, _Memory]" = weakref.WeakValueDictionary()

#: In a worker of a pool: the objects that it has received, until their owner closes the handle.
_kept: "dict[bytes, tuple[_Memory, Any]]" = {}

#: The handles that were sent in queues and results, each with the number of arrivals at which it has arrived.
_flying: "list[tuple[Shared, int]]" = []

_lock = threading.RLock()


class _Memory(mmap):
    """A mapping, read-only, with the descriptor of its memfd. It lives as long as anything looks into it."""

    fd = -1
    token = b""
    object_ref: "weakref.ref | None" = None

    def __del__(self, close=posix.close):
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            close(fd)

    @property
    def is_closed(self):
        """Whether the owner has closed its handle."""
        return self[0] != 0

    def count(self):
        """Count an arrival, if the sender waits for it."""
        if self[_COUNTED_AT]:
            write(self.fd, _ARRIVALS_AT)

    def load(self):
        """Return the object: always the same one while it lives, if it can be referenced weakly."""
        value = self.object_ref() if self.object_ref is not None else None
        if value is None:
            value = self._load()
            try:
                self.object_ref = weakref.ref(value)
            except TypeError:  # bytes, a list, a dict
                pass
        return value

    def _load(self):
        _, _, length, count, _, _ = _HEADER.unpack_from(self)
        view = memoryview(self)
        at = _TABLE_AT + 8 * count
        sizes = view[_TABLE_AT:at].cast("Q") if count else ()
        stream = view[at : at + length]
        at += length
        buffers = []
        for size in sizes:
            at += -at % ALIGNMENT
            buffers.append(view[at : at + size])
            at += size
        return loads(stream, buffers=buffers) if length else bytes(buffers[0])


class _Pickler(ORIGINAL):
    """Pickles with all buffers of arrays out of band, so that all of them arrive read-only."""

    def reducer_override(self, obj):
        """Reduce numpy's arrays that have no buffer: those that are not contiguous, and those of objects."""
        numpy = sys.modules.get("numpy")
        if numpy is None or type(obj) is not getattr(numpy, "ndarray", None):
            return NotImplemented
        if obj.dtype.hasobject or obj.dtype.kind in "mM":  # numpy has no buffers of times
            return _read_only, obj.__reduce__()
        if not obj.flags.forc:
            obj = obj.copy()
        return obj.__reduce_ex__(5)


def _read_only(make, arguments, state):
    array = make(*arguments)
    array.__setstate__(state)
    array.flags.writeable = False
    return array


class Shared:
    """A handle of an object in shared memory; share() makes it.

    Pickled, in an argument of a task, for instance, it arrives as the object itself. Source: goproc.
    """

    __slots__ = ("_token", "_fd", "_source", "_size", "_creator", "_memory", "_plain", "__weakref__")

    def __init__(self, token, fd, size, memory=None, plain=None):
        self._token, self._fd, self._size = token, fd, size
        self._creator = os.getpid()
        self._source = self._creator, fd
        self._memory = memory  # of an object that was received: the handle is not its owner
        self._plain = plain  # a tuple with the object, if there can be no shared memory

    def get(self):
        """Return the object, over the shared memory: read-only. Raises ValueError if the handle is closed."""
        if self._plain is not None:
            return self._plain[0]
        self._check()
        with _lock:
            memory = self._memory or _memories.get(self._token)
            if memory is None:
                memory = _map_own(self) if self._fd >= 0 else _open(self._token, *self._source)
            return memory.load()

    def _count(self):
        """How often the handle has arrived since arrivals are counted."""
        return int.from_bytes(os.pread(self._fd, 8, _ARRIVALS_AT), sys.byteorder)

    @property
    def value(self):
        """The object, as get() returns it."""
        return self.get()

    @property
    def nbytes(self):
        """How many bytes of shared memory the object takes; 0 if it is pickled."""
        return self._size

    @property
    def closed(self):
        """Whether the handle has been closed."""
        return self._token is None

    def close(self):
        """Give up the handle. The memory is freed as soon as no process uses the object. May be called again."""
        with _native.held_signals:  # a signal handler must not raise before the descriptor is closed
            fd, self._fd = self._fd, -1
            if fd >= 0:
                if self._memory is None and self._creator == os.getpid():
                    write(fd, _CLOSED_AT, 1)  # the workers of pools no longer keep the object
                posix.close(fd)
            self._token = self._memory = self._plain = None

    __class_getitem__: "Any" = classmethod(GenericAlias)  # Shared[numpy.ndarray], in annotations

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __del__(self):
        try:
            self.close()
        except Exception:  # at the interpreter's end
            pass

    def __repr__(self):
        if self._token is None:
            return "<Shared, closed>"
        return "<Shared, pickled>" if self._plain is not None else f"<Shared, {self._size} bytes>"

    def __reduce__(self):
        if self._plain is not None:
            return _same, self._plain
        self._check()
        popen: Any = _context.get_spawning_popen()
        if popen is not None:  # the handle must live until the child has received it
            vars(popen).setdefault("_goproc_shared", []).append(self)
        pid, fd = (os.getpid(), self._fd) if self._fd >= 0 else self._source
        return arrived, (self._token, pid, fd)

    def _check(self):
        if self._token is None:
            raise ValueError("this handle of a shared object has been closed: call goproc.share() again")

    def _release(self):
        """In a pool's worker: close the descriptor that was inherited; the owner still has it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            posix.close(fd)


Shared.__module__ = "goproc"  # where programs find it


def _same(obj):
    return obj


def share(obj):
    """Put an object into shared memory, once; return its handle, a Shared.

    obj: anything that can be pickled. Its large buffers, those of numpy's arrays and of data frames, are copied into
    memory that has no name. Give the handle to tasks, processes, queues, initializers: a function receives the object
    itself. All workers map the same memory, read-only. An object that was received in this way is not copied again.
    Raises what pickling raises. If the system refuses the memory, the object is pickled for each use, and a warning is
    logged, once.
    """
    if isinstance(obj, Shared):
        return obj
    with _lock:
        _land()
        for memory in list(_memories.values()):
            if obj is not None and memory.object_ref is not None and memory.object_ref() is obj:
                return Shared(memory.token, posix.dup(memory.fd), len(memory), memory)
        for token, (memory, value) in _kept.items():
            if value is obj:
                return Shared(token, posix.dup(memory.fd), len(memory), memory)
    if type(obj) is bytes:
        stream, buffers = b"", [memoryview(obj)]
    else:
        pieces: list[bytes] = []
        found: list = []
        sink = _Sink(pieces.append)

        def keep(buffer):
            if not may_travel_apart(buffer):
                return True  # pickle it in the stream
            found.append(buffer)
            return False

        _Pickler(sink, 5, True, keep).dump(obj)
        stream, buffers = b"".join(pieces), [buffer.raw() for buffer in found]
    token = os.urandom(16)
    sizes = b"".join(buffer.nbytes.to_bytes(8, sys.byteorder) for buffer in buffers)
    head = _HEADER.pack(0, token, len(stream), len(buffers), 0, 0).ljust(_TABLE_AT, b"\0")
    place = create([head + sizes + stream, *buffers], "shares")
    if place is None:
        return Shared(token, -1, 0, plain=(obj,))
    handle = Shared(token, *place)
    _handles[token] = handle
    return handle


class _Sink:
    __slots__ = ("write",)

    def __init__(self, write):
        self.write = write


def _mapped(token, fd):
    """Return the _Memory over a descriptor, which it owns from now on."""
    try:
        memory = _Memory(fd, posix.fstat(fd).st_size, MAP_SHARED, PROT_READ)
    except BaseException:
        posix.close(fd)
        raise
    memory.fd, memory.token = fd, token
    _memories[token] = memory
    return memory


def _open(token, pid, fd):
    return _mapped(token, open_place(token, pid, fd))


def _map_own(handle):
    return _mapped(handle._token, posix.open(f"/proc/self/fd/{handle._fd}", os.O_RDONLY | os.O_CLOEXEC))


def arrived(token, pid, fd):
    """Return the object of a handle; called by unpickling. Raises FileNotFoundError if the object is gone."""
    with _lock:
        found = _kept.get(token)
        if found is not None:
            found[0].count()
            return found[1]
        memory = _memories.get(token)
        if memory is None:
            own = _handles.get(token)
            memory = _map_own(own) if own is not None and own._fd >= 0 else _open(token, pid, fd)
        memory.count()
        value = memory.load()
        if _native.watch_shares(_look):  # this is a pool's worker
            _kept[token] = memory, value
        return value


def is_here(token):
    """Whether this process has the object of a token, or an open handle of it."""
    with _lock:
        own = _handles.get(token)
        return token in _kept or token in _memories or (own is not None and own._fd >= 0)


def of_content(token, content):
    """Return the object of a handle, given a copy of the handle's memory. It gets shared memory of this process.

    token: the handle's. content: the copy.
    """
    with _lock:
        memory = _memories.get(token)
        if memory is not None:
            return memory.load()
        place = create([content], "shares")
        if place is None:
            memory = _Memory(-1, len(memoryview(content)))
            memory[:] = content
            return memory.load()
        return _mapped(token, place[0]).load()


def _look():
    """Forget the objects whose owners have closed the handle; return whether any are left.

    A pool's worker calls it from time to time, also while it waits for a task.
    """
    with _lock:
        for token in [token for token, (memory, _) in _kept.items() if memory.is_closed]:
            del _kept[token]
        _land()
        return bool(_kept or _flying)


def fly(handles):
    """Hold handles that were sent in a queue or a result until they have arrived, each as often as it was sent."""
    with _lock:
        _land()
        for handle in handles:
            if handle._fd >= 0:
                write(handle._fd, _COUNTED_AT, 1)
                number = max([number for other, number in _flying if other is handle], default=handle._count())
                _flying.append((handle, number + 1))
        if _flying:
            _native.watch_shares(_look)


def _land():
    _flying[:] = [(handle, number) for handle, number in _flying if handle._fd >= 0 and handle._count() < number]


# ---- forks: nothing is pickled, so a child inherits the handles


def received(value):
    """Return value with each handle in it replaced by its object: in tuples, lists, dicts, sets and partials."""
    kind = type(value)
    if kind is Shared:
        return value.get()
    if kind is tuple or kind is list or kind is set or kind is frozenset:
        parts = [received(part) for part in value]
        return value if all(new is old for new, old in zip(parts, value, strict=True)) else kind(parts)
    if kind is dict:
        made = {key: received(part) for key, part in value.items()}
        return value if all(made[key] is value[key] for key in value) else made
    if kind is partial:
        args, keywords = received(value.args), received(value.keywords)
        if args is value.args and keywords is value.keywords:
            return value
        other = partial(value.func, *args, **keywords)
        other.__dict__.update(value.__dict__)
        return other
    return value


def begin_child(process_obj):
    """In a forked child: give the process object what it would have received with another start method."""
    global _lock
    _lock = threading.RLock()
    _kept.clear()
    _flying.clear()
    if not _handles:
        return
    attributes = vars(process_obj)
    for name, value in list(attributes.items()):
        if type(value) not in (str, int, bool, NoneType):
            attributes[name] = received(value)
    if start_methods.worker_end(process_obj) is not None:
        release_inherited()


def release_inherited():
    """Close the descriptors of all inherited handles, which would keep the memory."""
    for handle in list(_handles.values()):
        handle._release()
