"""The Pool of a program whose pools are on a cluster. _common/clusters.py asks for its class when a Pool is made."""

from multiprocessing.pool import ThreadPool as _ThreadPool

from .. import cluster
from .._common import stdlib
from .._pool import engine_pool, parts
from . import beginning, connection
from .deriving import on_cluster

__all__ = ["ProgramPool", "class_for"]


class ProgramPool(cluster.Pool):
    """goproc.cluster.Pool on the program's cluster, with the arguments of multiprocessing.Pool.

    processes: the most workers on all machines together; None for one for each core of the cluster. Only the pickler of
    context is used, because the machines start the workers.
    """

    def __init__(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, context=None, **options):
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        child = beginning.Child(stdlib.installed, stdlib.installed_futures)
        initializer, initargs = beginning.begin, (child, initializer, tuple(initargs))
        super().__init__(connection.client(), processes, initializer, initargs, maxtasksperchild, context, **options)
        self._at_end = _End(self._terminate)
        connection.end_first(self._at_end)

    def _hint(self, error):
        """Return a note for an exception of a task that may miss the memory of the main program; "" for any other."""
        is_missing = isinstance(error, (NameError, AttributeError)) or "NoneType" in str(error)
        return _NO_MEMORY if is_missing and self._ctx.get_start_method() == "fork" else ""


class _End:
    """Ends a pool that the program has not ended. finalizer: the pool's. It does not hold the pool itself."""

    def __init__(self, finalizer):
        self._finalizer = finalizer

    def end(self):
        if self._finalizer.still_active():
            self._finalizer()


_NO_MEMORY = (
    "goproc: forked workers would have the memory of the main program; the workers of a cluster have not. If the task "
    "misses what the program has set before Pool(), hand it over as an argument, or by initializer="
)

ProgramPool.__name__ = ProgramPool.__qualname__ = "Pool"
ProgramPool.__module__ = "goproc.cluster"
parts.own_classes.update((cluster.Pool, ProgramPool))


def class_for(cls):
    """Return the class on the cluster for a class of pools. Pools of threads and of a cluster stay as they are.

    Raises TypeError for a class that replaces private parts of Pool.
    """
    if issubclass(cls, (_ThreadPool, cluster.Pool)):
        return cls
    if names := parts.replaced(cls):
        raise TypeError(
            f"{cls.__qualname__} cannot be on a cluster: it replaces private parts of Pool ({', '.join(names)}). Run "
            "this program without --cluster and GOPROC_CLUSTER, or take goproc.Pool itself in this place"
        )
    if cls is engine_pool.Pool:
        return ProgramPool
    return on_cluster(cls, ProgramPool)
