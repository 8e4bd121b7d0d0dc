"""Defers imports in a spawned child; modules that it does not need would take a third of its start.

`import multiprocessing` imports multiprocessing.reduction, and with it pickle, re, socket and selectors.
multiprocessing.spawn imports runpy. A child that runs a plain function uses none of these modules. Here they are put
into sys.modules as empty modules, and executed at the first access to one of their names. Import statements and
attributes work as always; only the time of the execution changes.

Imported by __init__.py in a spawned child, before multiprocessing; used by spawn.py and spawn_server.py. The switch
GOPROC_DISABLE=deferred-imports disables it.
"""

import gc
import sys
import threading
from _frozen_importlib import ModuleSpec  # importlib.machinery's, without what that imports
from _frozen_importlib_external import PathFinder
from types import ModuleType

from .stand_in import StandIn, import_with

__all__ = ["collect_garbage_again", "import_all", "import_util", "use_tracker"]

_tracker_fd: "int | None" = None  # the resource tracker's pipe that the child has inherited

# Imported objects stay alive, so a garbage collection during the imports would find nothing.
_collecting = gc.isenabled()
gc.disable()


def collect_garbage_again():
    """Restore the garbage collector's state from before the import of goproc. Call it before the user's code runs."""
    if _collecting:
        gc.enable()


class _DeferredModule(ModuleType):
    """A module that is executed at the first access to a name that it does not have yet."""

    def __getattr__(self, name):
        if name.startswith("__"):  # the import system reads dunder names that a module may lack
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self._execute()
        return ModuleType.__getattribute__(self, name)

    def __setattr__(self, name, value):
        if not name.startswith("_"):  # a program replaces one of the module's names
            self._execute()
        super().__setattr__(name, value)

    def _execute(self):
        with _lock:
            # No loader is left if another thread has executed the module meanwhile, or if this thread is executing it.
            loader = self.__dict__.pop("_deferred_loader", None)
            if loader is not None:
                loader.exec_module(self)
                _MODULES[self.__name__](self)
                self.__class__ = ModuleType  # type: ignore[assignment]


class _DeferringFinder:
    """A finder for sys.meta_path, and the loader of the modules that it finds."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name not in _MODULES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None:
            return None
        deferred = ModuleSpec(name, cls, origin=spec.origin, loader_state=spec)  # type: ignore[arg-type]
        deferred.has_location = True
        return deferred

    @staticmethod
    def create_module(spec):
        return _DeferredModule(spec.name)

    @staticmethod
    def exec_module(module):
        spec = module.__spec__.loader_state
        module.__spec__, module.__loader__ = spec, spec.loader
        module._deferred_loader = spec.loader


def use_tracker(fd):
    """Use the resource tracker that reads from the pipe fd: now, or when module resource_tracker is executed."""
    global _tracker_fd
    _tracker_fd = fd
    module = sys.modules.get("multiprocessing.resource_tracker")
    if module is not None and not isinstance(module, _DeferredModule):
        _use_inherited_tracker(module)


def import_all():
    """Execute all deferred modules now."""
    for name in _MODULES:
        __import__(name)
        getattr(sys.modules[name], "a name that it has not", None)


def _use_inherited_tracker(resource_tracker):
    if _tracker_fd is not None:
        from .._common import stdlib  # which imports multiprocessing

        stdlib.inherit_tracker(_tracker_fd)


_MODULES = {
    "runpy": lambda module: None,
    "multiprocessing.reduction": lambda module: None,
    "multiprocessing.resource_tracker": _use_inherited_tracker,
}
_lock = threading.RLock()
sys.meta_path.insert(0, _DeferringFinder)


def import_util():
    """Import multiprocessing.util without subprocess: util imports one function from it, which only a parent calls."""

    from .._common import stdlib

    stand_in = StandIn("subprocess", _args_from_interpreter_flags=stdlib.flags_without_subprocess())
    import_with(stand_in, "multiprocessing.util")
