"""The exchange with one machine: makes its actor, sends it tasks and grants, and takes its results.

    poll: "what is new?" ═══▶ the machine answers when results are worth it, or after a second
    push: tasks, grants, withdrawals ═══▶ answered at once

A poll also carries what is to be sent. A push carries what comes up while the machine considers a poll. All messages of
a driver are numbered, so each can be sent again when a connection breaks: the machine takes it once. Runs on the event
loop of the Dask client. Used by crew.py.
"""

import asyncio
import itertools
import pickle
from typing import Any

from .. import _native
from .._common.log import warn
from .._pool.failures import unpacked
from .log_source import ROOM
from .machine import Machine
from .messages import Order, Packed, as_buffer, pack
from .tasks import Seat

__all__ = ["Driver"]

#: Seconds: when a machine that has not answered is asked whether it is there; the pause between two attempts.
_ATTEMPT, _PAUSE = 3.0, 0.2

#: Seconds after which a message is sent again, though the machine answers others.
_LONGEST = 300.0

#: Seconds that a machine has to make its actor and start its workers.
_START = 60.0

_numbers = itertools.count()


class Driver:
    """Drives one machine. connection: the Connection. address: the Dask worker's. settings: see machine.py.

    name: of the machine, for messages to the user. port, ledger: of the pool. sink: takes log records (log_sink.py);
    None if the pool relays none. distribute: called when tasks may be given out. on_end: called with this driver when
    the machine is lost or has ended, or its workers cannot begin.
    """

    def __init__(self, connection, address, settings, name, port, ledger, sink, distribute, on_end):
        self.address, self.name = address, name
        self.seat = Seat(name, settings["processes"])
        self.lost_after = settings["lost_after"]
        self.pids: tuple[int, ...] = ()
        self.done = 0  # how many tasks it has answered
        self.error: BaseException | None = None  # why its pool could not be made
        self.started = False
        self.closing = False  # whether it has been told to end when its tasks are done
        self.ended = False
        self._connection, self._client, self._settings = connection, connection.client, settings
        self._port, self._ledger, self._sink = port, ledger, sink
        self._inflow: Any = None
        self._told = 0  # how many bytes of log records are passed on, as the machine was last told
        self._distribute, self._on_end = distribute, on_end
        self._key = f"goproc-machine-{settings['pool']}-{next(_numbers)}"
        self._future: Any = None
        self._is_told = False  # whether it has been told to end at once
        self._orders = 0
        self._polls = 0
        self._polling = False  # whether the machine considers a poll
        self._pushing = asyncio.Event()
        self._heard = _native.monotonic()
        self._direct = True
        self._task: Any = None
        self._contents: set[bytes] = set()  # the contents that the machine has
        self._since, self._count = _native.monotonic(), 0

    def start(self):
        """Begin; returns at once."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.ensure_future(self._run())

    @property
    def answers(self):
        """Whether the machine has answered recently: it answers at least once a second."""
        return self.started and _native.monotonic() - self._heard < _ATTEMPT

    def close(self):
        """Have the machine's pool end when its tasks are done."""
        self.closing = True
        self._call_for("close")

    async def tell_end(self):
        """End the machine's pool at once. Its log records still come."""
        if not self.ended and self.started and not self._is_told:
            self._is_told = True
            try:
                await asyncio.wait_for(self._send(Order(self._next_order(), 0, calls=[("terminate",)])), 2)
            except Exception:
                pass  # the machine cannot be reached: its lease ends the pool

    async def stop(self):
        """End the machine's pool at once, and this exchange."""
        await self.tell_end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._let_go()

    def forget_contents(self):
        """Have the machine forget contents whose handles the program has closed."""
        closed = [token for token in self._contents if self._port.contents.is_closed(token)]
        if closed:
            self._contents.difference_update(closed)
            self._call_for("forget", closed)

    def kick(self):
        """There is something to send."""
        if self._polling:
            self._pushing.set()

    async def _run(self):
        pusher = None
        why = None
        try:
            await self._make()
            self._heard = _native.monotonic()
            self._polls = 1
            if self._sink is not None:
                self._inflow = self._sink.add(self._ask_mark, self._passed_on, self._loop.is_running)
            self._take(await self._exchange(Order(0, 1), 0))
            self.started = True
            self.seat.kick = self.kick
            self._ledger_add()
            pusher = asyncio.ensure_future(self._push())
            while True:
                self._polls += 1
                exchange = asyncio.ensure_future(self._exchange(self._order(self._polls), 1.0))
                self._polling = True
                try:
                    await asyncio.wait({exchange, pusher}, return_when=asyncio.FIRST_COMPLETED)
                    if pusher.done():
                        pusher.result()
                    reply = await exchange
                finally:
                    exchange.cancel()
                self._polling = False
                if self._take(reply):
                    break
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not self.started:
                self.error = error
            why = str(error) or type(error).__name__
        finally:
            self.ended = True
            if pusher is not None:
                pusher.cancel()
            if self._inflow is not None:
                self._inflow.end()
        if self.started:
            if why is not None:
                warn(f"pool: the machine {self.name} is lost: {why}")
            self._ledger.lost(self.seat, why or "its pool has ended")
        self._let_go()
        self._on_end(self, why)

    def _ledger_add(self):
        with self._ledger.lock:
            self._ledger.seats.append(self.seat)
        self._distribute()

    async def _make(self):
        submit = self._client.submit(
            Machine,
            self._settings,
            actor=True,
            workers=[self.address],
            allow_other_workers=False,
            pure=False,
            key=self._key,
            priority=100,
        )
        self._future = submit
        error = await asyncio.wait_for(submit.exception(), _START)
        if error is not None:
            raise error
        try:
            rpc = self._client.rpc(self.address)
            await asyncio.wait_for(rpc.identity(), _ATTEMPT)
        except (OSError, asyncio.TimeoutError):
            self._direct = False

    def _let_go(self):
        future, self._future = self._future, None
        if future is not None:
            try:
                future.release()
            except Exception:
                pass  # the client has been closed

    # ---- messages

    def _next_order(self):
        self._orders += 1
        return self._orders

    def _order(self, poll):
        """Take everything that is to be sent out of the seat; return the message."""
        seat = self.seat
        if self._inflow is not None:
            self._told = self._inflow.passed_on
        with self._ledger.lock:
            if not seat.changed:
                return Order(0, poll, passed_on=self._told)
            news, drops, calls = seat.news, seat.drops, seat.calls
            seat.news, seat.drops, seat.calls, seat.changed = [], [], [], False
            grant = seat.grant
            contents = {}
            for task in news:
                for key in task.contents:
                    if key not in self._contents:
                        contents[key] = self._port.contents.bytes_of(key)
                        self._contents.add(key)
            tasks = [
                (
                    task.position,
                    task.job,
                    task.index,
                    task.count,
                    as_buffer(task.stream),
                    None if task.buffers is None else [as_buffer(buffer) for buffer in task.buffers],
                    task.limits,
                    self._ledger.was_used(task),
                )
                for task in news
            ]
        return Order(self._next_order(), poll, tasks, grant, drops, calls, contents, self._told)

    async def _push(self):
        while True:
            await self._pushing.wait()
            self._pushing.clear()
            if self.seat.changed or self._owes:
                await self._exchange(self._order(0), 0)

    async def _exchange(self, order, seconds):
        """Send a message until it is answered; return the reply. Raises an exception when the machine is lost."""
        packed = pack(order)
        del order  # it holds what it sends, also large shared objects
        while True:
            call = asyncio.ensure_future(self._call(packed))
            try:
                if await self._is_answered(call, seconds + min(_ATTEMPT, self.lost_after / 2)):
                    reply = call.result().load()
                    self._heard = _native.monotonic()
                    return reply
            except (OSError, asyncio.TimeoutError):  # the connection broke
                if await self._is_gone():
                    raise ConnectionError("its process has ended") from None
            finally:
                call.cancel()
            silent = _native.monotonic() - self._heard
            if silent > self.lost_after:
                raise TimeoutError(f"it has not answered for {silent:.0f} s")
            await asyncio.sleep(_PAUSE)

    async def _is_answered(self, call, seconds):
        """Wait for a call; return whether it has been answered. False if the machine does not answer others either.

        A large message takes long. So the machine is asked something small meanwhile, which also renews its lease.
        """
        deadline = _native.monotonic() + _LONGEST
        while _native.monotonic() < deadline:
            await asyncio.wait({call}, timeout=seconds)
            if call.done():
                return True
            try:
                await asyncio.wait_for(self._send(Order(0, 0)), min(_ATTEMPT, self.lost_after / 2))
                self._heard = _native.monotonic()
            except (OSError, asyncio.TimeoutError):
                if await self._is_gone():
                    raise ConnectionError("its process has ended") from None
                return call.done()
        return False

    async def _send(self, order):
        return await self._call(pack(order))

    async def ask(self):
        """Ask the machine for the process ids of its workers, which each reply has."""
        if self.started and not self.ended:
            self.pids = (await self._send(Order(0, 0))).load().pids

    async def _call(self, packed) -> Packed:
        from distributed.protocol import to_serialize  # here, so that the module can be imported without distributed

        message: dict[str, Any] = {"function": "exchange", "actor": self._key}
        message["args"], message["kwargs"] = [to_serialize(packed)], {}
        if self._direct:
            answer = await self._client.rpc(self.address).actor_execute(**message)
        else:
            message["op"] = "actor_execute"
            answer = await self._client.scheduler.proxy(worker=self.address, msg=message)
        if answer["status"] == "OK":
            return answer["result"]
        raise answer["exception"]

    async def _is_gone(self):
        """Whether nothing listens at the machine's address any more, or the scheduler has seen its end."""
        if not self._direct:
            try:
                return self.address not in await asyncio.wait_for(self._connection.workers(), 1)
            except (OSError, asyncio.TimeoutError):
                return False
        host, _, number = self.address.rpartition("://")[2].rpartition(":")
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host.strip("[]"), int(number)), 1)
        except ConnectionRefusedError:
            return True
        except (OSError, ValueError, asyncio.TimeoutError):
            return False
        writer.close()
        return False

    # ---- log records: called in the sink's thread, or in one that flushes

    @property
    def _owes(self):
        """Whether the machine may wait to be told that records have been passed on."""
        return self._inflow is not None and self._inflow.passed_on - self._told >= ROOM // 4

    def _passed_on(self):
        if self._owes:
            self._soon(self.kick)

    def _ask_mark(self, number):
        self._soon(self._call_for, "mark", number)

    def _soon(self, function, *arguments):
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            pass  # the loop has been closed

    def _call_for(self, *call):
        with self._ledger.lock:
            self.seat.calls.append(call)
            self.seat.changed = True
        self.kick()

    # ---- answers

    def _take(self, reply):
        """Take a machine's reply. Return whether its pool has ended."""
        seat = self.seat
        self.pids = reply.pids
        if reply.recalled or seat.recalling:
            self._ledger.recalled(seat, reply.recalled)
        if reply.records:
            self._inflow.put(reply.records, reply.logged)
        if reply.frames:
            ended = self._ledger.answered(seat, reply.frames)
            self.done += ended
            self._measure(ended)
        if reply.broken is not None:
            self._break(reply.broken)
        elif seat.broken is not None and reply.frames:
            seat.broken = None
        self._distribute()
        return reply.ended

    def _measure(self, count):
        self._count += count
        now = _native.monotonic()
        if now - self._since >= 0.02:
            rate = self._count / (now - self._since)
            with self._ledger.lock:
                seat = self.seat
                seat.rate = rate if not seat.rate else (seat.rate + rate) / 2
            self._since, self._count = now, 0

    def _break(self, pickled):
        stream, cause = pickle.loads(pickled)
        error = pickle.loads(stream)
        if cause is not None:
            error.__cause__ = unpacked(cause)
        with self._ledger.lock:
            seat = self.seat
            seat.broken = error
            for task in list(seat.tasks.values()):
                self._ledger._remove(seat, task)
                self._ledger.queue.append(task)
        self._on_end(self, None)
