"""The pool of classes that bring queues of their own, as joblib's do: multiprocessing's Pool on the engine's processes.

    class PicklingPool(multiprocessing.pool.Pool):
        def _setup_queues(self): ...              its queues pickle arrays as memory maps

The engine's rings take the place of a pool's queues, and know nothing of what such queues do to a task: a task that
writes into a memory map would write into a copy. So whatever overrides `_setup_queues` gets the standard library's own
scheduling, threads and locks, and its faults; the processes are the engine's.
"""

from . import pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # as in pool.py

__all__ = ["QueuePool", "worker"]

_standard = pool._standard
_worker = _standard.worker  # install() puts the one below in its place


def worker(*args, **kwds):
    """Run tasks from a queue: the standard library's worker, under a name by which a spawned child finds it."""
    return _worker(*args, **kwds)


def _inherited():
    """What multiprocessing's Pool says of all that goproc's Pool replaces, except what makes them classes."""
    own = vars(_standard.Pool)
    return {name: own[name] for name in vars(pool.Pool) if name in own and name not in ("__doc__", "__module__")}


class QueuePool(pool.Pool):
    """A Pool whose methods are the standard library's. Source: multiprocessing.pool.Pool."""

    locals().update(_inherited())
    Process: "Any"
    _cache: "Any" = None  # an attribute of the instance, as in the standard library

    def __init__(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, context=None):
        context = pool._engines_context(context)
        # On the instance, for the thread that replaces workers is given this one.
        self.Process = _with_our_worker(type(self).Process)
        _standard.Pool.__init__(self, processes, initializer, initargs, maxtasksperchild, context)


def _with_our_worker(Process):
    def process(ctx, *, target, **options):
        return Process(ctx, target=worker, **options)

    return process
