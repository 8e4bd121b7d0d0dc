"""Pickles batches and results with joblib's cloudpickle: lambdas, local functions and those of `__main__` by value.

    dumped(obj, reducers) ─▶ (stream, buffers) ─▶ the pool's codec, which sends large buffers out of band ─▶ loaded()

A worker that is kept between two calls of Parallel may have an old version of a function of `__main__`, for instance
of a notebook's cell. So such a function always travels by value, also where pickle would find a function of its name.
"""

import io
import sys
from pickle import PickleBuffer, loads
from types import BuiltinFunctionType, FunctionType

try:
    from joblib.externals.cloudpickle import CloudPickler
    from joblib.externals.cloudpickle.cloudpickle import list_registry_pickle_by_value
except ImportError:  # from joblib 1.6 on, it is a package that joblib requires
    from cloudpickle import CloudPickler
    from cloudpickle.cloudpickle import list_registry_pickle_by_value

from .._common import stdlib
from .._common.buffers import may_travel_apart
from .._common.own_pickler import ORIGINAL
from . import arrays

__all__ = [
    "Raised",
    "Sent",
    "are_plain",
    "are_plain_calls",
    "dumped",
    "loaded",
    "reducers_of_call",
    "reducers_of_result",
    "table",
]

#: Buffers of fewer bytes stay in the stream.
_OUT_OF_BAND = 32 << 10


def table(reducers):
    """Return the table of reducers for dumped(), by class: all that are registered, and the given ones."""
    # cloudpickle's reducers of functions precede multiprocessing's, which finds methods by their names.
    return {**stdlib.reducers_of(ORIGINAL), **CloudPickler.dispatch_table, **reducers}


def dumped(obj, reducers):
    """Pickle an object; return the stream and the list of the large buffers. reducers: of table()."""
    stream = io.BytesIO()
    buffers = []

    def keep(buffer):
        if memoryview(buffer).nbytes < _OUT_OF_BAND or not may_travel_apart(buffer):
            return True
        buffers.append(buffer)
        return False

    pickler = CloudPickler.__new__(CloudPickler)
    pickler.dispatch_table = reducers  # first: __init__ looks for it, and its class has another
    pickler.__init__(stream, protocol=5, buffer_callback=keep)
    pickler.dump(obj)
    return stream.getvalue(), buffers


def loaded(stream, *buffers):
    """Return the object of dumped()'s stream and buffers."""
    return loads(stream, buffers=buffers)


def reducers_of_call(numpy, shares):
    """Return the reducers for the batches of a call. shares: the Shares of the call."""

    def reduced(array):
        file = arrays.backed_by_file(array) if shares.local else None
        if file is not None:
            return _by_its_file(array, file)
        return shares.reduced(array) or numpy.asarray(array).__reduce_ex__(5)

    return {numpy.ndarray: reduced, numpy.memmap: reduced}


def reducers_of_result(numpy):
    """Return the reducers for a result. An array that the program has mapped from a named file travels by its name."""

    def reduced(array):
        file = arrays.backed_by_file(array)
        return numpy.asarray(array).__reduce_ex__(5) if file is None else _by_its_file(array, file)

    return {numpy.ndarray: reduced, numpy.memmap: reduced}


def _by_its_file(array, file):
    from joblib._memmapping_reducer import _reduce_memmap_backed

    return _reduce_memmap_backed(array, file)


#: Objects of these classes are pickled alike by pickle and cloudpickle.
_PLAIN = {int, float, complex, bool, str, bytes, type(None)}

#: Batches and results of more objects are given to cloudpickle's pickler, which takes less time than looking at each.
_FEW = 8


def are_plain(values):
    """Whether all objects of a short list or tuple are numbers and texts."""
    return len(values) <= _FEW and _PLAIN.issuperset(map(type, values))


def are_plain_calls(items):
    """Whether (func, args, kwargs) in a short list are functions of modules, with numbers and texts as arguments."""
    if len(items) > _FEW or list_registry_pickle_by_value():  # which has modules whose functions travel by value
        return False
    for func, args, kwargs in items:
        if type(func) is not FunctionType and type(func) is not BuiltinFunctionType:
            return False
        module = func.__module__
        if module == "__main__" or getattr(sys.modules.get(module), func.__qualname__, None) is not func:
            return False
        if not are_plain(args) or (kwargs and not are_plain(kwargs.values())):
            return False
    return True


class Sent:
    """What a worker returns for a batch: the pickled list of results. It is unpickled to the list itself."""

    def __init__(self, stream, buffers):
        self._stream, self._buffers = stream, buffers

    def __reduce__(self):
        stream = PickleBuffer(self._stream) if len(self._stream) >= _OUT_OF_BAND else self._stream
        return loaded, (stream, *self._buffers)


class Raised:
    """The exception of a batch, with its traceback as a text. Its class may be one of `__main__`."""

    def __init__(self, error, text):
        self.error, self.text = error, text
