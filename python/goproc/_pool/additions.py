"""What goproc's Pool has besides multiprocessing's methods: it can be awaited, shows progress, and has streams."""

import os
from multiprocessing import util

from .._common import clusters, picklers
from . import parts
from .codec import STREAM
from .inputs import COLLECTIONS, checked_limit, flag, one_prefetch, refuse_unknown
from .options import Options
from .parts import replaced
from .parts import standard_pool as _standard
from .results import MapResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # as in results.py

__all__ = ["Additions", "drive_by_queues"]


class Additions:
    """A base class of Pool."""

    _state: "Any"
    _terminate: "Any"
    __enter__: "Any"
    __exit__: "Any"
    _check_running: "Any"
    _dispatch: "Any"
    _engine_driven: "Any"
    _mapped: "Any"
    _processes: "Any"
    Process: "Any"
    join: "Any"
    _lease: "Any" = None  # with log=True, the _relay.state.Lease
    _joining = None  # the thread that join_async() has begun

    def __new__(cls, *args, **options):
        """Return a new object: of a class on the cluster, if the program's pools are there."""
        return object.__new__(clusters.pool_class(cls))

    async def __aenter__(self):
        return self.__enter__()

    async def __aexit__(self, exc_type, exc_val, exc_tb):
        from .._common.awaiting import InThread

        end = InThread("goproc-terminate", lambda: self.__exit__(exc_type, exc_val, exc_tb))
        await end.wait_even_if_cancelled()

    async def join_async(self):
        """Do what join() does, while asyncio's running loop runs on.

        One thread waits for the pool's end, however many tasks wait. Cancelling a waiting task does not affect the
        pool. Raises what join() raises.
        """
        from .._common.awaiting import InThread

        if self._state == _standard.RUN:
            raise ValueError("Pool is still running")
        if self._joining is None or self._joining.has_ended:
            self._joining = InThread("goproc-join", self.join)
        await self._joining.wait()

    def stream(self, func, iterable, *, prefetch=None, task_timeout=None, **unknown):
        """Call func(item) for each item of iterable; return an iterator over the values that these calls yield.

        Each value arrives as soon as it is yielded. func is a generator function, or returns any iterable. The iterator
        returns pairs: the index of the item, and a value. The values of one item are in order; those of items that run
        at the same time alternate. A worker that is 128 values ahead of the program waits; see docs/guide/pools.md.
        prefetch: how many items are read ahead of the items whose values have all been taken; None for 4 for each
        worker. task_timeout: how long each call may run, in seconds; waiting for the program does not count.

        When func(item) raises, next() raises the exception after the values of this item, and the iteration can go on
        with the other items. When the program drops the iterator, or calls its close() or cancel(), running calls are
        ended together with their workers.

        Raises ValueError when the pool is closed, when prefetch is below 1, or task_timeout not above 0; TypeError when
        prefetch is not an int, task_timeout not a number, or when the pool has threads, or its class overrides private
        parts of Pool.
        """
        if not self._engine_driven:
            raise TypeError(
                f"stream() is not for this {type(self).__name__}, which is multiprocessing's own pool: it has threads, "
                "or it replaces private parts of Pool, or it could not have the engine"
            )
        self._check_running()
        if unknown:
            refuse_unknown("stream", unknown, "prefetch", "task_timeout")
        from .streams import StreamIterator

        limit = checked_limit("task_timeout", task_timeout)
        prefetch = StreamIterator.ITEMS_AHEAD * self._processes if prefetch is None else one_prefetch(prefetch, None)
        if prefetch < 1:
            raise ValueError(f"prefetch must be at least 1, not {prefetch!r}")
        self._dispatch.watch()
        return StreamIterator(self, func, iterable, prefetch, STREAM, 1, limit, type(iterable) not in COLLECTIONS)

    def _relay_log(self, log):
        if flag("log", log):
            from .._relay.state import Lease

            self._lease = Lease()
            self.Process = self._lease.marking(self.Process)
            util.Finalize(self, self._lease.drop, exitpriority=14)

    def _check_owner(self):
        if self._terminate._pid != os.getpid():
            raise RuntimeError("the pool belongs to the parent process: a forked child cannot await its results")

    def _followed(self, progress, arguments, task_timeout, return_exceptions, policy, again):
        from .progress import checked, follow

        make = checked(progress)
        result = self._mapped(arguments, task_timeout, return_exceptions, policy, again)
        return result.get() if make is None or not isinstance(result, MapResult) else follow(result, make)


def drive_by_queues(self, processes, initializer, initargs, maxtasksperchild, context, own):
    """Initialize a Pool as a queue-driven pool. own: the arguments that are goproc's own."""
    self._pool, self._state = [], _standard.INIT  # for __del__, if this fails
    refuse_own(self, own)
    queue_pool = parts.queue_pool
    queue_pool.take_over(self)
    queue_pool.QueuePool.__init__(self, processes, initializer, initargs, maxtasksperchild, context)


def refuse_own(pool, own):
    """Raise TypeError for arguments of goproc's own that a queue-driven pool cannot obey. own: the arguments, by name.

    Raises what Options raises for a wrong value.
    """
    if unknown := own.keys() - Options.DEFAULTS.keys():
        known = "processes", "initializer", "maxtasksperchild", *Options.DEFAULTS, "log"
        refuse_unknown("Pool", sorted(unknown), *known)
    picklers.checked(own.get("pickler"))
    if given := Options(**{**Options.DEFAULTS, **own}).given():
        names = ", ".join(replaced(type(pool)))
        raise TypeError(f"{', '.join(given)}: not for pools with parts of their own, as this one: {names}")
