"""How calls and results travel between a pool and its workers: as pickles, with large buffers left out of the stream.

A task is one of these tuples:

    (CALL, func, args, kwds)        func(*args, **kwds)
    (ITEM, func, item)              func(item)
    (MAP, func, items)              [func(item) for item in items]
    (STARMAP, func, items)          [func(*item) for item in items]
    (how, func, items, together)    a batch of short tasks: number n is (how, func, items[n]), of the three kinds above

If together is False, each task of a batch is begun and answered by itself. If it is True, the batch is a chunk of a map
that was given no chunksize: as many tasks as take about a millisecond are begun and answered together.

Used by both sides. A spawned worker imports this module, so it imports little.
"""

import sys
from multiprocessing import context as _context
from multiprocessing import reduction as _reduction
from multiprocessing.reduction import ForkingPickler
from pickle import DEFAULT_PROTOCOL, PickleBuffer
from types import FunctionType

from .. import _native
from .._common.stdlib import reducers_of
from . import failures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than all the rest of a worker

__all__ = ["NO_JOB", "OUT_OF_BAND", "by_name", "decode", "encode", "function_named", "outlined", "returning"]

#: Buffers of fewer bytes are copied into the pickle: a place of their own would cost more.
OUT_OF_BAND = 32 << 10

#: A pickler is not kept after a pickle of more bytes: its memo may have grown, and is cleared in full each time.
_KEPT = 4096
_loads = ForkingPickler.loads


class _Pickler(ForkingPickler):
    """A pickler that keeps what it writes, and the buffers that it leaves out.

    It can be used again once these have been taken out of it and reset() has been called.
    """

    def __init__(self):
        self.written: list[bytes] = []
        self.buffers: list[PickleBuffer] = []
        super().__init__(_Sink(self.written.append), 5, True, self._keep)
        self.undecided = self.dispatch_table = _Undecided(self)

    def reset(self):
        self.clear_memo()
        self.dispatch_table = self.undecided

    def _keep(self, buffer):
        if memoryview(buffer).nbytes < OUT_OF_BAND:
            return True  # in the stream
        self.buffers.append(buffer)
        return False


class _Undecided(dict):
    """A pickler's table of reducers until an object needs one: only then the registered ones are copied.

    Simple objects need none, and are pickled in less time than the copy takes. A kept pickler copies for each pickle.
    """

    def __init__(self, pickler):
        self._pickler = pickler

    def __missing__(self, kind):
        pickler = self._pickler
        pickler.dispatch_table = reducers = reducers_of(pickler)
        array = getattr(sys.modules.get("numpy"), "ndarray", None)
        if array is not None and DEFAULT_PROTOCOL < 5:
            reducers.setdefault(array, _reduced_array)
        return reducers[kind]


#: numpy's type characters of booleans and numbers: these describe the type completely.
_NUMBERS = frozenset("?bBhHiIlLqQefdgFDG")


def _reduced_array(array):
    """Reduce an array of numpy's so that it arrives as with multiprocessing, which pickles by the default protocol.

    Below protocol 5 that means: it is writable, even if it is read-only here; in C order, unless it is contiguous in
    Fortran order; in this machine's byte order; and a small one owns its data. Protocol 5 is still used, so that large
    data is left out of the stream. Where 5 is the default, a read-only array stays read-only with multiprocessing, too.
    """
    kind = array.dtype
    if array.nbytes < OUT_OF_BAND and kind.char in _NUMBERS and kind.isnative and kind.metadata is None:
        order = "F" if array.flags.fnc else "C"
        content = array.tobytes(order)
        return _small_array, (array.shape, kind.char, order, content if len(content) <= 1000 else bytearray(content))
    if array.nbytes < OUT_OF_BAND or kind.hasobject or kind.byteorder in "<>":  # as numpy writes the other order
        return array.__reduce__()
    flags = array.flags
    if not flags.forc:
        array = array.copy()
        flags = array.flags
    reduced = array.__reduce_ex__(5)
    if not flags.writeable and type(reduced[1][0]) is PickleBuffer:  # numpy cannot export buffers of some types
        function, (buffer, *others) = reduced
        reduced = function, (PickleBuffer(_native.Writable(buffer)), *others)
    return reduced


def _small_array(shape, char, order, content):
    """Return the array that _reduced_array took apart. numpy's own way takes twice as long.

    Up to 1,000 bytes, content is bytes, and the array owns its data, as with numpy.
    """
    import numpy

    array: Any = numpy.ndarray(shape, char, content, order=order)
    return array.copy(order) if type(content) is bytes else array


class _Sink:
    """A file to write to: the pickler writes a small pickle in one piece."""

    __slots__ = ("write",)

    def __init__(self, write):
        self.write = write


#: The picklers that are not in use: one, unless several threads pickle, or pickling runs code that pickles. The first
#: is made before workers are forked, so that they need not make their own.
_idle = [_Pickler()]


def encode(obj):
    """Pickle a call or a result, with large buffers left out of the stream (PEP 574).

    Returns (stream, buffers). stream: bytes, or a list of bytes to be joined. buffers: None, or a list. It is faster
    than ForkingPickler.dumps because it keeps its pickler.
    """
    if _context.reduction is not _reduction:  # a program's own, set by `context.reducer = ...`
        return bytes(_context.reduction.ForkingPickler.dumps(obj)), None
    try:
        pickler = _idle.pop()
    except IndexError:
        pickler = _Pickler()
    pickler.dump(obj)  # one that raises is not used again
    pickler.reset()
    written = pickler.written
    if len(written) == 1 and not pickler.buffers:
        stream = written.pop()
        # Only now that it is empty, as a signal handler may raise anywhere here. reset() does not shrink its memo.
        _idle.append(pickler if len(stream) <= _KEPT else _Pickler())
        return stream, None
    buffers = pickler.buffers
    pickler.written, pickler.buffers = [], []  # the pickler is part of a cycle, which may live for long
    _idle.append(_Pickler())  # it may have grown large
    return written, buffers


def decode(payload):
    """Return the object of a payload: bytes, or (stream, buffers) as a channel delivers it."""
    if _context.reduction is not _reduction:
        stream = payload[0] if type(payload) is tuple else payload
        return _context.reduction.ForkingPickler.loads(stream)
    if type(payload) is tuple:
        return _loads(payload[0], buffers=payload[1])
    return _loads(payload)


def outlined(values):
    """Return the tuple or list values, with its large bytes objects wrapped so that they are left out of the stream.

    Copying such an object through the stream costs more than unpickling it from a buffer. Only short values are
    searched, for that costs time, too. Anything else is returned as it is.
    """
    kind = type(values)
    if kind is tuple and len(values) == 1 and type(values[0]) is not bytes:
        return values  # the most common case
    if _context.reduction is not _reduction:
        return values
    if (kind is tuple or kind is list) and len(values) <= 64 and bytes in map(type, values):
        return [PickleBuffer(v) if type(v) is bytes and len(v) >= OUT_OF_BAND else v for v in values]
    return values


#: Not a job's number: under it a worker tells why it cannot take tasks (core/ring/layout.go, capi/native/layout.h).
NO_JOB = (1 << 64) - 1

#: The text of a function begins with this if its exceptions are to be returned. No module's name does.
_RETURNING = "\1"

#: What a task is.
CALL, ITEM, MAP, STARMAP = range(4)


def by_name(func):
    """Return func; or, if it is a function that is pickled by its name, the text by which function_named finds it.

    A text costs a tenth of what pickling the name costs. What the pickler would refuse is left to it.
    """
    if type(func) is FunctionType and _context.reduction is _reduction:
        module, name = func.__module__, func.__qualname__
        if getattr(sys.modules.get(module), name, None) is func:
            return f"{module}\0{name}"
    return func


def returning(func):
    """Return what stands for func in a map that returns exceptions: by_name's text, marked, or a Returning."""
    name = by_name(func)
    return _RETURNING + name if name is not func else Returning(func)


def function_named(text):
    """Return the function that by_name gave the text for. Raises what unpickling its name would.

    Any other text is returned as it is: somebody has submitted it as a function, and calling it raises TypeError.
    """
    module, separator, name = text.partition("\0")
    if not separator:
        return text
    if module.startswith(_RETURNING):
        return Returning(function_named(text[len(_RETURNING) :]))
    if module not in sys.modules:
        __import__(module)
    try:
        return getattr(sys.modules[module], name)
    except AttributeError:
        raise AttributeError(f"Can't get attribute {name!r} on {sys.modules[module]!r}") from None


class Returning:
    """A function that returns what func raises, in a form that is unpickled as the exception."""

    def __init__(self, func):
        self.func = func

    def __call__(self, *args):
        try:
            return self.func(*args)
        except BaseException as error:
            return Returned(failures.packed(error, True))


class Returned:
    """An exception on its way to the main program, as a result."""

    def __init__(self, failure):
        self.failure = failure

    def __reduce__(self):
        return failures.unpacked, (self.failure,)
