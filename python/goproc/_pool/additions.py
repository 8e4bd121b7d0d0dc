"""What goproc's Pool has beside multiprocessing's methods: it can be awaited, and shows progress."""

import os
from multiprocessing import util

from .._common import picklers
from . import parts
from .inputs import refuse_unknown
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
    _mapped: "Any"
    Process: "Any"
    join: "Any"
    _lease: "Any" = None  # with log=True, the _relay.state.Lease
    _joining = None  # the thread that join_async() has begun

    async def __aenter__(self):
        return self.__enter__()

    async def __aexit__(self, exc_type, exc_val, exc_tb):
        from .._common.awaiting import InThread

        end = InThread("goproc-terminate", lambda: self.__exit__(exc_type, exc_val, exc_tb))
        await end.wait_even_if_cancelled()

    async def join_async(self):
        """Do what join() does, and let the running loop of asyncio go on meanwhile.

        One thread waits for the pool's end, however many tasks do. Cancelling a waiting task changes nothing for the
        pool. Raises what join() raises.
        """
        from .._common.awaiting import InThread

        if self._state == _standard.RUN:
            raise ValueError("Pool is still running")
        if self._joining is None or self._joining.has_ended:
            self._joining = InThread("goproc-join", self.join)
        await self._joining.wait()

    def _relay_log(self, log):
        if log:
            from .._relay.state import Lease

            self._lease = Lease()
            self.Process = self._lease.marking(self.Process)
            util.Finalize(self, self._lease.drop, exitpriority=14)

    def _check_owner(self):
        if self._terminate._pid != os.getpid():
            raise RuntimeError("the pool belongs to the parent process: a forked child cannot await its results")

    def _followed(self, progress, arguments, task_timeout, return_exceptions, policy):
        from .progress import checked, follow

        make = checked(progress)
        result = self._mapped(arguments, task_timeout, return_exceptions, policy)
        return result.get() if make is None or not isinstance(result, MapResult) else follow(result, make)


def drive_by_queues(self, processes, initializer, initargs, maxtasksperchild, context, own):
    """Initialize a Pool as a queue-driven pool. own: the arguments that are goproc's own."""
    self._pool, self._state = [], _standard.INIT  # for __del__, if this fails
    refuse_own(self, own)
    queue_pool = parts.queue_pool()
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
