"""The class of goproc's queue classes: after install(), programs know these by multiprocessing's names.

Programs ask `type(queue) is multiprocessing.queues.Queue`. So that name must be goproc's class. They also derive from
it, and rely on all parts of multiprocessing's queue then. So a class that is derived after install() derives from
multiprocessing's class instead. For its objects:

    isinstance(queue, Queue)        is true
    Queue.put(queue, item)          calls multiprocessing's method
    Queue.put = ...                 is set in multiprocessing's class, too

Used by queues.py and context.py.
"""

from abc import ABCMeta
from types import FunctionType, MappingProxyType, ModuleType

from .. import _native
from . import stdlib
from .detached import loaded
from .monkeypatches import has_replaced_methods

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing import queues as _standard
else:
    _standard = stdlib.standard_module("queues")

__all__ = ["STANDARD", "QueueType", "QueuesModule", "class_to_make", "is_replaced", "mirror", "set_own"]

#: multiprocessing's class, for each of goproc's classes.
STANDARD: "dict[type, type]" = {}

#: multiprocessing's classes by their names, which install() changes.
_by_name: "dict[str, type]" = {}

#: By class and name: goproc's method, and a function that calls the method of the object's kind, goproc's or
#: multiprocessing's.
_methods: "dict[type, dict[str, tuple]]" = {}

#: By class of multiprocessing's and name: what the class itself had before a program set the name in goproc's class.
_covered: "dict[type, dict[str, object]]" = {}

_NOTHING = object()


class QueueType(ABCMeta):
    """The class of Queue, JoinableQueue and SimpleQueue. It derives from ABCMeta: programs add ABC as a base."""

    def __new__(mcs, name, bases, namespace, **keywords):
        if not stdlib.installed or not any(base in STANDARD for base in bases):
            return super().__new__(mcs, name, bases, namespace, **keywords)
        bases = tuple(STANDARD.get(base, base) for base in bases)
        kind = type
        for base in bases:
            if issubclass(type(base), kind):
                kind = type(base)
        return kind(name, bases, namespace, **keywords)

    def __instancecheck__(cls, instance):
        if stdlib.installed and cls in STANDARD:
            return isinstance(instance, STANDARD[cls])
        return super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass):
        if stdlib.installed and cls in STANDARD:
            return issubclass(subclass, STANDARD[cls])
        return super().__subclasscheck__(subclass)

    def __getattribute__(cls, name):
        found = super().__getattribute__(name)
        if stdlib.installed and cls in _methods:
            if name == "__dict__":  # for tools such as unittest.mock, which look for functions there
                names = [name for name in vars(STANDARD[cls]) if name in _methods[cls]]
                return MappingProxyType({**found, **{name: getattr(cls, name) for name in names}})
            ours, either = _methods[cls].get(name, (None, None))
            if ours is not None and ours is found:
                return either
        return found

    def __setattr__(cls, name, value):
        # A program puts back a method that it has replaced for a while.
        ours, either = _methods.get(cls, {}).get(name, (None, None))
        is_method = ours is not None and (value is ours or value is either)
        super().__setattr__(name, ours if is_method else value)
        if stdlib.installed and cls in STANDARD and name != "__module__":
            _uncover(STANDARD[cls], name) if is_method else _cover(STANDARD[cls], name, value)

    def __delattr__(cls, name):
        super().__delattr__(name)
        if cls in STANDARD:
            _uncover(STANDARD[cls], name)


def _cover(theirs, name, value):
    """Set an attribute of multiprocessing's class, from which the program's classes derive."""
    _covered.setdefault(theirs, {}).setdefault(name, vars(theirs).get(name, _NOTHING))
    setattr(theirs, name, value)


def _uncover(theirs, name):
    covered = _covered.get(theirs, {}).pop(name, theirs)
    if covered is _NOTHING:
        delattr(theirs, name)
    elif covered is not theirs:
        setattr(theirs, name, covered)


def mirror(ours, theirs):
    """Note that goproc's class `ours` stands for multiprocessing's class `theirs`."""
    STANDARD[ours] = _by_name[ours.__name__] = theirs
    _methods[ours] = {
        name: (getattr(ours, name), _either(getattr(ours, name), getattr(theirs, name)))
        for name in dir(theirs)
        if type(getattr(theirs, name)) is FunctionType
    }
    _methods[ours]["__new__"] = ours.__new__, _either_new(ours.__new__, theirs)


def set_own(ours, name, function):
    """Replace a method of goproc's class by another one of goproc's."""
    type.__setattr__(ours, name, function)
    for derived, methods in _methods.items():
        if ours in derived.__mro__ and name in methods:
            methods[name] = function, _either(function, getattr(STANDARD[derived], name))


def _either(ours, theirs):
    def method(self, *args, **keywords):
        return (ours if isinstance(self, _native.Queue) else theirs)(self, *args, **keywords)

    method.__name__, method.__qualname__, method.__doc__ = theirs.__name__, theirs.__qualname__, theirs.__doc__
    method.__module__, method.__wrapped__ = theirs.__module__, theirs  # __wrapped__: for inspect.signature()
    return method


def _either_new(ours, theirs):
    def new(cls, *args, **keywords):
        return (ours if issubclass(cls, _native.Queue) else theirs.__new__)(cls, *args, **keywords)

    new.__name__, new.__wrapped__ = "__new__", theirs.__init__
    return new


def is_replaced(name: str) -> bool:
    """Return whether the program has replaced a class of multiprocessing.queues, or one of its methods."""
    theirs = _by_name[name]
    return class_to_make(name) is not theirs or has_replaced_methods(theirs, _standard, _covered)


def class_to_make(name: str) -> type:
    """Return multiprocessing's class of a name, or what the program has put in its place."""
    placed = vars(loaded("goproc.queues"))[name]
    return getattr(_standard, name) if placed in STANDARD else placed


class QueuesModule(ModuleType):
    """The class of goproc.queues. A name of multiprocessing.queues that goproc.queues has not is also set there."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in vars(self) or not hasattr(_standard, name):
            super().__setattr__(name, value)
        else:
            setattr(_standard, name, value)

    def __delattr__(self, name: str) -> None:
        if name in vars(self) or not hasattr(_standard, name):
            super().__delattr__(name)
        else:
            delattr(_standard, name)
