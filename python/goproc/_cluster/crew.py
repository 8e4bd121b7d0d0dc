"""Replaces a local pool's Crew: the machines of a cluster, how they join and leave, and the end of all.

A coroutine on the loop of the Dask client looks once a second which workers Dask's scheduler knows, and drives each by
a Driver. Used by pool.py.
"""

import asyncio
import concurrent.futures
import threading
import time
from multiprocessing import util
from typing import Any

from .. import _native
from .._common.log import warn
from .._relay.child import get_levels
from ..errors import WorkerLostError
from .driver import Driver
from .log_sink import PATIENCE
from .tasks import SLOW
from .workers import Worker

__all__ = ["Crew"]

#: Seconds between two looks at the scheduler's workers; how long the scheduler may take to answer.
_LOOK, _ANSWER = 1.0, 5.0

#: Seconds for which new tasks fail at once when no machine's workers can begin.
_BROKEN = 0.5

#: Seconds that the first machine has to come up, at least.
_FIRST = 30.0

#: Seconds that the other machines have to come up when the first one has.
_OTHERS = 2.0

#: Seconds in which machines must end their pools when the pool is terminated.
_ENDING = 4.0

#: Seconds for which a pool that is terminated waits for log records when none come: workers may take 5 s to end.
_LOGGING = 6.0


class Crew:
    """The machines of one pool. It has those attributes and methods of _pool/crew.py's Crew that a pool needs.

    connection: the address.Connection. settings: of each machine, see machine.py. processes: the most workers in all.
    workers: the list of pool._pool. port, ledger: of the pool. sink: takes the workers' log records (log_sink.py); None
    if they are not relayed. reconnect_timeout: how many seconds to wait for a scheduler that does not answer, and for
    machines when there are none.
    """

    give_up: Any = None
    retry_at = None
    replacing = True

    def __init__(self, connection, settings, processes, workers, port, ledger, sink, reconnect_timeout):
        self.control: Any = None
        self.number = 0
        self.broken: BaseException | None = None
        self._broken_until: float | None = None  # when workers that could not begin are tried again
        self.closing = False
        self.terminated = False
        self.task_memory = settings["task_memory"]
        self.drivers: dict[str, Driver] = {}  # by the Dask worker's address
        self._connection, self._settings, self._most = connection, settings, processes
        self._workers, self._port, self._ledger, self._sink = workers, port, ledger, sink
        self._reconnect_timeout = reconnect_timeout
        self._stand_ins: dict[Driver, list[Worker]] = {}
        self._later: dict[str, float] = {}  # by address: when a machine that was lost is tried again
        self._quiet_since: float | None = None  # since when the scheduler does not answer
        self._empty_since = _native.monotonic()  # since when there has been no machine
        self._first_error: BaseException | None = None
        self._asked = False  # whether the loop is about to distribute
        self._watching: Any = None
        self._timer: Any = None  # the next look at machines that are idle while others are busy
        self._released = False
        self._is_done = False
        self._up = threading.Event()
        port.ledger, port.call_soon = ledger, self.call_soon

    # ---- the beginning

    def start(self):
        """Start on the machines that there are; return when the first is ready. Raises why there is none."""
        self._connection.run(self._begin())
        deadline = _native.monotonic() + max(self._reconnect_timeout, _FIRST)
        while not self._up.wait(0.1):
            if self._first_error is not None and not any(not driver.ended for driver in self.drivers.values()):
                raise self._first_error
            if _native.monotonic() > deadline:
                raise WorkerLostError(0, 0, machine=self._connection.address, why=self._no_machine())
        deadline = _native.monotonic() + _OTHERS
        while _native.monotonic() < deadline and not all(driver.started or driver.ended for driver in self._all()):
            time.sleep(0.01)
        self._connection.run(self._ask())

    async def _begin(self):
        self._loop = asyncio.get_running_loop()
        self._watching = asyncio.ensure_future(self._watch())

    async def _watch(self):
        while not self.terminated:
            try:
                await self._look()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                warn(f"pool: the cluster's machines could not be listed: {error!r}")
            await asyncio.sleep(_LOOK if self._up.is_set() else 0.1)

    async def _look(self):
        now = _native.monotonic()
        patience = min(_ANSWER, self._reconnect_timeout)
        try:
            workers = await asyncio.wait_for(self._connection.workers(), patience)
        except (OSError, asyncio.TimeoutError, AttributeError) as error:
            if self._quiet_since is None:
                self._quiet_since = now
                warn(
                    f"pool: the scheduler {self._connection.address} does not answer ({error or type(error).__name__})"
                )
            elif now - self._quiet_since > self._reconnect_timeout and not self._live():
                text = f"the scheduler {self._connection.address} is gone: it has not answered for "
                self._give_all_up(text + f"{now - self._quiet_since:.0f} s, and no machine is left")
            return
        if self._quiet_since is not None:
            warn(f"pool: the scheduler {self._connection.address} answers again")
            self._quiet_since = None
        self._join(workers, now)
        for driver in self._live():
            driver.forget_contents()
        if self._live():
            self._empty_since = now
            if self.broken is not None and isinstance(self.broken, WorkerLostError):
                self.broken = None
        elif now - self._empty_since > self._reconnect_timeout and self._up.is_set():
            self._give_all_up(self._no_machine())

    def _no_machine(self):
        return f"no machine of the cluster {self._connection.address} takes part: its scheduler knows no worker"

    async def _ask(self):
        asking = [asyncio.wait_for(driver.ask(), _ANSWER) for driver in self._live()]
        await asyncio.gather(*asking, return_exceptions=True)
        self._list_workers()

    def _all(self):
        return list(self.drivers.values())

    def _live(self):
        return [driver for driver in self._all() if not driver.ended]

    def _join(self, workers, now):
        """Drive the workers that are not driven. workers: by address, the scheduler's information on them."""
        if self.closing and self._ledger.is_empty:
            return
        for address, info in workers.items():
            known = self.drivers.get(address)
            if known is not None and (not known.ended or self._later.get(address, 0) > now):
                continue
            left = self._most - sum(driver.seat.processes for driver in self._live())
            processes = min(info["nthreads"], left)
            if processes < 1:
                continue
            host = address.rpartition("://")[2].rpartition(":")[0]
            label = info.get("name")
            is_named = label not in (None, "") and str(label) != address  # a LocalCluster numbers its workers from 0
            name = f"{label if is_named else host} ({address})"
            log = None if self._sink is None else get_levels()
            settings = {**self._settings, "processes": processes, "name": name, "log": log}
            parts = self._port, self._ledger, self._sink, self._distribute, self._driver_changed
            driver = Driver(self._connection, address, settings, name, *parts)
            self.drivers[address] = driver
            driver.start()
            asyncio.ensure_future(self._when_up(driver))

    async def _when_up(self, driver):
        while not driver.started and not driver.ended:
            await asyncio.sleep(0.01)
        if driver.started:
            self._up.set()
            self._list_workers()

    def _list_workers(self):
        """Bring pool._pool up to date. When the pool is closed, workers that have ended stay in it."""
        for driver in self._live():
            if driver not in self._stand_ins and driver.started:
                self._stand_ins[driver] = [Worker(driver, number) for number in range(driver.seat.processes)]
        for driver, workers in list(self._stand_ins.items()):
            if driver.ended:
                for worker in workers:
                    worker.has_ended(self.terminated or not driver.closing)
                if not self.closing and not self.terminated:
                    del self._stand_ins[driver]
        self._workers[:] = [worker for workers in self._stand_ins.values() for worker in workers]

    def _driver_changed(self, driver, why):
        """A machine is lost, has ended, or its workers cannot begin."""
        if driver.ended:
            self._later[driver.address] = _native.monotonic() + (0 if driver.error is None else 5)
            if driver.error is not None and self._first_error is None:
                self._first_error = driver.error
            self._list_workers()
        live = self._live()
        started = [other for other in live if other.started]
        if started and all(other.seat.broken is not None for other in started):
            self.broken = started[0].seat.broken
            self._broken_until = _native.monotonic() + _BROKEN
            self._fail_all(self.broken)
        if self.closing:
            self._look_at_end()
        self._distribute()

    # ---- distribution

    def call_soon(self):
        """Have the loop look at the inbox."""
        if not self._asked:
            self._asked = True
            try:
                self._loop.call_soon_threadsafe(self._distribute)
            except RuntimeError:
                pass  # the loop has been closed

    def _distribute(self):
        self._asked = False
        for seat in self._ledger.distribute():
            if seat.kick is not None:
                seat.kick()
        if self._timer is None and self._ledger.has_idle:
            self._timer = self._loop.call_later(SLOW, self._distribute_again)
        if self.closing:
            self._look_at_end()

    def _distribute_again(self):
        self._timer = None
        if not self.terminated:
            self._distribute()

    def _give_all_up(self, text):
        self.broken = WorkerLostError(0, 0, machine=self._connection.address, why=text)
        self._fail_all(self.broken)

    def _fail_all(self, error):
        keys = self._ledger.take_all()
        if keys:
            self._port.complete([(job, index, _native.FAILURE, error) for job, index in keys])

    # ---- the end

    @property
    def done(self):
        """Whether all machines' pools have ended."""
        return self._is_done or self.terminated

    def close(self):
        """Refuse further tasks; the machines' pools end when all tasks are done."""
        self.closing = True
        self.call_soon()

    def _look_at_end(self):
        if not self._ledger.is_empty or self.terminated or not self.closing:
            return
        for driver in self._live():
            if driver.started and not driver.closing:
                driver.close()
        if not any(driver.started for driver in self._live()):
            self._is_done = True
            self._port.wake()
            self._port.rouse()

    def terminate(self, idle=()):
        """End the pools of all machines."""
        self.terminated = True
        if not self._released and self._watching is not None:
            try:
                if self._sink is not None:
                    self._connection.run(self._tell_end(), _ENDING)
                    self._wait_for_records()
                self._connection.run(self._stop(), _ENDING)
            except (concurrent.futures.TimeoutError, asyncio.TimeoutError, RuntimeError, OSError):
                util.debug("the machines of a pool could not be told its end: their leases end them")
        for driver in self._all():
            driver.ended = True
        if self._sink is not None:
            self._sink.close(PATIENCE)
        self._list_workers()

    async def _tell_end(self):
        await asyncio.gather(*(driver.tell_end() for driver in self.drivers.values()), return_exceptions=True)

    def _wait_for_records(self):
        """Wait until the machines' workers have ended, and all that they have logged has come.

        Gives up when nothing has come for a while, and does not wait for machines that do not answer.
        """
        if self._sink.state.is_handling():
            return  # the wait would be for this thread itself
        count, deadline = self._sink.count, _native.monotonic() + _LOGGING
        while any(driver.answers for driver in self._live()) and _native.monotonic() < deadline:
            time.sleep(0.002)
            if count != self._sink.count:
                count, deadline = self._sink.count, _native.monotonic() + _LOGGING

    async def _stop(self):
        if self._watching is not None:
            self._watching.cancel()
        await asyncio.gather(*(driver.stop() for driver in self.drivers.values()), return_exceptions=True)

    def release(self):
        """Let go of the connection to the cluster."""
        if not self._released:
            self._released = True
            self._connection.close()

    # ---- what a local pool's Crew has, and what has no meaning here

    @property
    def processes(self):
        """No Process objects: the workers are not this process's children."""
        return {}

    def try_again(self):
        """Return the exception that a new task must fail with; None to let the machines try to start workers again."""
        if self._broken_until is not None and _native.monotonic() > self._broken_until:
            with self._ledger.lock:
                self.broken = self._broken_until = None
                for seat in self._ledger.seats:
                    seat.broken = None
        return self.broken

    def retry_if_due(self):
        """Return None: machines try their workers again by themselves."""

    def withdraw(self):
        """Withdraw all tasks."""
        self.control.cancel_all()

    def serial(self, pid):
        """Return None."""

    def exited(self, pid, exitcode, served):
        """Return None: the machines replace their workers."""

    def could_not_begin(self, error, pid):
        """Do nothing: see Driver._break."""

    def replace_by_forks(self):
        """Do nothing."""

    def repopulate(self, all_or_none=False, most=None):
        """Do nothing: the machines replace their workers."""

    def grow(self, processes):
        """Bring pool._pool up to date; the number of workers is the cluster's."""
        self._connection.run(self._ask(), _ANSWER)
