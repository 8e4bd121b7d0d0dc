"""Pickles the calls and results that travel between a pool and its workers, with large buffers out of band (PEP 574).

A task is one of these tuples:

    (CALL, func, args, kwds)        func(*args, **kwds)
    (ITEM, func, item)              func(item)
    (MAP, func, items)              [func(item) for item in items]
    (STARMAP, func, items)          [func(*item) for item in items]
    (STREAM, func, item)            func(item) is iterable: each value is sent as a part of the task; the result is None
    (how, func, items, together)    a batch of short tasks: task n is (how, func, items[n]); how: ITEM, MAP or STARMAP

If together is False, each task of a batch is begun and answered by itself. If it is True, the batch is a chunk of a map
that was given no chunksize: as many tasks as take about a millisecond are begun and answered together.

Used by both sides. A spawned worker imports this module, so it imports little.
"""

import sys
from _pickle import loads as _loads
from pickle import DEFAULT_PROTOCOL, PickleBuffer
from threading import get_ident
from types import FunctionType

from .. import _native
from .._common.buffers import may_travel_apart
from .._common.own_pickler import ANY, ORIGINAL, QUEUES, dumped
from .._common.stdlib import reducers_of
from . import failures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing typing takes longer than all other imports of a worker

__all__ = [
    "BY_NAME",
    "NO_JOB",
    "OUT_OF_BAND",
    "OutOfBand",
    "Sink",
    "Undecided",
    "by_name",
    "decode",
    "encode",
    "function_named",
    "function_pickled",
    "once",
    "outlined",
    "returning",
    "sent",
    "sent_by_me",
]

#: Buffers of fewer bytes are copied into the stream, which costs less than sending them out of band.
OUT_OF_BAND = 32 << 10

#: A pickler that wrote more bytes than this is not used again: its memo may have grown, and clearing it takes long.
_KEPT = 4096

#: How many functions function_pickled() keeps.
_MOST_FUNCTIONS = 16


class OutOfBand:
    """The common part of picklers: each keeps the stream in `written`, and the out-of-band buffers in `buffers`.

    It can be used again after both have been taken out of it, and reset() has been called.
    """

    written: "list[bytes]"
    buffers: "list[PickleBuffer]"
    shares: "list[Any]"  # the handles of shared objects that were pickled
    undecided: "Undecided"
    clear_memo: "Any"
    dispatch_table: "Any"

    def reset(self):
        self.clear_memo()
        self.dispatch_table = self.undecided

    def _keep(self, buffer):
        if memoryview(buffer).nbytes < OUT_OF_BAND or not may_travel_apart(buffer):
            return True  # pickle it in the stream
        self.buffers.append(buffer)
        return False

    def reduce_shared(self, handle):
        if reducers_of_shared and (reduce := reducers_of_shared.get(get_ident())) is not None:
            return reduce(handle)
        self.shares.append(handle)
        return handle.__reduce__()


#: By thread: the handles of shared objects (sharing.py) in what encode() has pickled last. The sender takes them out by
#: sent_by_me(): somebody must hold them until they have arrived.
sent: "dict[int, list[Any]]" = {}


#: By thread: what reduces the handles that it pickles now, if that is done in another way (_cluster/returning.py).
reducers_of_shared: "dict[int, Any]" = {}


def sent_by_me():
    """Take the handles out of `sent` that this thread has pickled; return them in a list."""
    return sent.pop(get_ident(), [])


class _Pickler(OutOfBand, ORIGINAL):
    """A pickler of functions and classes by their names."""

    def __init__(self):
        self.written, self.buffers, self.shares = [], [], []
        super().__init__(Sink(self.written.append), 5, True, self._keep)
        self.undecided = self.dispatch_table = Undecided(self)

    def reducers(self):
        return reducers_of(self)


class Undecided(dict):
    """A pickler's table of reducers until an object needs a reducer. Only then the registered reducers are copied.

    Simple objects need no reducer, and pickling them takes less time than the copy. After reset(), a pickler copies the
    reducers again when it needs them.
    """

    def __init__(self, pickler):
        self._pickler = pickler

    def __missing__(self, kind):
        pickler = self._pickler
        pickler.dispatch_table = reducers = pickler.reducers()
        array = getattr(sys.modules.get("numpy"), "ndarray", None)
        if array is not None and DEFAULT_PROTOCOL < 5:
            reducers.setdefault(array, _reduced_array)
        # Another thread may just be importing the module: then it has no class yet, and there are no handles.
        shared = getattr(sys.modules.get("goproc._common.sharing"), "Shared", None)
        if shared is not None:
            reducers[shared] = pickler.reduce_shared
        return reducers[kind]


#: numpy's type characters of booleans and numbers. Such a character describes the type completely.
_NUMBERS = frozenset("?bBhHiIlLqQefdgFDG")


def _reduced_array(array):
    """Reduce a numpy array so that it arrives as with multiprocessing, which pickles by the default protocol.

    If the default protocol is below 5, this means four things. The array arrives writable, even if it is read-only
    here. It is in C order, unless it is contiguous in Fortran order. It has this machine's byte order. A small array
    owns its data. goproc always uses protocol 5, so that large data is sent out of band. If the default protocol is 5,
    this function is not used: then a read-only array stays read-only with multiprocessing, too.
    """
    kind = array.dtype
    if array.nbytes < OUT_OF_BAND and kind.char in _NUMBERS and kind.isnative and kind.metadata is None:
        order = "F" if array.flags.fnc else "C"
        content = array.tobytes(order)
        return _small_array, (array.shape, kind.char, order, content if len(content) <= 1000 else bytearray(content))
    if array.nbytes < OUT_OF_BAND or kind.hasobject or kind.byteorder in "<>":  # numpy converts the byte order
        return array.__reduce__()
    flags = array.flags
    if not flags.forc:
        array = array.copy()
        flags = array.flags
    reduced = array.__reduce_ex__(5)
    if not flags.writeable and type(reduced[1][0]) is PickleBuffer:  # some types have no buffer: numpy copies them
        function, (buffer, *others) = reduced
        reduced = function, (PickleBuffer(_native.Writable(buffer)), *others)
    return reduced


def _small_array(shape, char, order, content):
    """Return the array that _reduced_array reduced. numpy's own function takes twice as long.

    content: bytes up to 1,000 bytes, and then the array owns its data, as with numpy's function; else a bytearray.
    """
    import numpy

    array: Any = numpy.ndarray(shape, char, content, order=order)
    return array.copy(order) if type(content) is bytes else array


class Sink:
    """A file object for a pickler, which calls write() once for a small pickle."""

    __slots__ = ("write",)

    def __init__(self, write):
        self.write = write


class _ByName:
    """The default form in which tasks and results are pickled. forms.py has the other one.

    idle: the picklers that are not in use. There is more than one only if several threads pickle, or if pickling an
    object runs code that pickles. The first pickler is made before workers are forked, so that no worker needs to make
    one. make(): returns a new pickler.
    """

    make = _Pickler

    def __init__(self):
        self.idle = [_Pickler()]


BY_NAME: "Any" = _ByName()


def encode(obj, form=BY_NAME, watch=QUEUES):
    """Pickle a call or a result, with large buffers out of band (PEP 574).

    form: how functions and classes are pickled. watch: whether the program's own pickler is used (own_pickler.py).
    Returns (stream, buffers). stream: bytes, or a list of bytes to be joined. buffers: None, or a list. encode() is
    faster than ForkingPickler.dumps because it reuses its pickler.
    """
    own = watch.own()
    if own is not None:
        return dumped(own, obj), None
    idle = form.idle
    try:
        pickler = idle.pop()
    except IndexError:
        pickler = form.make()
    pickler.dump(obj)  # after an exception the pickler is not used again
    pickler.reset()
    if pickler.shares:
        sent[get_ident()], pickler.shares = pickler.shares, []
    written = pickler.written
    if len(written) == 1 and not pickler.buffers:
        stream = written.pop()
        # Keep it only now that it is empty: a signal handler may raise anywhere here. reset() does not shrink its memo.
        idle.append(pickler if len(stream) <= _KEPT else form.make())
        return stream, None
    buffers = pickler.buffers
    pickler.written, pickler.buffers = [], []  # the pickler is in a reference cycle, so it may live for long
    idle.append(form.make())  # a new one: the memo of the used one may have grown
    return written, buffers


def decode(payload, watch=QUEUES):
    """Unpickle a payload, which is bytes, or the tuple (stream, buffers). watch: as for encode()."""
    if type(payload) is not tuple:
        return watch.loads(payload)
    stream, buffers = payload
    return _loads(stream, buffers=buffers) if buffers else watch.loads(stream)


def outlined(values):
    """Return a tuple or list, with each large bytes object in it wrapped in a PickleBuffer: so it is sent out of band.

    Copying a large object through the stream costs more than unpickling it from a buffer. The search costs time, too,
    so only values of at most 64 objects are searched. Anything else is returned as it is.
    """
    kind = type(values)
    if kind is tuple and len(values) == 1 and type(values[0]) is not bytes:
        return values  # the most common case
    if ANY.own() is not None:
        return values
    if (kind is tuple or kind is list) and len(values) <= 64 and bytes in map(type, values):
        return [PickleBuffer(v) if type(v) is bytes and len(v) >= OUT_OF_BAND else v for v in values]
    return values


#: The number, instead of a job's, under which a worker sends why it cannot take tasks (core/ring/layout.go,
#: capi/native/layout.h).
NO_JOB = (1 << 64) - 1

#: The text of a function begins with this if its exceptions are to be returned. No module's name begins with it.
_RETURNING = "\1"

#: The kinds of tasks.
CALL, ITEM, MAP, STARMAP, STREAM = range(5)


def by_name(func, form=BY_NAME):
    """If func is a function that is pickled by its name, return the text by which function_named finds it; else func.

    form: in which the call is pickled. Pickling the text takes a tenth of the time of pickling the function. A function
    that the pickler would refuse is returned as it is, so that the pickler raises its error.
    """
    if type(func) is FunctionType and ANY.own() is None:
        module, name = func.__module__, func.__qualname__
        if getattr(sys.modules.get(module), name, None) is func and (form is BY_NAME or form.finds(func)):
            return f"{module}\0{name}"
    return func


def once(func, form):
    """Return what stands for the function of a map in all its tasks: by_name's text, its pickle, or the function."""
    name = by_name(func, form)
    return name if name is not func or form is BY_NAME or ANY.own() is not None else form.pickled_once(func)


def returning(func, form):
    """Return the function of a map with return_exceptions: by_name's text after _RETURNING, or else a Returning."""
    name = once(func, form)
    return _RETURNING + name if type(name) is str and name is not func else Returning(name)


def function_named(text):
    """Return the function for a text of by_name. Raises the error that unpickling the function would raise.

    Any other text is returned as it is: the program has submitted a str as the function, and calling it raises
    TypeError.
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


#: By pickle: the functions of maps that this process has unpickled last.
_functions: "dict[bytes, Any]" = {}


def function_pickled(stream):
    """Return the function that a map has pickled once for all its tasks: in one worker, always the same object."""
    func = _functions.get(stream)
    if func is None:
        func = _loads(stream)
        if len(_functions) >= _MOST_FUNCTIONS:
            _functions.clear()
        _functions[stream] = func
    return func


class Returning:
    """A function that calls func, and returns its exception as a Returned, instead of raising it."""

    def __init__(self, func):
        self.func = func

    def __call__(self, *args):
        try:
            return self.func(*args)
        except BaseException as error:
            return Returned(failures.packed(error, True))


class Returned:
    """An exception that travels as a result; the main program unpickles it as the exception itself."""

    def __init__(self, failure):
        self.failure = failure

    def __reduce__(self):
        return failures.unpacked, (self.failure,)
