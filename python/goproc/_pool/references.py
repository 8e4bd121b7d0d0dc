"""The weak reference by which an Iteration notices that the program has dropped its iterator. Used by iteration.py."""

import weakref

__all__ = ["IteratorRef"]


class IteratorRef(weakref.ref):
    """An Iteration's weak reference to its IMapIterator, or to what an `async for` holds. then: called when it is gone.

    Its callback is the port's post(), in C: when the object is gone, the port gives this reference to the collector,
    which treats it like a collected item (dispatch.py), and so calls then(). A __del__ cannot do that: it would take
    locks at any point of a program, and an exception from a signal handler in it would be lost.
    """

    __slots__ = ("then",)

    def __iter__(self):
        return iter((None, None, None, self.then))
