"""What the interpreter keeps to its very end: finders for sys.meta_path, and functions for os.register_at_fork().

    Function    calls a function of a module
    Finder      a finder that calls a function of a module
    Kept        a finder for modules that have been removed from sys.modules
    insert      inserts a finder into sys.meta_path
    loaded      finds such a module

A function keeps the globals of its module, and all that they refer to. The interpreter keeps finders and such functions
until after its last garbage collection. So functions of goproc's modules would keep, for instance, the target of the
current process, and with it the program's main module. The program's objects would not be finalized: the end of a
compressed file would not be written. The objects here have weak references to modules. A name in sys.modules would not
do: tests remove modules from it.
"""

import sys
from _frozen_importlib import ModuleSpec  # as importlib.machinery has it, without the imports of that module
from _weakref import ref

__all__ = ["Finder", "Function", "Kept", "insert", "loaded"]


class Function:
    """Calls a function of a module."""

    def __init__(self, module, name):
        self._module = ref(sys.modules[module])
        self._name = name

    def __call__(self):
        function = getattr(self._module(), self._name, None)
        if function is not None:  # else the interpreter ends
            function()


class Finder:
    """A finder that calls a function of a module."""

    def __init__(self, module, name):
        self._module = ref(sys.modules[module])
        self._name = name

    def find_spec(self, name, path=None, target=None):
        function = getattr(self._module(), self._name, None)
        return None if function is None else function(name, path, target)


class Kept:
    """A finder for modules of some packages that have been removed from sys.modules: they come back as they were.

    unittest.mock.patch.dict(sys.modules, ...) removes all modules that were imported meanwhile. If they were imported
    once more, there would be two copies of what a process has only once, such as the engine and its children.
    """

    def __init__(self, *packages):
        self._packages = {package.__name__: ref(package) for package in packages}

    def find_spec(self, name, path=None, target=None):
        package, *rest = name.split(".")
        if package not in self._packages or target is not None:  # a target: importlib.reload()
            return None
        module = _within(self._packages[package](), rest)
        spec = getattr(module, "__spec__", None)
        if spec is None or spec.name != name or getattr(spec, "_initializing", False):
            return None
        return ModuleSpec(name, _Keeper(module, spec))  # type: ignore[arg-type]


def insert(finder) -> None:
    """Insert a finder into sys.meta_path: before all others but Kept, whose modules need not be found anew."""
    at = max((at for at, other in enumerate(sys.meta_path) if isinstance(other, Kept)), default=-1)
    sys.meta_path.insert(at + 1, finder)


def loaded(name: str):
    """Return a module that has been imported, even if it has been removed from sys.modules since; else None."""
    package, *rest = name.split(".")
    return sys.modules.get(name) or _within(sys.modules.get(package), rest)


def _within(package, names):
    """Return the module that is found in a package by these names, one in the other; None if there is none."""
    for name in names:
        package = getattr(package, "__dict__", {}).get(name)
    return package


class _Keeper:
    """Loads a module by returning it."""

    def __init__(self, module, spec):
        self._module = module
        self._spec = spec

    def create_module(self, spec):
        return self._module

    def exec_module(self, module):
        module.__spec__ = self._spec  # the import system has replaced it
