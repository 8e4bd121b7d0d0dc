"""The queue-driven pool: multiprocessing's own Pool, whole, with its queues, threads and locks, on goproc's processes.

The engine's pool has none of these, so a class that brings a part of its own needs this one:

    class PicklingPool(multiprocessing.pool.Pool):
        def _setup_queues(self): ...              queues that pickle arrays as memory maps (joblib, torch)
        def _repopulate_pool(self): ...           workers of its own (green)

Which names count is in parts.py. engine_pool.py uses this module when a class, or the program, has replaced one
of them.

How: multiprocessing's functions are used with globals of their own, in which `Pool`, `worker` and the results' classes
are those below. So a name that the program replaces in goproc.pool, or in its Pool, is replaced for them as well, as in
multiprocessing; and the module that multiprocessing itself uses stays as it is.
"""

from multiprocessing import util
from types import FunctionType

from .._common.start_methods import engines_context
from . import engine_pool, parts, results
from .parts import standard_pool as _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # as in results.py

__all__ = ["QueuePool", "ThreadPool", "take_over"]

#: The globals of multiprocessing's functions here.
_names: dict = dict(vars(_standard))


def _rebound(member):
    """Return a member of one of multiprocessing's classes; functions with the globals above."""
    if isinstance(member, (staticmethod, classmethod)):
        return type(member)(_rebound(member.__func__))
    if type(member) is not FunctionType or member.__globals__ is not vars(_standard):
        return member
    function = FunctionType(member.__code__, _names, member.__name__, member.__defaults__, member.__closure__)
    function.__kwdefaults__ = member.__kwdefaults__
    function.__qualname__ = member.__qualname__
    function.__doc__ = member.__doc__
    return function


def _members(*classes):
    """Return what multiprocessing's classes say, the first one's first, except what makes them classes."""
    made: dict = {}
    for cls in classes:
        for name, member in vars(cls).items():
            if name not in (
                "__doc__",
                "__module__",
                "__dict__",
                "__weakref__",
                "__firstlineno__",
                "__static_attributes__",
            ):
                made.setdefault(name, _rebound(member))
    return made


_own = _members(_standard.Pool)


class QueuePool(engine_pool.Pool):
    """A Pool whose methods are the standard library's. Source: multiprocessing.pool.Pool."""

    locals().update(_own)
    _engine_driven = False
    Process: "Any"
    # Attributes of the instance, as in the standard library.
    _cache: "Any" = None
    _taskqueue: "Any" = None
    _inqueue: "Any" = None
    _outqueue: "Any" = None
    _quick_put: "Any" = None
    _quick_get: "Any" = None
    _worker_handler: "Any" = None
    _task_handler: "Any" = None
    _result_handler: "Any" = None
    _change_notifier: "Any" = None

    def __init__(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, context=None):
        _follow_the_program()
        replaced = ", ".join(parts.replaced(type(self))) or "nothing"
        name = type(self).__qualname__
        util.info("%s is driven by queues and threads, as by multiprocessing, for it replaces: %s", name, replaced)
        _own["__init__"](self, processes, initializer, initargs, maxtasksperchild, engines_context(context))


class ThreadPool(_standard.ThreadPool, QueuePool):  # type: ignore[name-defined]
    """A pool of threads. Source: multiprocessing.pool.ThreadPool."""

    def __init__(self, processes=None, initializer=None, initargs=()):
        _follow_the_program()
        _own["__init__"](self, processes, initializer, initargs)


def take_over(instance):
    """Make an instance whose class derives from Pool a queue-driven one; it has not been initialized."""
    _follow_the_program()
    instance.__class__ = _derived(type(instance), QueuePool)


def original(name):
    """Return multiprocessing's member of that name of Pool, as a function to be called with everything it takes."""
    member = _own[name]
    return getattr(member, "__func__", member)


def _follow_the_program():
    """Take over what the program has replaced in goproc.pool since then, and in its Pool."""
    for name in parts.METHODS:
        here = vars(engine_pool.Pool).get(name)
        setattr(QueuePool, name, _own[name] if here is parts.original_methods.get(name) else here)
    for name, before in parts.original_names.items():
        here = parts.current(name)
        _names[name] = _results.get(name, here) if here is before else here


_classes: dict = {}


def _derived(cls, base):
    """Return a class derived from both, which looks like the first."""
    made = _classes.get((cls, base))
    if made is None:
        from types import new_class

        bases = (base,) if issubclass(base, cls) else (cls, base)
        looks = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
        made = _classes[cls, base] = new_class(cls.__name__, bases, {}, lambda names: names.update(looks))
    return made


class ApplyResult(results.ApplyResult):
    """A result that multiprocessing's own code completes. Source: multiprocessing.pool.ApplyResult."""

    locals().update(_members(_standard.ApplyResult))
    _event: "Any" = None

    def cancel(self):
        """Nothing is withdrawn from queues: return False."""
        return False

    def _fail(self, error):
        self._set(0, (False, error))


class MapResult(ApplyResult, results.MapResult):
    """Source: multiprocessing.pool.MapResult."""

    locals().update(_members(_standard.MapResult))
    _number_left: "Any" = None

    def _fail(self, error):
        while self._number_left:
            self._set(0, (False, error))


class IMapIterator(results.IMapIterator):
    """Source: multiprocessing.pool.IMapIterator."""

    locals().update(_members(_standard.IMapIterator))
    _index: "Any" = None

    def cancel(self):
        """Nothing is withdrawn from queues: return False."""
        return False

    def _fail(self, error):
        with self._cond:
            self._items.append((False, error))
            self._length = self._index = self._index + 1
            self._cache.pop(self._job, None)
            self._cond.notify()


class IMapUnorderedIterator(IMapIterator, results.IMapUnorderedIterator):
    """Source: multiprocessing.pool.IMapUnorderedIterator."""

    locals().update(_members(_standard.IMapUnorderedIterator))
    _index: "Any" = None


#: What multiprocessing's code is given for classes of goproc.pool that the program has not replaced.
_results = {
    "ApplyResult": ApplyResult,
    "MapResult": MapResult,
    "IMapIterator": IMapIterator,
    "IMapUnorderedIterator": IMapUnorderedIterator,
}

_names.update(_results, AsyncResult=ApplyResult, Pool=QueuePool, ThreadPool=ThreadPool)
parts.own_classes.update((QueuePool, _standard.ThreadPool, ThreadPool))


def make_by_hand(result, base, *arguments):
    """Initialize a result that the program makes itself, as multiprocessing's class of that name.

    result: an instance of one of results.py's classes, or of one derived from it. base: that class here. On the
    engine's pool, waiting for it is collecting.
    """
    result.__class__ = _derived(type(result), base)
    base.__init__(result, *arguments)
