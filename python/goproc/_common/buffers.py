"""Which buffers may be pickled out of band (PEP 574). Used by all picklers of goproc."""

import sys

from .. import _native

__all__ = ["may_travel_apart"]

#: Their memory is a part of a larger piece of memory when they arrive. Nothing looks at the whole piece.
_OWN = (bytes, _native.Writable)


def may_travel_apart(buffer: object) -> bool:
    """Return whether a PickleBuffer may be sent out of band.

    Only if it is of bytes, of a numpy array, or of pyarrow. Out of band it arrives as a memoryview of a part of a
    message. A class of the program's may look at what has the memory, as the example class in pickle's documentation
    does, by `memoryview(buffer).obj`. That would be the whole message. In the stream the buffer arrives as bytes or a
    bytearray, as with multiprocessing.
    """
    owner = memoryview(buffer).obj  # type: ignore[arg-type]  # typeshed knows no buffers
    kind = type(owner)
    if kind in _OWN:
        return True
    numpy, mmap = sys.modules.get("numpy"), sys.modules.get("mmap")
    if numpy is not None and isinstance(owner, getattr(numpy, "ndarray", ())):
        return True
    return kind is getattr(mmap, "mmap", None) or kind.__module__.partition(".")[0] == "pyarrow"
