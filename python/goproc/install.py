"""Makes `import multiprocessing` mean goproc, in this process and in its children.

The package `multiprocessing` is changed in place, in five ways, so that the order of imports does not matter:

    its public names           become goproc's, for `multiprocessing.Pool` and `from multiprocessing import Pool`
    its default context        shares its state with goproc's, for bound methods of it that were imported before
    its concrete contexts      become goproc's, for every get_context("spawn")
    its modules pool, popen_*, become goproc's, for `import multiprocessing.pool` and for multiprocessing's Process
    forkserver, synchronize,   classes, which import popen_* when they start a process
    queues
    its modules heap,          are changed in place by goproc's modules of the same names (_start/companions.py)
    managers, shared_memory

install(futures=True) also changes concurrent.futures in place: the name ProcessPoolExecutor becomes goproc's, and the
class that had the name makes objects of goproc's class.

Classes that were imported before keep their identity. Pickle finds them by other names (_common/replaced.py). goproc's
classes say that they are multiprocessing's, because programs look for that word in a type's name.
docs/design/install.md says why.
"""

import multiprocessing
import sys
from _frozen_importlib import ModuleSpec  # as importlib.machinery has it, without the imports of that module
from _frozen_importlib_external import PathFinder
from threading import get_ident

from . import context
from ._common import disabled, stdlib
from ._common.detached import Finder, insert
from ._common.stdlib import import_module, submodule_finder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # as in stdlib.py

__all__ = ["install"]

_REPLACED_MODULES = {
    "multiprocessing." + name: "goproc." + name
    for name in ("forkserver", "pool", "popen_fork", "popen_forkserver", "popen_spawn_posix")
}
if "locks" not in disabled:
    _REPLACED_MODULES["multiprocessing.synchronize"] = "goproc.synchronize"

if "queues" not in disabled:
    _REPLACED_MODULES["multiprocessing.queues"] = "goproc.queues"

_REPLACEMENTS = {ours: theirs for theirs, ours in _REPLACED_MODULES.items()}


#: The modules whose classes say that they are of another module, besides those in _REPLACED_MODULES.
_NAMED = {"goproc._pool.queue_pool": "multiprocessing.pool"}

_EXECUTORS = "concurrent.futures.process"

#: By name: the thread that imports, or has imported, one of goproc's modules in _REPLACED_MODULES.
_importers: dict = {}


def install(*, futures: bool = False) -> None:
    """Make the module multiprocessing mean goproc, for the rest of this program and in all its children.

    futures: whether concurrent.futures.ProcessPoolExecutor is to mean goproc.futures.ProcessPoolExecutor, too.

    A second call only adds futures. Call it before other modules are imported: a Pool that was imported from
    multiprocessing.pool before stays the standard library's class, though its processes are goproc's. A start method
    that has been set with multiprocessing stays set. Raises TypeError if futures is not a bool.
    """
    if futures not in (True, False):
        raise TypeError(f"futures must be True or False, not {futures!r}")
    if futures and not stdlib.installed_futures:
        stdlib.installed_futures = True
        if hasattr(sys.modules.get(_EXECUTORS), "ProcessPoolExecutor"):
            _replace_executor()
    if stdlib.installed:
        return
    stdlib.installed = True
    _replace_contexts()
    _replace_modules()
    from ._start import companions  # here: `import goproc` imports this module

    companions.want(companions.ALL)
    for name in multiprocessing.__all__:
        setattr(multiprocessing, name, getattr(context._default_context, name))
    if not hasattr(multiprocessing, "__getattr__"):
        multiprocessing.__getattr__ = submodule_finder("multiprocessing")  # type: ignore[method-assign]


def _replace_contexts() -> None:
    ours, theirs = context._default_context, stdlib.default_context()
    if ours._actual_context is None and theirs._actual_context is not None:
        settled = theirs._actual_context
        ours._actual_context = context._concrete_contexts.get(settled._name, settled)
    stdlib.replace_contexts(ours, context._concrete_contexts, context.DefaultContext)


def _replace_modules() -> None:
    for theirs, ours in _REPLACED_MODULES.items():
        if theirs in sys.modules:
            from ._common import replaced

            _put_in_place(theirs, import_module(ours))
            replaced.name_anew(theirs.rpartition(".")[2])
    for name, theirs in _NAMED.items():
        if name in sys.modules:
            _name_classes(sys.modules[name], theirs)
    insert(Finder(__name__, "_find_replaced"))


def _replace_executor() -> None:
    import concurrent.futures
    from concurrent.futures import process

    from .futures import ProcessPoolExecutor as Ours

    Standard: Any = process.ProcessPoolExecutor
    if Standard is Ours:
        return

    def new(cls, *args, **kwds):
        """Return a new object: of goproc's class if this class itself is called, which a program imported before."""
        return Ours.__new__(Ours) if cls is Standard else object.__new__(cls)

    Standard.__new__ = staticmethod(new)
    process.ProcessPoolExecutor = Ours  # type: ignore[misc]
    if "ProcessPoolExecutor" in vars(concurrent.futures):
        concurrent.futures.ProcessPoolExecutor = Ours  # type: ignore[misc]


def _put_in_place(theirs, module) -> None:
    replaced = sys.modules.get(theirs)
    if replaced is not None and replaced.__name__ == theirs:
        stdlib.replaced[theirs] = replaced
    sys.modules[theirs] = module
    setattr(multiprocessing, theirs.rpartition(".")[2], module)
    _name_classes(module, theirs)


def _name_classes(module, theirs) -> None:
    """Let the classes of one of goproc's modules say that they are of one of multiprocessing's."""
    for found in vars(module).values():
        if isinstance(found, type) and found.__module__ == "goproc." + theirs.rpartition(".")[2]:
            found.__module__ = theirs


def _find_replaced(name, path=None, target=None):
    """Find goproc's module in the place of one of multiprocessing's.

    It is imported only when the program imports multiprocessing's: a spawned child that uses no pool should not import
    one. For the thread that imports goproc's module, the name meanwhile means the standard library's module. Other
    threads wait for goproc's. No module of goproc's may import its counterpart by name, because that would wait for
    such a thread: standard_module() finds it without the import system's lock.
    """
    if name == _EXECUTORS and stdlib.installed_futures:
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = _ExecutorLoader(spec.loader)  # type: ignore[assignment]
        return spec
    ours = _REPLACED_MODULES.get(name)
    if ours is not None:
        module = sys.modules.get(ours)
        is_unfinished = module is not None and getattr(module.__spec__, "_initializing", False)
        if is_unfinished and _importers.get(ours, get_ident()) == get_ident():
            return None
        return ModuleSpec(name, _AliasLoader)  # type: ignore[arg-type]
    theirs = _REPLACEMENTS.get(name) or _NAMED.get(name)
    if theirs is not None:
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            loader = _ReplacingLoader if name in _REPLACEMENTS else _NamingLoader
            spec.loader = loader(spec.loader, theirs)  # type: ignore[assignment]
        return spec
    return None


class _AliasLoader:
    """Loads one of multiprocessing's modules by returning goproc's module, which is imported completely before."""

    @staticmethod
    def create_module(spec):
        module = import_module(_REPLACED_MODULES[spec.name])
        spec.loader_state = module.__spec__
        return module

    @staticmethod
    def exec_module(module):
        module.__spec__ = module.__spec__.loader_state  # the import system has replaced it by the alias's spec


class _ReplacingLoader:
    """Loads one of goproc's modules, and then replaces multiprocessing's module by it."""

    def __init__(self, loader, theirs=None):
        self._loader = loader
        self._theirs = theirs

    def create_module(self, spec):
        _importers[spec.name] = get_ident()
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._replace(module)

    def _replace(self, module):
        _put_in_place(self._theirs, module)
        if self._theirs == "multiprocessing.queues":
            # Where there is no shared memory, queues are of multiprocessing's class, and are pickled by that name.
            from ._common import replaced

            replaced.name_anew("queues")


class _NamingLoader(_ReplacingLoader):
    """Loads one of goproc's modules, whose classes say then that they are of multiprocessing's."""

    def _replace(self, module):
        _name_classes(module, self._theirs)


class _ExecutorLoader(_ReplacingLoader):
    """Loads concurrent.futures.process, and then replaces its executor by goproc's."""

    def _replace(self, module):
        _replace_executor()


stdlib.install_again = install
