"""The standard library's modules that install() has replaced, for pickles of objects that a program had from them.

After install(), `multiprocessing.synchronize.Lock` means goproc's class. A lock that was made before still has the
standard library's class, and pickle must find that class by a name: `goproc._common.replaced`, `synchronize.Lock`.
"""

from types import FunctionType

from . import stdlib

_MODULES = frozenset({"forkserver", "pool", "popen_fork", "popen_forkserver", "popen_spawn_posix", "queues"})
_MODULES |= {"synchronize"}


def name_anew(name: str) -> None:
    """Give new names to the classes and functions of multiprocessing.<name> in whose place goproc has put its own."""
    standard, ours = stdlib.standard_module(name), stdlib.import_module("goproc." + name)
    for key, found in vars(standard).items():
        if (
            isinstance(found, (type, FunctionType))
            and found.__module__ == standard.__name__
            and getattr(ours, key, None) is not found
        ):
            found.__module__, found.__qualname__ = __name__, f"{name}.{found.__qualname__}"


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    name_anew(name)  # in a child: it may send what it gets to a child of its own
    return stdlib.standard_module(name)
