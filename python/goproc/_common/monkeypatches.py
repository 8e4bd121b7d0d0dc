"""Whether the program, or a tool, has replaced functions of the standard library.

A comparison with the original does not tell: it may have been replaced before goproc was imported. So these functions
look at the globals, which for an original function in Python are those of its module. Used by starters.py and others.
"""

from types import MappingProxyType

from .detached import loaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["has_replaced_methods", "is_replaced"]


def is_replaced(module, name: str) -> bool:
    """Return whether a module's function of this name, which was written in Python, has been replaced."""
    return getattr(getattr(module, name), "__globals__", None) is not vars(module)


def has_replaced_methods(cls: type, module=None, exceptions: "Mapping" = MappingProxyType({})) -> bool:
    """Return whether a method of a class, or of one of its base classes, is not from the module of that class.

    module: the module of these classes, if it is not the one that they name. exceptions: for each class, the names that
    do not count. An object of a class in Python that can be called, such as a mock, is none of its methods either.
    """
    for base in cls.__mro__[:-1]:
        own = vars(module or loaded(base.__module__))
        for name, method in vars(base).items():
            if name in exceptions.get(base, ()):
                continue
            if getattr(method, "__globals__", own) is not own:
                return True
            if callable(method) and type(method).__module__ != "builtins":
                return True
    return False
