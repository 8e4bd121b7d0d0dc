"""The form in which a cluster's tasks are pickled: objects of `__main__` travel by value, as no machine has them.

The functions of `__main__` that come to a worker have one dict of global variables there, as they have here. So a task
finds what an initializer has set. A variable is sent with each function that uses it. A worker takes it once
(arriving.py), and again only if it was assigned a new value here. Objects that have a meaning on one machine only are
refused. Used by pool.py.
"""

import sys
from multiprocessing import connection as _connection
from types import FunctionType

from .._common import by_value
from .._pool.codec import OutOfBand, Sink, Undecided
from .._pool.forms import ByValue
from .arriving import main_globals, update

__all__ = ["Form"]


def _nothing(obj):
    """The rule of by_value.py: a machine finds nothing in its `__main__`."""
    return False


class Form(ByValue):
    """A form for encode() and by_name() of codec.py. contents: the pool's Contents (contents.py)."""

    def __init__(self, contents):
        super().__init__(_nothing)
        self.contents = contents
        self.variables = _Variables()

    def make(self):
        """Return a new pickler."""
        return _Pickler(self.variables, self.contents)


class _Variables:
    """The variables of `__main__` that have been sent: by name, the value and its version."""

    def __init__(self):
        self._sent = {}

    def numbered(self, values):
        """Return values with their versions: a new one for each value that is not the one sent before."""
        made = {}
        for name, value in values.items():
            version, before = self._sent.get(name, (0, None))
            if version == 0 or before is not value:
                version += 1
                self._sent[name] = version, value
            made[name] = version, value
        return made


class _Pickler(OutOfBand, by_value.Pickler):
    """A pickler that can be used again, like that of _pool/forms.py."""

    def __init__(self, variables, contents):
        self.written, self.buffers, self.shares = [], [], []
        self._contents = contents
        self._variables = variables
        super().__init__(_nothing, Sink(self.written.append), 5, self._keep)
        self.undecided = self.dispatch_table = Undecided(self)

    def reduce_shared(self, handle):
        """Return what is pickled for a handle of goproc.share()."""
        self.shares.append(handle)
        return self._contents.note(handle)

    def reset(self):
        super().reset()
        self.globals_ref = {}  # cloudpickle's memo of the globals of functions

    def reducers(self):
        table = by_value.reducers()
        for kind in _refused():
            table[kind] = _refuse
        return table

    def reducer_override(self, obj):
        """Return what pickle is to write for a function or a class; NotImplemented for its name, and other objects."""
        made = super().reducer_override(obj)
        if type(obj) is FunctionType and type(made) is tuple and obj.__module__ in by_value.MAIN:
            return self._with_common_globals(obj, made)
        return made

    def _with_common_globals(self, func, made):
        """Change what cloudpickle writes for a function, so that all functions have the same global variables."""
        try:
            make, (code, _, *others), (state, slots), items, pairs, set_state = made
            values = dict(slots["__globals__"])
        except (KeyError, TypeError, ValueError):
            return made  # another version of cloudpickle
        if func.__globals__ is not vars(sys.modules["__main__"]):
            return made
        slots = {**slots, "__globals__": {}}
        numbered = self._variables.numbered(values)
        return (
            make,
            (code, _GLOBALS, *others),
            (state, {**slots, "_goproc_globals": numbered}),
            items,
            pairs,
            _set_state,
        )


class _Globals:
    def __reduce__(self):
        return main_globals, ()


_GLOBALS = _Globals()


def _set_state(func, state):
    from cloudpickle.cloudpickle import _function_setstate

    plain, slots = state
    update(slots.pop("_goproc_globals"))
    _function_setstate(func, (plain, slots))


def _refused():
    import socket

    return [_connection.Connection, socket.socket, *_more_refused()]


def _more_refused():
    for module, names in (("goproc.connection", ["Connection"]),):
        for name in names:
            kind = getattr(sys.modules.get(module), name, None)
            if isinstance(kind, type):
                yield kind


def _refuse(obj):
    kind = type(obj).__name__
    raise RuntimeError(
        f"a {kind} cannot be sent to another machine: it belongs to this one. Return what the tasks produce as their "
        "results, or use a manager (goproc.Manager with an address) that listens on the network"
    )
