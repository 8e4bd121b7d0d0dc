"""multiprocessing's own locks, with named semaphores, if goproc's own cannot be made. Used by context.py.

Its classes are derived from multiprocessing's, so that they have a module of their own: after goproc.install(), the
name multiprocessing.synchronize means goproc.synchronize, and an object of the original class could not be pickled.
"""

from . import stdlib

__all__ = ()

_NAMES = ("Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore")


def __getattr__(name):
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    base = getattr(stdlib.standard_module("synchronize"), name)
    return globals().setdefault(name, type(name, (base,), {"__module__": __name__, "__doc__": base.__doc__}))
