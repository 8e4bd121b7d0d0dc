"""The log records of machines, in the main program: a thread passes them on to the relay, in which they are handled.

    Reply.records ──▶ Inflow.put ──▶ LogSink's thread ══ socket ══▶ the Reader of _relay/reader.py ──▶ handlers

So these records take the same way as those of local children. The thread waits while the socket is full. The machines
are told how much was passed on, so they wait then, too. Used by pool.py, crew.py and driver.py.
"""

import logging
import struct
import threading
from collections import deque
from typing import Any

from .._common.threads import OwnThread
from .._relay import channel, records
from .._relay.reader import MARK, Limit

__all__ = ["Inflow", "LogSink"]

#: Seconds: the end of a pool gives up when no record was passed on for that long.
PATIENCE = 1.0


class LogSink:
    """The sink of one pool. state: the _relay.state.State that takes the records. lease: ended with it; None for none.

    Raises RuntimeError if no thread can be started.
    """

    def __init__(self, state, lease):
        self.state, self._lease = state, lease
        self.changed = threading.Condition()
        self.count = 0  # how many messages have been passed on
        self._queue: deque[tuple[Inflow, Any, int]] = deque()
        self._inflows: list[Inflow] = []
        self._marks = 0
        self._closing = False
        self._thread = OwnThread("goproc-log-sink", self._run)
        state.sinks.add(self)
        try:
            self._thread.start()
        except BaseException:
            self._let_go()
            raise

    def add(self, ask, tell, is_running):
        """Return a new Inflow; see there."""
        inflow = Inflow(self, ask, tell, is_running)
        with self.changed:
            self._inflows.append(inflow)
        return inflow

    def put(self, inflow, messages, position):
        """Take records of a machine. messages: None if nothing more will come from it."""
        with self.changed:
            self._queue.append((inflow, messages, position))
            self.changed.notify_all()

    def flush(self, timeout=None):
        """Wait until what the workers have logged so far is passed on; return whether it is. timeout: seconds."""
        limit = Limit(self, timeout, None)
        with self.changed:
            self._marks += 1
            mark = self._marks
            inflows = list(self._inflows)
        for inflow in inflows:
            inflow.ask(mark)
        with self.changed:
            while self._thread.is_alive() and any(self._lacks(inflow, mark) for inflow in inflows):
                self.changed.wait(limit.next())
                if limit.is_over():
                    return False
        return True

    def _lacks(self, inflow, mark):
        return inflow.seen < mark and inflow in self._inflows and inflow.is_running()

    def close(self, patience=None):
        """Wait until all records that have come are passed on. No more must come. patience: seconds without any
        progress; then the rest is passed on later."""
        with self.changed:
            self._closing = True
            self.changed.notify_all()
        if self.state.is_handling():
            return
        limit = Limit(self, None, patience)
        while self._thread.is_alive():
            self._thread.join(limit.next())
            if self._thread.is_alive() and limit.is_over():
                return

    # ---- the thread

    def _run(self):
        try:
            while (came := self._next()) is not None:
                inflow, messages, position = came
                if messages is None:
                    with self.changed:
                        self._inflows.remove(inflow)
                        self.changed.notify_all()
                    continue
                for message, content in messages:
                    self._pass_on(inflow, message, content)
                inflow.passed_on = position
                inflow.tell()
                inflow = messages = came = None  # they may be large
        finally:
            self._let_go()
            with self.changed:
                self.changed.notify_all()

    def _next(self):
        with self.changed:
            while not self._queue:
                if self._closing:
                    return None
                self.changed.wait()
            return self._queue.popleft()

    def _pass_on(self, inflow, message, content):
        if message[:1] == MARK:
            with self.changed:
                (inflow.seen,) = struct.unpack("<Q", message[1:])
                self.changed.notify_all()
        else:
            try:
                self.state.writing.send(message, content)
            except channel.Gone:  # the relay was stopped
                _print(message, content)
        self.count += 1

    def _let_go(self):
        self.state.sinks.discard(self)
        if self._lease is not None:
            self._lease.drop()


class Inflow:
    """The records from one machine. ask: called with a number; has the machine put it as a mark into its records.

    tell: called when passed_on has changed. is_running: returns whether the exchange with the machine can go on. All
    three are called in any thread.
    """

    def __init__(self, sink, ask, tell, is_running):
        self._sink, self.ask, self.tell, self.is_running = sink, ask, tell, is_running
        self.passed_on = 0  # bytes
        self.seen = 0  # the last mark that has come

    def put(self, messages, position):
        """Take records; position: the number of bytes that have come in all."""
        self._sink.put(self, messages, position)

    def end(self):
        """Nothing more will come."""
        self._sink.put(self, None, 0)


def _print(message, content):
    """Print a record of level WARNING or above on standard error, like a child whose relay was stopped."""
    last = logging.lastResort
    try:
        record = records.decode(message[1:] if content is None else content)
        if last is not None and record.levelno >= last.level:
            last.handle(record)
    except Exception:
        pass  # the thread must go on with the next record
