"""The form in which tasks and results travel by value, with cloudpickle. codec.py has the default form, by name.

Used by engine_pool.py, the executor, and workers. Imported only if a pool has a pickler other than the default.
"""

import sys
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType

from .._common import by_value
from .codec import OutOfBand, Sink, Undecided, encode, function_pickled
from .failures import interrupts

__all__ = ["RESULTS", "ByValue", "for_tasks"]


class ByValue:
    """A form for encode() and by_name() of codec.py.

    found: a rule of by_value.py, about what the receiver finds in its `__main__`.
    """

    def __init__(self, found):
        self.idle: list[OutOfBand] = []  # as BY_NAME.idle
        self._found = found

    def make(self):
        """Return a new pickler."""
        return _Pickler(self._found)

    def finds(self, func):
        """Whether the receiver finds a function by its name. This process does."""
        module = func.__module__
        if module in by_value.MAIN:
            return self._found(func)
        return not by_value.registered_by_value(module)

    def pickled_once(self, func):
        """Return what stands for a function in all tasks of one call of a map: its pickle; or the function itself.

        Pickling a function by value takes 50 us. A function is pickled anew for each task only if a program could
        notice the difference: if the function has objects that may change, or that may also be in an item.
        """
        if type(func) is not FunctionType or not _has_constants_only(func, set()):
            return func
        try:
            stream, buffers = encode(func, self)
        except Exception as error:
            if interrupts(error):
                raise
            return func  # the tasks raise the error
        return func if buffers else _Pickled(b"".join(stream) if type(stream) is list else stream)


class _Pickled:
    """A function that has been pickled. It is unpickled as the function, once in each worker."""

    def __init__(self, stream):
        self._stream = stream

    def __reduce__(self):
        return function_pickled, (self._stream,)


_CONSTANTS = frozenset({type(None), bool, int, float, complex, str, bytes, ModuleType, BuiltinFunctionType})


def _has_constants_only(func, seen):
    """Whether no object that a function refers to, by name or in its closure, can change, or differ from its copy."""
    seen.add(func)
    try:
        values = [cell.cell_contents for cell in func.__closure__ or ()]
    except ValueError:
        return False  # a variable that is not set yet
    values += [*(func.__defaults__ or ()), *(func.__kwdefaults__ or {}).values(), *vars(func).values()]
    values += func.__annotations__.values()
    values += [func.__globals__[name] for name in _names(func.__code__) if name in func.__globals__]
    return all(_is_constant(value, seen) for value in values)


def _is_constant(value, seen):
    kind = type(value)
    if kind in _CONSTANTS:
        return True
    if kind is tuple:
        return all(_is_constant(item, seen) for item in value)
    module = str(getattr(value, "__module__", None))
    if module not in by_value.MAIN and getattr(sys.modules.get(module), getattr(value, "__name__", ""), None) is value:
        return kind is FunctionType or isinstance(value, type)
    return kind is FunctionType and (value in seen or _has_constants_only(value, seen))


def _names(code):
    """Return the global names that a code object uses, with those of the functions in it."""
    inner = [_names(constant) for constant in code.co_consts if type(constant) is CodeType]
    return set(code.co_names).union(*inner)


class _Pickler(OutOfBand, by_value.Pickler):
    """A pickler that can be used again, like codec.py's."""

    def __init__(self, found):
        self.written, self.buffers, self.shares = [], [], []
        super().__init__(found, Sink(self.written.append), 5, self._keep)
        self.undecided = self.dispatch_table = Undecided(self)

    def reset(self):
        super().reset()
        self.globals_ref = {}  # cloudpickle's memo of the globals of functions

    def reducers(self):
        return by_value.reducers()


def for_tasks(method):
    """Return the form for the tasks of workers that are about to be started. method: the start method."""
    return ByValue(by_value.rule(method))


#: The form for results.
RESULTS = ByValue(by_value.here)
