"""The log records of a machine's workers: reads them from the workers, and keeps them until the driver takes them.

    a worker ══ socket ══▶ LogSource's thread ──▶ kept ──take()──▶ Reply.records ═══▶ the main program (log_sink.py)

The records stay bytes here. The main program says how many bytes of the taken records it has passed on. At most ROOM
bytes are on their way, and at most ROOM are kept. When that limit is reached, workers that log wait. Used by relay.py.
"""

import struct
import threading
from typing import Any

from .._common import start_methods
from .._relay import channel
from .._relay.reader import MARK, Reader
from .._relay.state import ForSpawned
from .messages import as_buffer

__all__ = ["ROOM", "LogSource"]

#: The most bytes of records that are kept here, plus one record; also the most bytes that are on their way.
ROOM = 1 << 20


class LogSource(Reader):
    """levels: of the main program's loggers (_relay/child.py). machine: its name. ring: called when there is news.

    Raises what Reader raises.
    """

    def __init__(self, levels, machine, ring):
        self._levels, self._machine, self._ring = levels, machine, ring
        self._changed_room = threading.Condition()
        self._kept: list[tuple[Any, Any]] = []
        self._size = 0  # of what is kept, in bytes
        self._taken = self._passed_on = 0  # bytes: what the driver has taken, and what the main program has passed on
        self._given_up = False
        self._to_mark: list[int] = []
        self._marking = threading.Lock()
        super().__init__()

    def marking(self, make):
        """Return a function that makes Process objects as make does, but such that they send their records here."""

        def make_process(*arguments, **options):
            process_obj = make(*arguments, **options)
            start_methods.relay_by(process_obj, self)
            return process_obj

        return make_process

    def for_spawned(self, process_obj):
        """See _relay.state.State."""
        return ForSpawned(self.writing, self._levels, self._machine)

    # ---- called on the event loop of the Dask worker

    @property
    def has_news(self):
        """Whether take() has something to return."""
        return bool(self._kept) and self._taken - self._passed_on < ROOM

    @property
    def is_done(self):
        """Whether all records have been taken, and none can come."""
        return not self._thread.is_alive() and not self._kept

    def take(self):
        """Return records as a list of (message, content), and the number of bytes that have been taken in all."""
        with self._changed_room:
            if not self.has_news:
                return [], self._taken
            kept, self._kept = self._kept, []
            self._taken += self._size
            self._size = 0
            self._changed_room.notify_all()
            return kept, self._taken

    def passed_on(self, position):
        """Note how many of the taken bytes the main program has passed on."""
        with self._changed_room:
            if position <= self._passed_on:
                return
            self._passed_on = position
        if self.has_news:
            self._ring(False)

    def mark(self, number):
        """Have a mark taken after all records that have been sent so far."""
        self._to_mark.append(number)
        self._send_marks()

    def give_up(self):
        """Keep no record any more: the main program is gone."""
        with self._changed_room:
            self._given_up = True
            self._kept.clear()
            self._changed_room.notify_all()

    # ---- the thread

    def _run(self):
        try:
            super()._run()
        finally:
            self._ring(True)

    def _take(self, message, content):
        if message == _END:
            return
        size = len(message) + len(content or b"")
        with self._changed_room:
            while self._size >= ROOM and not self._given_up:
                self._changed_room.wait()
            if self._given_up:
                return
            self._kept.append((message, None if content is None else as_buffer(content)))
            self._size += size
        if self.has_news:
            self._ring(self._size >= ROOM // 4 or message[:1] == MARK)
        self._send_marks()

    def _send_marks(self):
        """Send the marks that are due, as far as there is room. If there is none, the thread tries after its next read.

        A mark is noted before it is tried, so the thread finds it.
        """
        if not self._to_mark:
            return
        with self._marking:
            try:
                while self._to_mark and self.writing.send(MARK + struct.pack("<Q", self._to_mark[0]), timeout=0):
                    del self._to_mark[0]
            except channel.Gone:
                self._to_mark.clear()


_END = MARK + struct.pack("<Q", 0)  # from Reader.close()
