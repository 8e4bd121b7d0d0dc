"""Pool, its results, and the other names of multiprocessing.pool. What is behind them is in the folder _pool.

Programs replace names of this module, and parts of Pool, by their own: _pool/parts.py.
"""

from ._pool import parts
from ._pool.engine_pool import Pool
from ._pool.parts import standard_pool as _standard
from ._pool.results import (  # noqa: F401  (names of multiprocessing.pool)
    ApplyResult,
    IMapIterator,
    IMapUnorderedIterator,
    MapResult,
    job_counter,
)

__all__ = ["Pool", "ThreadPool"]  # noqa: F822  (see __getattr__)

# Other names of the standard library's module, which pickles and users' code look for here.
INIT, RUN, CLOSE, TERMINATE = _standard.INIT, _standard.RUN, _standard.CLOSE, _standard.TERMINATE
mapstar, starmapstar = _standard.mapstar, _standard.starmapstar
ExceptionWithTraceback, RemoteTraceback = _standard.ExceptionWithTraceback, _standard.RemoteTraceback
rebuild_exc = _standard.rebuild_exc
MaybeEncodingError = _standard.MaybeEncodingError
TimeoutError = _standard.TimeoutError
worker = _standard.worker  # for programs' own workers, with queues; the engine's is in _pool/worker.py
AsyncResult = ApplyResult


def _queue_pool():
    from ._pool import queue_pool

    return queue_pool


def _inside():
    from ._pool import inside

    return inside


parts.queue_pool, parts.inside = _queue_pool, _inside
parts.watch(globals(), Pool, _standard.Pool)


def __getattr__(name):
    """Return other names of multiprocessing's module: programs that derive from Pool use its imports, too."""
    if name == "ThreadPool":
        return _queue_pool().ThreadPool
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_standard, name)
