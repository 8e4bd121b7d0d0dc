"""Shared objects, and large arguments of a map that come again: their contents go once to each machine.

A handle of goproc.share() is pickled as the token of its content. The driver sends the content to a machine before the
first task that needs it (driver.py); the machine keeps it in a memfd (relay.py), which its workers map (arriving.py).
Used by pool.py.
"""

import os
import threading
import weakref
from collections import OrderedDict
from mmap import ACCESS_READ, mmap
from pickle import PickleBuffer

from .. import _native
from .._common.sharing import Shared, share
from .._pool import repeats
from .arriving import repeated, shared

__all__ = ["Contents", "Repeats"]

#: The most jobs for which take() remembers the contents that the tasks need, in case tasks are submitted again.
_MOST_JOBS = 1000


class Contents:
    """The contents that have been sent, or are about to be."""

    def __init__(self):
        self._handles: weakref.WeakValueDictionary[bytes, Shared] = weakref.WeakValueDictionary()
        self._needed = threading.local()  # the tokens in what this thread has pickled last
        self._jobs: OrderedDict[int, set[bytes]] = OrderedDict()

    def note(self, handle):
        """Note that this thread has pickled a handle; return what is pickled in its place."""
        if handle._plain is not None:
            return handle.__reduce__()
        handle._check()
        if handle._fd < 0:
            raise ValueError("a shared object that was received from another process cannot be sent to other machines")
        self._handles[handle._token] = handle
        vars(self._needed).setdefault("tokens", set()).add(handle._token)
        return shared, (handle._token,)

    def take(self, job):
        """Return the tokens that a task of a job needs: those that this thread has pickled since the last call."""
        tokens = vars(self._needed).pop("tokens", None)
        if tokens is not None:
            self._jobs.setdefault(job, set()).update(tokens)
            while len(self._jobs) > _MOST_JOBS:
                self._jobs.popitem(last=False)
            return tuple(tokens)
        return tuple(self._jobs.get(job, ())) if self._jobs else ()

    def bytes_of(self, token):
        """Return the content, None if its handle has been closed."""
        handle = self._handles.get(token)
        if handle is None or handle._fd < 0:
            return None
        fd = os.open(f"/proc/self/fd/{handle._fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return PickleBuffer(mmap(fd, 0, access=ACCESS_READ))
        finally:
            os.close(fd)

    def is_closed(self, token):
        """Whether the program has closed or dropped the handle."""
        handle = self._handles.get(token)
        return handle is None or handle.closed


class Repeats(repeats.Repeats):
    """What comes again in the chunks of one map; see _pool/repeats.py. It is shared like goproc.share()'s objects."""

    def __init__(self, func, workers, contents=None):
        super().__init__(func, workers)
        self._contents = contents

    def _of_func(self):
        try:
            return super()._of_func()
        except Exception:
            self._func = None
            return {}  # it travels by value

    def _part(self, buffer, last):
        size = memoryview(buffer).nbytes
        if size < repeats.SMALLEST:
            return buffer
        key = _native.address(buffer), size
        if key in last and key not in self._places:
            raw = buffer.raw()
            self._places[key] = _Place(share(bytes(raw)), type(raw.obj) is bytes, self._contents), buffer
        if key in self._places:
            return self._places[key][0]
        self._last[key] = buffer
        return buffer


class _Place(repeats._Place):
    """A buffer whose content is sent once. is_bytes: whether it arrives as bytes."""

    def __init__(self, handle, is_bytes, contents):
        self._shared, self.is_bytes, self._contents = handle, is_bytes, contents

    def __reduce__(self):
        _, (token,) = self._contents.note(self._shared)
        return repeated, (token, self.is_bytes)

    def __del__(self, close=None):
        self._shared.close()
