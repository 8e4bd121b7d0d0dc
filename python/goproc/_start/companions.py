"""Has goproc's module imported together with multiprocessing's of the same name, which it changes in place.

A program that imports goproc under this name imports goproc's module. But the pickled objects of that program name
multiprocessing's module, and so does a program that uses goproc under multiprocessing's name. Used by install.py, and
by spawn.py in spawned children. docs/design/install.md.
"""

import sys
from _frozen_importlib_external import PathFinder  # as importlib.machinery has it, without the imports of that module

from .._common.detached import Finder, insert
from .._common.stdlib import import_module

__all__ = ["ALL", "want", "wanted"]

#: The modules that goproc changes in place.
ALL = ("heap", "managers", "shared_memory")

_wanted: "set[str]" = set()


def wanted() -> "list[str]":
    """Return the names of the modules that are changed here, and are to be changed in a child."""
    return [name for name in ALL if name in _wanted or f"goproc.{name}" in sys.modules]


def want(names) -> None:
    """Have goproc's modules of these names imported, now, or when multiprocessing's are imported."""
    for name in names:
        if f"multiprocessing.{name}" in sys.modules:
            import_module(f"goproc.{name}")
    new = set(names) - _wanted
    if new and not _wanted:
        insert(Finder(__name__, "find_wanted"))
    _wanted.update(new)


def find_wanted(name, path=None, target=None):
    """Find one of multiprocessing's modules, so that goproc's is imported with it."""
    package, _, module = name.rpartition(".")
    if package != "multiprocessing" or module not in _wanted:
        return None
    spec = PathFinder.find_spec(name, path, target)
    if spec is not None:
        spec.loader = _Loader(spec.loader, f"goproc.{module}")  # type: ignore[assignment]
    return spec


class _Loader:
    """Loads one of multiprocessing's modules, and then imports goproc's."""

    def __init__(self, loader, ours):
        self._loader = loader
        self._ours = ours

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        import_module(self._ours)
