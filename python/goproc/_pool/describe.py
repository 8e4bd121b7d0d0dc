"""Names a lost task in exceptions and in the log, by its place in the input and a short text of its arguments.

The problem: when a task is lost, the main program no longer has its arguments: they were pickled and sent to a worker.
What does not work: keeping the arguments would keep objects alive, and cost time for each task; unpickling them would
run the program's code. The solution: the engine gives back the pickle, and an unpickler reads it that has placeholders
for classes and functions. The limits: large arguments are not in the rings but in extents, and are not shown.

Used by dispatch.py, when a worker has ended.
"""

import io
import pickle
import reprlib

from .. import _native
from .._common.log import warn
from .._common.picklers import explain
from .._common.stdlib import python_unpickler
from ..errors import MemoryLimitError, TaskTimeoutError, WorkerLostError
from .codec import CALL, ITEM, MAP, STREAM
from .failures import add_note, raised_by_handler

__all__ = ["arguments_in_short", "ended", "explain_pickling", "in_one_line", "item_of", "note_item"]

#: The longest text for the arguments of a call, in characters.
_LONGEST = 80


class Lost:
    """The engine's report on a task whose worker has ended (KindLost, core/ring/layout.go).

    In a cluster's pool the report is a tuple (report, machine, why): see WorkerLostError. pid, exitcode: of the worker.
    seconds: how long the task ran, 0.0 if that is not known.
    """

    def __init__(self, report: "bytes | tuple[bytes, str, str | None]") -> None:
        self.machine: str | None = None
        self.why: str | None = None
        if type(report) is tuple:
            report, self.machine, self.why = report
        assert type(report) is bytes
        line, _, self._payload = report.partition(b"\n")
        self.pid, self.exitcode, self._number, microseconds = map(int, line.split())
        self.seconds = microseconds / 1e6

    def arguments(self) -> "str | None":
        """Return a short text of the arguments of the call, None if they cannot be shown."""
        return arguments_in_short(self._payload, self._number)


def ended(kind, payload, result, index, task_memory):
    """Return the exception for a task whose worker has ended, and log it. task_memory: the pool's limit, in bytes."""
    lost = Lost(payload)
    func = getattr(result, "_func", None)
    name = None if func is None else _name_of(func)
    which = (*item_of(result, index), lost.arguments())
    error: Exception
    if kind == _native.TIMEOUT and result is not None:
        error = TaskTimeoutError(lost.pid, result._limit, name, *which)
    elif kind == _native.MEMORY:
        error = MemoryLimitError(lost.pid, task_memory, name, *which)
    else:
        error = WorkerLostError(lost.pid, lost.exitcode, name, 0, None, *which, lost.machine, lost.why)  # type: ignore
    after = f" (after {lost.seconds:.3f} s)" if lost.seconds else ""
    again = "; the task is run again" if kind == _native.RETRIED else ""
    warn(f"pool: {error}{after}{again}")
    return error


def item_of(result, index, offset=None):
    """Return which items of a map's input a task has: (index of the first item, number of items).

    (None, 1) if the task is not of a map. offset: return only the item at this offset in the task; None for all items.
    """
    size = getattr(result, "_chunksize", None)
    if size is None:
        return None, 1
    if type(index) is tuple:  # several tasks, answered together, or a part
        index = index[0]
    if offset is not None:
        return index * size + offset, 1
    length = getattr(result, "_input_length", None)
    return index * size, size if length is None else max(1, min(size, length - index * size))


def note_item(error, result, index, offset):
    """Add notes to an exception: which item of a map's input raised it, and the hint of the pool, if it has any.

    Python 3.10 has no notes.
    """
    first, count = item_of(result, index, offset)
    if first is not None:
        add_note(
            error,
            f"goproc: raised for item {first} of the input"
            if count == 1
            else f"goproc: raised for one of the items {first} to {first + count - 1} of the input",
        )
    hint = getattr(getattr(result, "_pool", None), "_hint", None)  # a pool on a cluster has one
    if hint is not None and (text := hint(error)):
        add_note(error, text)


def _name_of(func):
    """Return a name for the function of a task. func may be any object, even an object whose attributes raise."""
    try:
        name = func.__qualname__
    except BaseException as error:
        if raised_by_handler(error) or isinstance(error, KeyboardInterrupt):
            raise
        name = None
    return name if name and type(name) is str else type(func).__qualname__


def arguments_in_short(payload: bytes, number: int) -> "str | None":
    """Return a short text of a call's arguments, as between the parentheses of the call; None if they cannot be shown.

    payload: a pickled task (codec.py). number: which task of a batch. For a chunk of several items: the list of items.
    """
    try:
        task = _Reader(io.BytesIO(payload)).load()
        how, _, args, *rest = task
        if rest and how != CALL:  # a batch
            args = args[number]
        if how == ITEM or how == STREAM:
            text = _short.repr(args)
        elif how != CALL:  # a chunk of items, or of tuples of arguments
            values = [list(args)] if len(args) > 1 else args if how == MAP else args[0]
            text = ", ".join(map(_short.repr, values))
        else:
            texts = [_short.repr(value) for value in args]
            text = ", ".join(texts + [f"{name}={_short.repr(value)}" for name, value in rest[0].items()])
    except Exception:  # the payload is gone, a worker has overwritten it, or a program's own reducer has pickled it
        return None
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def in_one_line(error: BaseException) -> str:
    """Return an exception as one line, like the last line of a traceback: its type, and the first line of its text."""
    try:
        text = str(error).strip().partition("\n")[0]
    except Exception:
        text = "<its text cannot be shown>"
    name = type(error).__qualname__
    return f"{name}: {text}" if text else name


def explain_pickling(error: BaseException, by_name: bool) -> None:
    """Add a note to an error in pickling a call if its cause is the most common one: a lambda, or a local function.

    by_name: whether functions travel by their names. Then another pickler may help, and the error says so.
    """
    if not by_name:
        return
    text = str(error)
    if isinstance(error, (pickle.PicklingError, AttributeError)) and ("lambda" in text or "local object" in text):
        add_note(
            error,
            "goproc: a function travels to a worker by its name, so lambdas and functions defined within functions "
            "cannot. Define it at the top level of a module; functools.partial of such a function can travel, too.",
        )
    explain(error)


class _Reader(python_unpickler()):  # type: ignore[misc]
    """An unpickler that imports and calls nothing.

    It derives from pickle's unpickler in Python, because that takes no more memory than it has bytes to read, even if
    the bytes are no pickle.
    """

    def find_class(self, module: str, name: str) -> "_Named":
        return _Named(name.rpartition(".")[2])


class _Named:
    """A placeholder for a class or a function."""

    def __new__(cls, *args):
        if isinstance(cls, _Named):  # the unpickler makes an object of the class that cls stands for
            return _Made(cls.name, args)
        return object.__new__(cls)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args):
        if self.name == "_make_function":  # cloudpickle's, as the next one
            return _Named("<function>")
        if self.name == "_make_skeleton_class":
            return _Named(args[1])
        return _Made(self.name, args)

    def __repr__(self) -> str:
        return self.name


#: Functions that make a numpy array from its contents: goproc's (codec.py), and numpy's.
_MAKERS_OF_ARRAYS = ("_small_array", "_frombuffer")


class _Made:
    """A placeholder for an object that a class or a function makes."""

    def __init__(self, name: str, args: tuple) -> None:
        if args and isinstance(args[0], _Named):  # as numpy's _reconstruct(ndarray, ...)
            name, args = args[0].name, ()
        elif name in _MAKERS_OF_ARRAYS:
            name, args = "ndarray", ()
        self._name, self._args = name, args

    def __call__(self, *args):
        return _Made(self._name, args)  # a class that a function has found, as cloudpickle finds the type of code

    def __setstate__(self, state: object) -> None:
        self._args = ()

    def extend(self, values: object) -> None:
        self._args = ()

    def __setitem__(self, key: object, value: object) -> None:
        self._args = ()

    append = add = extend

    def __repr__(self) -> str:
        if not self._args:
            return f"<{self._name} object>"
        return f"{self._name}({', '.join(map(_short.repr, self._args))})"


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
