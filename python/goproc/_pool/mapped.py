"""The common code of Pool's methods for maps. Used by engine_pool.py, which has these methods."""

import weakref

from . import maps, parts
from .codec import ITEM, MAP
from .inputs import COLLECTIONS, Chunks, checked_limit, flag
from .machinery import run_again
from .options import policy_of_call
from .parts import standard_pool as _standard
from .repeats import Repeats
from .results import Items
from .submitter import batch_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # as in results.py

__all__ = ["Mapped"]

mapstar, starmapstar = _standard.mapstar, _standard.starmapstar


class Mapped:
    """A base class of Pool."""

    _again: "Any"  # the pool's own retries, retry_on and retry_delay
    _check_running: "Any"
    _dispatch: "Any"
    _feeders: "Any"
    _followed: "Any"
    _submitter: "Any"
    _Repeats: "Any" = Repeats  # a cluster's pool has another one
    _retry = None  # the RetryPolicy of all tasks
    _one_by_one = False  # whether each task is sent and answered by itself, as it may fail by itself

    def _mapped_now(self, method, arguments, task_timeout, return_exceptions, progress, unknown):
        again = dict(unknown)
        policy = self._policy(method, unknown, "task_timeout", "return_exceptions", "progress")
        if progress is not None:
            return self._followed(progress, arguments, task_timeout, return_exceptions, policy, again)
        return self._mapped(arguments, task_timeout, return_exceptions, policy, again).get()

    def _mapped_async(self, method, arguments, task_timeout, return_exceptions, unknown):
        self._check_running()
        self._dispatch.watch()
        again = dict(unknown)
        policy = self._policy(method, unknown, "task_timeout", "return_exceptions")
        return self._mapped(arguments, task_timeout, return_exceptions, policy, again, True)

    def _policy(self, method, unknown, *known):
        """Return the RetryPolicy of a call, None for none. unknown: its further arguments. known: those that it has."""
        if not unknown:
            return self._retry
        policy = policy_of_call(self._again, method, unknown, known)
        self._run_again()
        return policy

    def _mapped(self, arguments, task_timeout, return_exceptions, policy, again, in_thread=False):
        """Call _map_async.

        A subclass's own _map_async has multiprocessing's arguments. Of goproc's arguments, it is passed only those that
        the program gave, by the names that the program used. policy: the RetryPolicy of again, the arguments of the
        call about retries.
        """
        others = {}
        if task_timeout is not None:
            others["task_timeout"] = task_timeout
        if flag("return_exceptions", return_exceptions):
            others["return_exceptions"] = True
        if getattr(self._map_async, "__func__", None) is not Mapped._map_async:
            others.update(again)
        elif again or in_thread:
            others.update(policy=policy, in_thread=in_thread)
        return self._map_async(*arguments, **others)

    def _map_async(
        self,
        func,
        iterable,
        mapper,
        chunksize=None,
        callback=None,
        error_callback=None,
        task_timeout=None,
        return_exceptions=False,
        in_thread=False,
        policy=None,
        **again,
    ):
        """Submit a map; return its MapResult. in_thread: whether a thread reads an iterable that may block.

        policy: the RetryPolicy, None for the pool's own. again: retries, retry_on, retry_delay of a subclass's call.
        """
        if mapper is not mapstar and mapper is not starmapstar:
            return parts.inside.map_by(self, func, iterable, mapper, chunksize, callback, error_callback)
        self._check_running()
        if again:
            policy = self._policy("_map_async", again, "task_timeout", "return_exceptions")
        limit = checked_limit("task_timeout", task_timeout)
        kind = maps.Kind(func, mapper is starmapstar, chunksize, limit, return_exceptions, policy or self._retry)
        return maps.submit(self, kind, iterable, callback, error_callback, in_thread)

    def _imap(self, kind, func, iterable, chunksize, prefetch, task_timeout, policy, progress):
        self._check_running()
        if progress is not None:
            from .progress import checked, of_iterator, total_of

            if (make := checked(progress)) is not None:
                iterator = self._imap(kind, func, iterable, chunksize, prefetch, task_timeout, policy, None)
                of_iterator(make, iterator, total_of(iterable))
                return iterator
        if chunksize < 1:
            raise ValueError("Chunksize must be 1+, not {0:n}".format(chunksize))
        limit = checked_limit("task_timeout", task_timeout)
        if prefetch is not None and prefetch < 1:
            raise ValueError(f"prefetch must be at least 1, not {prefetch!r}")
        size = 1 if limit is not None or policy is not None or self._one_by_one else batch_size(iterable, chunksize)
        may_block = type(iterable) not in COLLECTIONS
        self._dispatch.watch()
        if chunksize == 1:
            return kind(self, func, iterable, prefetch, ITEM, size, limit, may_block, 1, policy)
        chunks = Chunks(iterable, chunksize)
        return Items(kind(self, func, chunks, prefetch, MAP, size, limit, may_block, chunksize, policy))

    def _run_again(self):
        """Prepare for tasks that are run again. While there are any, the pool must not end."""
        ref, feeders, dispatch = weakref.ref(self), self._feeders, self._dispatch

        def on_idle():
            feeders.discard(dispatch.retrying)
            if (pool := ref()) is not None:
                pool._close_when_fed()

        run_again(dispatch, self._submitter, lambda: feeders.add(dispatch.retrying), on_idle)
