"""The form in which tasks and results travel by value, with cloudpickle. codec.py has the default form, by name.

Used by engine_pool.py, the executor, and workers. Imported only if a pool has a pickler other than the default.
"""

from .._common import by_value
from .codec import OutOfBand, Sink, Undecided

__all__ = ["RESULTS", "ByValue", "for_tasks"]


class ByValue:
    """A form for encode() and by_name() of codec.py.

    found: a rule of by_value.py, about what the receiver finds in its `__main__`.
    """

    def __init__(self, found):
        self.idle: list[_Pickler] = []  # as BY_NAME.idle
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


class _Pickler(OutOfBand, by_value.Pickler):
    """As codec.py's: it can be used again."""

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
