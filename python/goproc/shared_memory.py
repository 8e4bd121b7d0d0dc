"""multiprocessing.shared_memory, under goproc's name: named shared memory, removed when the program that made it ends.

It is the standard library's module, because it holds state that belongs to the process; only two methods of
SharedMemory are replaced. multiprocessing registers memory with the resource tracker even when a program only attaches
to it. So the end of that program removes another program's memory (python/cpython#82300). Here only the process that
makes the memory registers it. docs/design/named-memory.md has the reasons.
"""

import multiprocessing.shared_memory as _standard
import sys

from . import resource_tracker  # noqa: F401  # it replaces the class of the tracker object
from ._common import stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.shared_memory import *  # noqa: F403

_standard_init = _standard.SharedMemory.__init__
_standard_unlink = _standard.SharedMemory.unlink

#: With this argument the standard library's SharedMemory does not register the memory. Before Python 3.13 there is
#: none.
_NO_TRACKING = {"track": False} if sys.version_info >= (3, 13) else {}


def _init(self, name=None, create=False, size=0, *, track=None):
    """Make shared memory, or attach to it. Source: multiprocessing.shared_memory.SharedMemory.

    track: whether the resource tracker removes the memory at the end of this program, if nobody has called unlink()
    before. None: if this call makes the memory. From Python 3.13 on, multiprocessing has this argument, too; its
    default there is True.
    """
    self._tells_tracker = track is None or bool(track)
    if create if track is None else track:
        _standard_init(self, name, create, size)
    else:
        with stdlib.tracker().untracked:
            _standard_init(self, name, create, size, **_NO_TRACKING)


def _unlink(self):
    """Remove the memory's name. The memory is freed when no process has it open any more."""
    with stdlib.tracker().untracked:
        _standard_unlink(self)
    if self._tells_tracker:  # also of memory that was only attached: the process that has made it has registered it
        _standard.resource_tracker.unregister("/" + self.name, "shared_memory")


def _replace(name, method):
    """Make a function the method of this name."""
    method.__module__, method.__name__, method.__qualname__ = _standard.__name__, name, f"SharedMemory.{name}"
    setattr(_standard.SharedMemory, name, method)


_standard.SharedMemory._tells_tracker = True  # type: ignore[attr-defined]  # for objects that were made before
_replace("__init__", _init)
_replace("unlink", _unlink)
sys.modules[__name__] = _standard
