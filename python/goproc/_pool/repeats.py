"""Large buffers that come again in the chunks of a map: written into shared memory once, and read there by each worker.

    map(partial(f, frame), items)       func is pickled with each chunk, and with it the frame
    starmap(f, [(array, 1), ...])       the array is in each chunk

Pickling leaves large buffers out of the stream, so the pickle of each chunk is short. A buffer at the address of a
buffer of the chunk before is the same one, because the older one is held meanwhile. The worker maps the memory
privately, anew for each chunk. So a function receives data of its own, which it may change, as with multiprocessing.
See also docs/design/shared-objects.md. Used by maps.py and _futures/mapping.py.
"""

import os
import posix
from functools import partial
from pickle import PickleBuffer

from .. import _native
from .codec import OUT_OF_BAND, decode, encode, outlined, sent_by_me

__all__ = ["Refused", "Repeats", "with_buffers", "with_buffers_in"]

#: Smaller buffers are sent with each chunk.
SMALLEST = 1 << 20


def with_buffers(func):
    """Return func; if it is a partial with large bytes, one that has buffers in their place. Buffers arrive as bytes.

    Pickling copies bytes into the stream, but leaves buffers out of it.
    """
    if type(func) is not partial or vars(func) or not _has_large([*func.args, *func.keywords.values()]):
        return func
    keywords = dict(zip(func.keywords, outlined(list(func.keywords.values())), strict=True))
    return partial(func.func, *outlined(func.args), **keywords)


def with_buffers_in(items):
    """Return a chunk of starmap, with buffers in the place of large bytes if its first item has such bytes."""
    if items and type(items[0]) is tuple and _has_large(items[0]):
        return tuple(outlined(item) if type(item) is tuple else item for item in items)
    return items


def _has_large(values):
    return any(type(value) is bytes and len(value) >= SMALLEST for value in values)


class Refused(Exception):
    """A worker may not open the memory, unexpectedly: its initializer has changed its user, for instance."""

    means_again = True  # read by worker.py


class Repeats:
    """What comes again in the chunks of one map. func: as in its tasks. workers: the pool's list of processes."""

    def __init__(self, func, workers):
        self._func = func
        self._workers = workers
        self._last: dict = {}  # the large buffers of the chunk before, by address and size
        self._places: dict = {}  # by address and size: the _Place, and the buffer, which must be held
        self._plain: dict = {}  # by index: the stream and the buffers of a task with places
        self._usable = None

    def replace(self, index, stream, buffers):
        """Return the stream and the buffers of a task (codec.encode) with places instead of buffers that come again."""
        if not any(memoryview(buffer).nbytes >= SMALLEST for buffer in buffers):
            self._last.clear()
            return stream, buffers
        last, self._last = self._last if self._func is None else self._of_func(), {}
        parts = [self._part(buffer, last) for buffer in buffers]
        if not any(isinstance(part, _Place) for part in parts):
            return stream, buffers
        stream = b"".join(stream) if type(stream) is list else stream
        self._plain[index] = stream, buffers
        return encode(_Task(PickleBuffer(stream) if len(stream) >= OUT_OF_BAND else stream, parts))

    def plain(self, index, success, value):
        """Return the stream and the buffers of a task as it was, if a worker was refused the memory; else None."""
        plain = self._plain.pop(index, None)
        if plain is None or success or type(value) is not Refused:
            return None
        self._usable = False
        return plain

    def again(self, port, job, index, outcome):
        """Submit a task again, as it was, if its outcome is that a worker was refused the memory; return whether."""
        plain = self.plain(index, *outcome)
        if plain is not None:
            port.submit(job, index, *plain)
        return plain is not None

    def _part(self, buffer, last):
        size = memoryview(buffer).nbytes
        if size < SMALLEST:
            return buffer
        key = _native.address(buffer), size
        if key in self._places:
            return self._places[key][0]
        if key in last and self._can_open():
            from .._common.sharing import create

            made = create([buffer.raw()], "repeats")
            if made is not None:
                place = _Place(made[0], size, type(buffer.raw().obj) is bytes)
                self._places[key] = place, buffer
                return place
            self._usable = False
        self._last[key] = buffer
        return buffer

    def _of_func(self):
        """Return the buffers of func, which will come again in each chunk; for the first chunk only."""
        func, self._func = self._func, None
        if type(func) is not partial:
            return {}
        buffers = encode(func)[1] or []
        sent_by_me()
        return {(_native.address(buffer), memoryview(buffer).nbytes): buffer for buffer in buffers}

    def _can_open(self):
        """Whether the workers may open descriptors of this process: they need its user and its user namespace."""
        if self._usable is None:
            self._usable = all(map(_is_alike, [process.pid for process in self._workers if process.pid]))
        return self._usable


def _is_alike(pid):
    try:
        return (
            posix.stat(f"/proc/{pid}").st_uid == posix.geteuid()
            and posix.stat(f"/proc/{pid}/ns/user").st_ino == posix.stat("/proc/self/ns/user").st_ino
        )
    except OSError:
        return True  # the worker has ended: another one takes its place


class _Place:
    """A buffer in a memfd of this process, which this object owns. is_bytes: whether it is that of a bytes object."""

    def __init__(self, fd, size, is_bytes):
        self.fd, self.size, self.is_bytes = fd, size, is_bytes
        self._owner = os.getpid()

    def __reduce__(self):
        return _mapped, (self._owner, self.fd, posix.fstat(self.fd).st_ino, self.size, self.is_bytes)

    def __del__(self, close=posix.close):
        close(self.fd)


class _Task:
    """A task whose stream and parts are given. It is unpickled as the task."""

    def __init__(self, stream, parts):
        self._stream, self._parts = stream, parts

    def __reduce__(self):
        return _restored, (self._stream, self._parts)


def _restored(stream, parts):
    return decode((stream, parts))


def _mapped(pid, fd, inode, size, is_bytes):
    """Return the bytes of a _Place, or a private mapping of them. In the worker."""
    from mmap import MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap

    from .._common.sharing import open_place

    try:
        opened = open_place(None, pid, fd)
    except OSError as error:
        raise Refused(str(error)) from None
    try:
        if posix.fstat(opened).st_ino != inode:
            raise Refused(f"process {pid} has closed the memory of a map's argument")
        mapping = mmap(opened, size, MAP_PRIVATE, PROT_READ | PROT_WRITE)
        return bytes(mapping) if is_bytes else mapping
    finally:
        posix.close(opened)
