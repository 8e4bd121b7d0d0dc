"""The private parts of multiprocessing's Pool: those that programs look at, and those that they replace.

Programs look at parts that the engine's pool does not have: inside.py makes these when they are asked for. Programs
replace parts that multiprocessing's pool calls and the engine's does not: a class that overrides one of METHODS, and a
program that puts its own into Pool, or replaces one of NAMES in the module, get the pool of queue_pool.py, whole.
"""

import itertools
from collections.abc import Callable
from types import ModuleType

from .. import connection  # noqa: F401  (first: it keeps multiprocessing.connection, which the next one imports, small)
from .._common.stdlib import standard_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than loading the engine

__all__ = ["METHODS", "NAMES", "Parts", "own_classes", "replaced", "standard_pool", "watch"]

#: multiprocessing's own module, from which everything is taken that the engine does not replace.
standard_pool: "Any" = standard_module("pool")


def _missing() -> ModuleType:
    raise RuntimeError("goproc.pool has not been imported")


#: Return the module of that name, which imports this one. goproc.pool says how.
queue_pool: Callable[[], ModuleType] = _missing
inside: Callable[[], ModuleType] = _missing


#: The methods of multiprocessing's Pool that the engine replaces.
METHODS = (
    "_setup_queues",
    "_repopulate_pool",
    "_repopulate_pool_static",
    "_maintain_pool",
    "_join_exited_workers",
    "_handle_workers",
    "_handle_tasks",
    "_handle_results",
    "_get_sentinels",
    "_get_worker_sentinels",
    "_wait_for_updates",
    "_guarded_task_generation",
    "_get_tasks",
    "_help_stuff_finish",
    "_terminate_pool",
)

#: The names of the module that its code looks up.
NAMES = (
    "worker",
    "mapstar",
    "starmapstar",
    "ApplyResult",
    "MapResult",
    "IMapIterator",
    "IMapUnorderedIterator",
)

own_classes: set = set()  # those of goproc and multiprocessing themselves, from which programs derive theirs
original_methods: dict = {}
original_names: dict = {}
_namespace: dict = {}  # goproc.pool's
_pool: type = object  # goproc.pool.Pool, as it was defined


def watch(namespace, pool, standard):
    """Note what there is before the program replaces anything. namespace: goproc.pool's; standard: the other Pool."""
    global _namespace, _pool
    _namespace, _pool = namespace, pool
    own_classes.update((pool, standard))
    original_methods.update((name, vars(pool).get(name)) for name in METHODS)
    original_names.update((name, namespace[name]) for name in NAMES)


def current(name):
    """Return what stands under one of NAMES now."""
    return _namespace[name]


def replaced(cls):
    """Return the names of what a class, or the program, has replaced."""
    names = [name for name, original in original_names.items() if _namespace[name] is not original]
    own = vars(_pool)
    derived = list(itertools.takewhile(lambda base: base not in own_classes, cls.__mro__))
    for name in METHODS:
        if own.get(name) is not original_methods[name] or derived and any(name in vars(base) for base in derived):
            names.append(name)
    return names


class _StandIn:
    """A private attribute of multiprocessing's Pool, made by inside.py; an attribute of the instance hides it."""

    def __set_name__(self, owner, name):
        self._name = name

    def __get__(self, instance, owner=None):
        if instance is None:
            raise AttributeError(f"type object {owner.__name__!r} has no attribute {self._name!r}")
        return inside().stand_in(instance, self._name)


class Parts:
    """What of Pool programs look at and call, though its name begins with an underscore."""

    _crew: "Any"
    _dispatch: "Any"
    _end: "Any"
    _processes: int

    _engine_driven = True
    _cache, _taskqueue, _change_notifier = _StandIn(), _StandIn(), _StandIn()
    _inqueue, _outqueue, _quick_put, _quick_get = _StandIn(), _StandIn(), _StandIn(), _StandIn()
    _worker_handler, _task_handler, _result_handler = _StandIn(), _StandIn(), _StandIn()

    def _repopulate_pool(self):
        if not self._engine_driven:
            return _original("_repopulate_pool")(self)
        self._dispatch.poll()
        self._crew.grow(self._processes)

    @staticmethod
    def _repopulate_pool_static(ctx, Process, processes, pool, inqueue, *others):
        if owner := _owner_of(inqueue):
            return owner._repopulate_pool()
        return _original("_repopulate_pool_static")(ctx, Process, processes, pool, inqueue, *others)

    @staticmethod
    def _maintain_pool(ctx, Process, processes, pool, inqueue, *others):
        if owner := _owner_of(inqueue):
            return owner._repopulate_pool()
        return _original("_maintain_pool")(ctx, Process, processes, pool, inqueue, *others)

    @staticmethod
    def _help_stuff_finish(inqueue, *others):
        if not _owner_of(inqueue):
            _original("_help_stuff_finish")(inqueue, *others)

    @classmethod
    def _terminate_pool(cls, taskqueue, *others):
        if owner := _owner_of(taskqueue):
            return owner._end()
        return _original("_terminate_pool")(cls, taskqueue, *others)

    def _setup_queues(self):
        if self._engine_driven:  # called by a class whose __init__ does not call Pool's
            queue_pool().take_over(self)
        return _original("_setup_queues")(self)


def _original(name):
    return queue_pool().original(name)


def _owner_of(part):
    return inside().of_engine(part)
