"""Pickles functions and classes by value, with cloudpickle, if the other process would not find them by their names.

cloudpickle by itself pickles everything of `__main__` by value. goproc does so only where it is needed. A function that
travels by its name is small, and has the other process's variables; a class stays the same class. So goproc must know
what the other process finds in its `__main__`:

    fork                 what was there when the workers were forked: AtFork
    spawn, forkserver    what the program's file defines when it is imported: Importable
    the way back         what is there now: here. A worker has nothing in its `__main__` that its parent has not.

Imported only if cloudpickle is used. docs/design/pickler.md says why.
"""

import ast
import os
import sys
import tokenize
import weakref
from io import BytesIO
from multiprocessing import process
from pickle import DEFAULT_PROTOCOL
from pickle import Pickler as _Standard
from types import FunctionType

import cloudpickle
from cloudpickle.cloudpickle import list_registry_pickle_by_value

from .own_pickler import ORIGINAL
from .stdlib import reducers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MAIN", "Pickler", "dump", "dumps", "here", "reducers", "registered_by_value", "rule"]

#: The name of the main module, and its second name in a process that was started by spawn or forkserver.
MAIN = ("__main__", "__mp_main__")


class Pickler(cloudpickle.Pickler):
    """A pickler of cloudpickle that prefers names, and knows the reducers that are registered with multiprocessing.

    found: a rule of those below. The other arguments are cloudpickle's.
    """

    # pickle's own attribute. cloudpickle's class hides it behind a table of its own, so it could not be assigned.
    dispatch_table: "Any" = vars(_Standard)["dispatch_table"]

    def __init__(self, found, file, protocol, buffer_callback=None):
        self.found = found
        super().__init__(file, protocol, buffer_callback)

    def reducer_override(self, obj):
        """Return what pickle is to write for a function or a class; NotImplemented for its name, and other objects."""
        if isinstance(obj, (FunctionType, type)):
            if getattr(obj, "__module__", None) in MAIN and _is_named(obj) and self.found(obj):
                return NotImplemented
            return super().reducer_override(obj)
        return NotImplemented


#: cloudpickle's own reducers. Its table has those of copyreg as a second part.
_CLOUDPICKLES = dict(cloudpickle.Pickler.dispatch_table.maps[0])


def reducers():
    """Return a new dict of reducers by class: cloudpickle's, and those that are registered for a ForkingPickler."""
    return _CLOUDPICKLES | reducers_of(ORIGINAL)


def dump(obj, file):
    """Pickle a process object into a file. The process is started by spawn or forkserver."""
    pickler = Pickler(Importable(), file, DEFAULT_PROTOCOL)
    pickler.dispatch_table = reducers()
    pickler.dump(obj)


def dumps(obj):
    """Pickle an object for the parent of this process; return bytes."""
    buffer = BytesIO()
    pickler = Pickler(here, buffer, 5)
    pickler.dispatch_table = reducers()
    pickler.dump(obj)
    return buffer.getvalue()


def registered_by_value(module):
    """Whether the program has called cloudpickle.register_pickle_by_value() for the module, or its package."""
    registered = list_registry_pickle_by_value()
    return bool(registered) and any(module == name or module.startswith(name + ".") for name in registered)


def rule(method):
    """Return the rule for workers that are about to be started by a start method."""
    return AtFork() if method == "fork" else Importable()


def _is_named(obj):
    """Whether the name of a function or a class leads to it, in `__main__`."""
    found = sys.modules["__main__"]
    try:
        for name in obj.__qualname__.split("."):
            found = getattr(found, name)
    except AttributeError:
        return False
    return found is obj


def here(obj):
    """The rule for a result: the name is enough if it leads to the object in this process."""
    return True


class AtFork:
    """The rule for forked workers: whether `__main__` had the function or class when this object was made.

    Each variable that a function uses must have been there, too. If its value is a function or a class, it must have
    had the same value. Other values may have changed since: the worker has the old value.
    """

    def __init__(self):
        members = vars(sys.modules["__main__"])
        self._names = frozenset(members)
        self._code = {id(value): weakref.ref(value) for value in members.values() if _is_code(value)}

    def __call__(self, obj):
        members = vars(sys.modules["__main__"])
        names = {obj.__qualname__.partition(".")[0]}
        if isinstance(obj, FunctionType):
            names.update(obj.__code__.co_names)
        return all(name in self._names and self._had(members[name]) for name in names if name in members)

    def _had(self, value):
        if not _is_code(value):
            return True
        reference = self._code.get(id(value))
        return reference is not None and reference() is value


def _is_code(value):
    return isinstance(value, (FunctionType, type))


class Importable:
    """The rule for spawn and forkserver: whether the child's import of the main module defines the name."""

    def __call__(self, obj):
        names = _imported_names()
        return names is None or obj.__qualname__.partition(".")[0] in names


#: The last answer of _imported_names(), and the module and the path that it is for.
_last: "tuple[Any, ...]" = (None, None, None)


def _imported_names():
    """Return the names that a child finds in its `__main__`; None if they are not known.

    A child imports no main module if this is a notebook, a prompt or `python -c`. Then there are no names.
    """
    global _last
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if _last[0] is main and _last[1] == path:
        return _last[2]
    names = _names_in_file(main, path)
    _last = (main, path, names)
    return names


def _names_in_file(main, path):
    module = getattr(getattr(main, "__spec__", None), "name", None)
    if module is not None and (module == "__main__" or module.endswith(".__main__")):
        return frozenset()  # `python folder`, `python -m package`: multiprocessing does not import such a module
    if getattr(sys, "frozen", False):
        return None
    if path is None or (module is None and os.path.splitext(os.path.basename(path))[0] == "ipython"):
        return frozenset()
    if not os.path.isabs(path) and process.ORIGINAL_DIR is not None:
        path = os.path.join(process.ORIGINAL_DIR, path)
    if module is None and not os.path.exists(path):
        return frozenset()  # such as "<stdin>"
    try:
        with tokenize.open(path) as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return None  # no source: a compiled file, or one in an archive
    names: set = set()
    _collect(tree.body, names)
    return names


def _collect(statements, names):
    """Add the names that statements define, except below `if __name__ == "__main__":`, and within functions."""
    for node in statements:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
            continue
        parts = [part for part in ast.iter_child_nodes(node) if not isinstance(part, ast.stmt)]
        if isinstance(node, ast.If) and _is_guard(node.test):
            _collect(node.orelse, names)
        else:
            inner = []
            for part in ast.iter_child_nodes(node):
                if isinstance(part, ast.stmt):
                    inner.append(part)
                elif isinstance(part, (ast.ExceptHandler, ast.match_case)):
                    inner += part.body
            _collect(inner, names)
        for part in parts:
            if not isinstance(part, (ast.ExceptHandler, ast.match_case)):
                names.update(n.id for n in ast.walk(part) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


def _is_guard(test):
    """Whether the condition of an `if` asks whether `__name__` is "__main__"."""
    names = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
    texts = {node.value for node in ast.walk(test) if isinstance(node, ast.Constant)}
    return "__name__" in names and "__main__" in texts
