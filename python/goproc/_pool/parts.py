"""The private parts of multiprocessing's Pool that programs use, and those that programs replace.

Some programs use parts that the engine's pool does not have, such as its queues: inside.py makes stand-ins for them.

Some programs replace parts that multiprocessing's pool calls and the engine's does not. They get the queue-driven pool
(queue_pool.py) if a class overrides one of METHODS, if one of METHODS is replaced in Pool itself, or if one of NAMES is
replaced in the module goproc.pool.
"""

import itertools

from .. import connection  # noqa: F401  (first: it imports multiprocessing.connection without tempfile)
from .._common.stdlib import standard_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than loading the engine

__all__ = ["METHODS", "NAMES", "Parts", "own_classes", "record_originals", "replaced", "standard_pool"]

#: multiprocessing's own module pool. goproc takes from it everything that the engine does not replace.
standard_pool: "Any" = standard_module("pool")

#: The modules queue_pool and inside. goproc.pool sets them: these modules import this one.
queue_pool: "Any" = None
inside: "Any" = None


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

#: The names of the module multiprocessing.pool that its code looks up at run time.
NAMES = (
    "worker",
    "mapstar",
    "starmapstar",
    "ApplyResult",
    "MapResult",
    "IMapIterator",
    "IMapUnorderedIterator",
)

own_classes: set = set()  # goproc's and multiprocessing's own pool classes, from which programs derive
original_methods: dict = {}  # by name: the METHODS of goproc's Pool, before the program replaces any
original_names: dict = {}  # by name: the NAMES of goproc.pool, before the program replaces any
_namespace: dict = {}  # vars(goproc.pool)
_pool: type = object  # goproc.pool.Pool, as it was defined


def record_originals(namespace, pool, standard):
    """Record METHODS and NAMES before the program can replace any.

    namespace: vars(goproc.pool). pool: goproc's Pool. standard: multiprocessing's Pool.
    """
    global _namespace, _pool
    _namespace, _pool = namespace, pool
    own_classes.update((pool, standard))
    original_methods.update((name, vars(pool).get(name)) for name in METHODS)
    original_names.update((name, namespace[name]) for name in NAMES)


def current(name):
    """Return the present value of one of NAMES in goproc.pool."""
    return _namespace[name]


def replaced(cls):
    """Return which of METHODS and NAMES a class, or the program, has replaced."""
    names = [name for name, original in original_names.items() if _namespace[name] is not original]
    own = vars(_pool)
    derived = list(itertools.takewhile(lambda base: base not in own_classes, cls.__mro__))
    for name in METHODS:
        if own.get(name) is not original_methods[name] or derived and any(name in vars(base) for base in derived):
            names.append(name)
    return names


class _StandIn:
    """A descriptor for a private attribute of multiprocessing's Pool, which inside.py makes.

    A pool's own instance attribute of the same name takes precedence.
    """

    def __set_name__(self, owner, name):
        self._name = name

    def __get__(self, instance, owner=None):
        if instance is None:
            raise AttributeError(f"type object {owner.__name__!r} has no attribute {self._name!r}")
        return inside.stand_in(instance, self._name)


class Parts:
    """The private attributes and methods of Pool that programs use. The base class of engine_pool.Pool."""

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
            queue_pool.take_over(self)
        return _original("_setup_queues")(self)


def _original(name):
    return queue_pool.original(name)


def _owner_of(part):
    return inside.of_engine(part)
