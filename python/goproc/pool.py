"""Pool, its results, and the other names of multiprocessing.pool. The implementation is in the folder _pool.

Programs may replace names of this module, and parts of Pool, by their own; _pool/parts.py handles that.
"""

from ._common import stdlib
from ._pool import inside, iteration, parts, queue_pool, unordered  # noqa: F401  (see below)
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

# Other names of the standard library's module: pickles refer to them, and programs import them from here.
INIT, RUN, CLOSE, TERMINATE = _standard.INIT, _standard.RUN, _standard.CLOSE, _standard.TERMINATE
mapstar, starmapstar = _standard.mapstar, _standard.starmapstar
ExceptionWithTraceback, RemoteTraceback = _standard.ExceptionWithTraceback, _standard.RemoteTraceback
rebuild_exc = _standard.rebuild_exc
MaybeEncodingError = _standard.MaybeEncodingError
TimeoutError = _standard.TimeoutError
worker = _standard.worker  # for workers of a program's own, with queues; the engine's worker is in _pool/worker.py
AsyncResult = ApplyResult


# What a pool may need later is imported with this module, as by multiprocessing's: a program may have lost its files by
# then, by a chroot, or because it has no free descriptors.
parts.queue_pool, parts.inside = queue_pool, inside
parts.record_originals(globals(), Pool, _standard.Pool)


def __getattr__(name):
    """Return any other name of multiprocessing.pool: programs that derive from Pool also use what it imports."""
    if name == "ThreadPool":
        return queue_pool.ThreadPool
    if name == "StreamIterator":
        from ._pool.streams import StreamIterator

        return StreamIterator
    return stdlib.other_name(__name__, _standard, name)
