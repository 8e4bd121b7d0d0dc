"""The Dask actor of one machine: takes the messages of the main program's driver, each once and in order.

A message may come twice: its sender sends it again when its connection breaks. So changes have a number, and are made
once; and the reply to a poll is kept until the next poll says that it has arrived. The actor belongs to one driver. If
Dask makes the actor a second time by itself, the new one knows no message, and refuses all.
"""

import asyncio
import os
import sys
from typing import Any

from .. import _native
from .messages import Order, Packed, Reply, pack
from .relay import Relay

__all__ = ["Machine"]

#: Seconds: how long a poll waits for news, and how long for more of them while all workers are busy.
_POLL, _GATHER = 1.0, 0.02


class Machine:
    """The pool of one machine, as a Dask actor. settings: a dict, made by pool.py.

    Raises RuntimeError if the machine's Python or goproc cannot work with the main program's.
    """

    def __init__(self, settings):
        from .. import __version__

        mine = sys.version_info[:2], __version__
        if mine != settings["versions"]:
            theirs = "Python {}.{} and goproc {}".format(*settings["versions"][0], settings["versions"][1])
            raise RuntimeError(
                f"a machine of the cluster has Python {mine[0][0]}.{mine[0][1]} and goproc {mine[1]}, the main program "
                f"has {theirs}: install the same versions on all machines"
            )
        for name in ("GOPROC_CLUSTER", "GOPROC_SHIP"):  # a pool that a task makes is local
            os.environ.pop(name, None)
        self._loop: Any = None
        self._done = 0  # the number of the last changes that have been made
        self._polled = 0  # the number of the last poll
        self._reply: Packed | None = None  # its reply
        self._news: Any = None
        self._urgent: Any = None
        self._changed: Any = None
        self._polling: Any = None
        self._relay = Relay(settings, self._ring)

    def _ring(self, urgent):
        loop = self._loop
        if loop is not None and (urgent or not self._news.is_set()):
            try:
                loop.call_soon_threadsafe(self._note_news, urgent)
            except RuntimeError:
                pass  # the loop has been closed: this process is ending

    def _note_news(self, urgent):
        self._news.set()
        if urgent:
            self._urgent.set()

    async def exchange(self, packed: Packed) -> Packed:
        """Take a messages.Order, return a messages.Reply. Raises LookupError for one that is not for this life."""
        relay = self._relay
        if self._loop is None:
            self._news, self._urgent = asyncio.Event(), asyncio.Event()
            self._changed, self._polling = asyncio.Condition(), asyncio.Lock()
            self._loop = asyncio.get_running_loop()  # from now on, news is noted
        order: Order = packed.load()
        relay.seen = _native.monotonic()
        if relay.log is not None:
            relay.log.passed_on(order.passed_on)
        if order.order:
            await self._change(order)
        pids = tuple(process.pid for process in relay.workers)
        if not order.poll:
            return pack(Reply(fed=relay.fed, ended=relay.ended, pids=pids))
        async with self._polling:
            if order.poll == self._polled and self._reply is not None:
                return self._reply
            if order.poll != self._polled + 1:
                raise LookupError("the message is for an earlier life of this machine's pool")
            self._reply = None
            if order.poll > 1:  # the first poll asks whether there is a machine
                await self._wait_for_news()
            relay.seen = _native.monotonic()
            pids = tuple(process.pid for process in relay.workers)
            ended = relay.ended  # before the frames are taken: none comes after it
            frames = relay.take()
            records, logged = [], 0
            if relay.log is not None:
                records, logged = relay.log.take()
                ended = ended and relay.log.is_done
            recalled, relay.recalled = relay.recalled, []
            broken, relay.broken = relay.broken, None
            self._reply = pack(Reply(frames, relay.fed, recalled, broken, ended, pids, records, logged))
            self._polled = order.poll
            return self._reply

    async def _change(self, order):
        if order.order > self._done + 1:
            async with self._changed:
                await asyncio.wait_for(self._changed.wait_for(lambda: order.order <= self._done + 1), 5)
        if order.order <= self._done:
            return
        relay = self._relay
        relay.drop(order.drops)
        relay.keep_contents(order.contents)
        relay.give(order.tasks)
        for name, *arguments in order.calls:
            relay.call(name, *arguments)
        relay.grant(order.grant)
        self._done = order.order
        async with self._changed:
            self._changed.notify_all()

    async def _wait_for_news(self):
        relay = self._relay
        if not relay.has_news:
            self._news.clear()
            self._urgent.clear()
            if not relay.has_news:
                await _within(self._news, _POLL)
        if relay.has_news and not self._urgent.is_set():
            await _within(self._urgent, _GATHER)
        self._news.clear()
        self._urgent.clear()

    def __del__(self):
        relay = self.__dict__.get("_relay")
        if relay is not None:
            relay.call("terminate")
            if relay.log is not None:
                relay.log.give_up()


async def _within(event, seconds):
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        pass
