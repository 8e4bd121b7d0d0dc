"""The queue-driven pool: multiprocessing's own Pool, whole, with its queues, threads and locks, on goproc's processes.

The engine's pool has no queues, threads and locks. So a class that overrides one of these parts needs this pool:

    class PicklingPool(multiprocessing.pool.Pool):
        def _setup_queues(self): ...              queues that pickle arrays as memory maps (joblib, torch)
        def _repopulate_pool(self): ...           workers of its own (green)

parts.py lists the names of these parts. engine_pool.py uses this module when a class, or the program, has replaced one
of them, and where there can be no engine.

How it works: multiprocessing's functions are copied with a globals dict of goproc's own. In it, `Pool`, `worker` and
the classes of results are those below. So a name that the program replaces in goproc.pool, or in its Pool, is replaced
for these functions as well, as in multiprocessing. The module multiprocessing.pool itself is not changed.
docs/design/queue-pool.md says why.
"""

from multiprocessing import util
from types import FunctionType

from .._common import queue_ends  # noqa: F401  (of the pool's queues; imported with this module, as pool.py says)
from .._common.cpus import usable_cpu_count
from .._common.start_methods import engines_context
from ..errors import CancelledError
from . import engine_pool, parts, results
from .additions import refuse_own
from .parts import standard_pool as _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # as in results.py

__all__ = ["QueuePool", "ThreadPool", "take_over"]

_TERMINATED = "the pool was terminated before the task was done"

#: The globals of the copies of multiprocessing's functions.
_names: dict = dict(vars(_standard))


def _rebound(member):
    """Return a member of one of multiprocessing's classes; a function is copied, with _names as its globals."""
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
    """Return the members of multiprocessing's classes, by name; the first class takes precedence.

    Left out are the attributes that Python gives to every class.
    """
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

    def __init__(
        self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, context=None, *, log=False, **own
    ):
        if own:
            refuse_own(self, own)
        _apply_replacements()
        self._relay_log(log)
        replaced = ", ".join(parts.replaced(type(self))) or "nothing"
        name = type(self).__qualname__
        util.info("%s is driven by queues and threads, as in multiprocessing; it replaces: %s", name, replaced)
        if processes is None:
            processes = usable_cpu_count()
        _own["__init__"](self, processes, initializer, initargs, maxtasksperchild, engines_context(context))

    def terminate(self):
        """End the workers at once. Source: multiprocessing.pool.Pool.terminate.

        Results that coroutines await fail with CancelledError.
        """
        _own["terminate"](self)
        for result in list(self._cache.values()):
            if getattr(result, "_watchers", None):
                result._fail(CancelledError(_TERMINATED))

    def join(self):
        _own["join"](self)
        if self._lease is not None:
            self._lease.end()


class ThreadPool(_standard.ThreadPool, QueuePool):  # type: ignore[name-defined]
    """A pool of threads. Source: multiprocessing.pool.ThreadPool."""

    __module__ = "goproc.pool"  # where it is found, for its repr

    def __init__(self, processes=None, initializer=None, initargs=()):
        _apply_replacements()
        _own["__init__"](self, processes, initializer, initargs)


def take_over(instance):
    """Make a Pool that has not been initialized a queue-driven one, by changing its class."""
    _apply_replacements()
    instance.__class__ = _derived(type(instance), QueuePool)


def original(name):
    """Return the member `name` of multiprocessing's Pool as a plain function; a method takes self or cls first."""
    member = _own[name]
    return getattr(member, "__func__", member)


def _apply_replacements():
    """Use the names that the program has replaced in goproc.pool, and in its Pool, until now."""
    for name in parts.METHODS:
        here = vars(engine_pool.Pool).get(name)
        setattr(QueuePool, name, _own[name] if here is parts.original_methods.get(name) else here)
    for name, before in parts.original_names.items():
        here = parts.current(name)
        _names[name] = _results.get(name, here) if here is before else here


_classes: dict = {}


def _derived(cls, base):
    """Return a class derived from cls and base, with the name, module and docstring of cls."""
    made = _classes.get((cls, base))
    if made is None:
        from types import new_class

        bases = (base,) if issubclass(base, cls) else (cls, base)
        looks = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
        made = _classes[cls, base] = new_class(cls.__name__, bases, {}, lambda names: names.update(looks))
    return made


_set_result, _set_part = _members(_standard.ApplyResult)["_set"], _members(_standard.MapResult)["_set"]
_set_item, _set_length = (_members(_standard.IMapIterator)[name] for name in ("_set", "_set_length"))
_set_unordered_item = _members(_standard.IMapUnorderedIterator)["_set"]


def _notify(result):
    if result._watchers:
        from .._common.awaiting import notify

        notify(result)


def _check_pool(result, pool):
    """Fail a result that a coroutine has begun to await, if its pool has been terminated."""
    if pool is not None and pool._state == engine_pool.TERMINATE and result._job in result._cache:
        result._fail(CancelledError(_TERMINATED))


class ApplyResult(results.ApplyResult):
    """A result that multiprocessing's own code completes. Source: multiprocessing.pool.ApplyResult."""

    locals().update(_members(_standard.ApplyResult))
    _event: "Any" = None

    def _set(self, i, obj):
        _set_result(self, i, obj)
        _notify(self)

    def _serve_watchers(self):
        _check_pool(self, self._pool)

    def cancel(self):
        """Return False: a queue-driven pool cannot withdraw tasks."""
        return False

    def _fail(self, error):
        self._set(0, (False, error))


class MapResult(ApplyResult, results.MapResult):
    """Source: multiprocessing.pool.MapResult."""

    locals().update(_members(_standard.MapResult))
    _number_left: "Any" = None

    def _set(self, i, obj):
        _set_part(self, i, obj)
        if self.ready():
            _notify(self)

    def _fail(self, error):
        while self._number_left:
            self._set(0, (False, error))


class IMapIterator(results.IMapIterator):
    """Source: multiprocessing.pool.IMapIterator."""

    locals().update(_members(_standard.IMapIterator))
    _index: "Any" = None
    _watchers: "Any" = None
    taken_at_once = 0

    @property
    def _iteration(self):
        return self

    def _set(self, i, obj):
        _set_item(self, i, obj)
        _notify(self)

    def _set_length(self, length):
        _set_length(self, length)
        _notify(self)

    @property
    def done(self):
        """Whether next() can return or raise something at once."""
        return bool(self._items) or self._index == self._length

    def take_now(self):
        """Take the next result; see Iteration.take_now."""
        with self._cond:
            if self._items:
                return self._items.popleft()
            if self._index == self._length:
                raise StopAsyncIteration
        return None

    def _serve_watchers(self):
        _check_pool(self, self._pool)

    def _when_dropped(self, results):
        pass

    def cancel(self):
        """Return False: a queue-driven pool cannot withdraw tasks."""
        return False

    def _fail(self, error):
        with self._cond:
            self._items.append((False, error))
            self._length = self._index = self._index + 1
            self._cache.pop(self._job, None)
            self._cond.notify()
        _notify(self)


class IMapUnorderedIterator(IMapIterator, results.IMapUnorderedIterator):
    """Source: multiprocessing.pool.IMapUnorderedIterator."""

    locals().update(_members(_standard.IMapUnorderedIterator))
    _index: "Any" = None

    def _set(self, i, obj):
        _set_unordered_item(self, i, obj)
        _notify(self)


#: The classes that multiprocessing's code uses, unless the program has replaced the one in goproc.pool.
_results = {
    "ApplyResult": ApplyResult,
    "MapResult": MapResult,
    "IMapIterator": IMapIterator,
    "IMapUnorderedIterator": IMapUnorderedIterator,
}

_names.update(_results, AsyncResult=ApplyResult, Pool=QueuePool, ThreadPool=ThreadPool)
parts.own_classes.update((QueuePool, _standard.ThreadPool, ThreadPool))


def make_by_hand(result, base, *arguments):
    """Initialize a result that the program itself makes, as multiprocessing's class does.

    result: an instance of a class of results.py, or of a class derived from it. base: the class of the same name in
    this module.
    """
    result.__class__ = _derived(type(result), base)
    base.__init__(result, *arguments)
