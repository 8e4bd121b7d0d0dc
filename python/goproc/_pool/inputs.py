"""Checks the arguments of Pool's methods, and reads their iterables, which may block or raise."""

import itertools
import operator
from collections import deque

from .._common.threads import OwnThread
from .codec import ITEM, STREAM, outlined
from .failures import interrupts

__all__ = [
    "COLLECTIONS",
    "MUTABLE",
    "Chunks",
    "MapReader",
    "call",
    "checked_limit",
    "flag",
    "iterator_of",
    "one_prefetch",
    "refuse_unknown",
    "whole",
]

#: Collections whose iterators neither block nor run the program's code. So the thread that submits tasks can read the
#: items, and may read several before it submits them. MUTABLE: those that may change while they are read.
MUTABLE = frozenset({list, bytearray, dict, set, deque, type({}.keys()), type({}.values()), type({}.items())})
COLLECTIONS = MUTABLE | {tuple, range, str, bytes, frozenset}


def refuse_unknown(method, unknown, *known):
    """Raise TypeError for keyword arguments that a method does not take, and suggest the argument that may be meant."""
    from difflib import get_close_matches

    name = next(iter(unknown))
    text = f"{method}() got an unexpected keyword argument {name!r}"
    if name == "timeout":  # of a map
        text += ": task_timeout= limits each task; get(timeout) of a result limits how long you wait"
    elif close := get_close_matches(name, known, 1):
        text += f": did you mean {close[0]!r}?"
    raise TypeError(text)


def whole(name, value):
    """Return value as an int. Raises TypeError, as multiprocessing does, with a text that names the argument."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, not {value!r}") from None


def flag(name, value):
    """Return value, an argument that is either true or false, as a bool. Raises TypeError for anything else."""
    if value not in (True, False):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def one_prefetch(prefetch, buffersize):
    """Return the prefetch of imap, which multiprocessing calls buffersize; None if neither is given."""
    if buffersize is None:
        if prefetch is True or prefetch is False:
            raise TypeError(f"prefetch must be an int, not {prefetch!r}")
        return None if prefetch is None else whole("prefetch", prefetch)
    if prefetch is not None:
        raise TypeError("prefetch and buffersize are two names of one argument: give one of them")
    if not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
    return buffersize


def checked_limit(name, seconds):
    """Return a time limit in seconds as a float, None for no limit. Raises TypeError or ValueError."""
    if seconds is None:
        return None
    try:
        positive = seconds > 0
        if isinstance(seconds, bool):
            raise TypeError
    except TypeError:
        raise TypeError(f"{name} must be a number of seconds, not {seconds!r}") from None
    if not positive:
        raise ValueError(f"{name} must be above 0, not {seconds!r}")
    return float(seconds)


class MapReader(OwnThread):
    """A thread that reads the input of map_async or starmap_async, which may block.

    submit: a function that reads the input and submits all tasks; it raises nothing.
    """

    def __init__(self, pool, submit):
        super().__init__("goproc-map", self._read)
        self._owner, self._submit = pool, submit
        pool._feeders.add(self)

    def start(self):
        """Start the thread. Raises RuntimeError when no further thread can be started."""
        try:
            super().start()
        except BaseException:
            self._owner._feeders.discard(self)
            raise

    def _read(self):
        try:
            self._submit()
        finally:
            pool = self._owner
            pool._feeders.discard(self)
            pool._close_when_fed()
            self._owner = self._submit = None

    def _read_all(self):
        self.join()


class Chunks:
    """The items of an iterable, in tuples of a given size."""

    def __init__(self, iterable, size):
        self._items, self._size = iterable, size

    def __iter__(self):
        items = iter(self._items)
        return iter(lambda: tuple(itertools.islice(items, self._size)), ())


def call(func, items, how):
    """Return a task (codec.py) of a map. how: MAP or STARMAP, and items is a chunk; ITEM or STREAM: an item."""
    return how, func, outlined((items,))[0] if how == ITEM or how == STREAM else outlined(items)


def iterator_of(iterable):
    """Return iter(iterable). If iter() raises an error, reading the iterator raises it, as with multiprocessing.

    So the error is raised at the turn of the first result.
    """
    try:
        return iter(iterable)
    except Exception as error:
        if interrupts(error):
            raise
        return _raising(error)


def _raising(error):
    raise error
    yield
