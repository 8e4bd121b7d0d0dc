"""Reads the log records of other processes, and gives them to this program's loggers. Used by state.py.

One thread reads one record after the other. A fork waits until the thread is done with its record, so the child finds
the handlers' locks free.
"""

import logging
import os
import posix
import struct
import sys
import threading
import time

from .. import _native
from .._common.detached import Function
from .._common.threads import OwnThread
from . import channel, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["IN_FILE", "MARK", "RECORD", "Limit", "Reader", "close_all", "handle"]

#: The first byte of a message: a record; the short form of one whose long form comes as a file; a mark.
RECORD, IN_FILE, MARK = b"R", b"F", b"M"

#: Seconds that a fork waits for the thread to be done with a record. A handler may wait for the fork.
_FORK_WAITS = 0.5

#: Seconds that the thread leaves the lock to a fork that waits for it.
_GIVE_WAY = 0.001

_readers: "set[Reader]" = set()  # those whose descriptors are open in this process


class Reader:
    """A channel, and the thread that reads it until close() has been called and nothing is left to be read."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._reading, self.writing = channel.make()
        self._handling = threading.RLock()
        self._changed = threading.Condition()
        self._marks = 0  # how many marks were sent
        self._seen = 0  # the last mark that has come
        self.count = 0  # how many messages have come
        self._closing = False
        self._thread = OwnThread("goproc-log-relay", self._run)
        _readers.add(self)
        try:
            self._thread.start()
        except BaseException:
            self._release()
            raise

    def flush(self, timeout: "float | None" = None, patience: "float | None" = None) -> bool:
        """Wait until all records that were sent before have been handled; return whether they have.

        timeout: the most seconds. patience: give up when no record was handled for that many seconds. Returns False at
        once in the thread that handles records.
        """
        if self.is_reading() or os.getpid() != self._owner:
            return False
        limit = Limit(self, timeout, patience)
        with self._changed:
            self._marks += 1
            mark = self._marks
        try:
            while not self.writing.send(MARK + struct.pack("<Q", mark), timeout=limit.next()):
                if limit.is_over():
                    return False
        except channel.Gone:
            return not self._thread.is_alive()
        with self._changed:
            while self._seen < mark and self._thread.is_alive():
                self._changed.wait(limit.next())
                if self._seen < mark and limit.is_over():
                    return False
        return True

    def is_reading(self) -> bool:
        """Whether this thread is the Reader's own."""
        return threading.current_thread() is self._thread

    def close(self, wait: bool) -> None:
        """End the thread when all that has been sent is handled, and close the channel. wait: whether to wait for it.

        The thread itself closes the descriptors.
        """
        self._closing = True
        limit = None
        try:
            # If there is no room, the thread does not sleep, and sees _closing.
            self.writing.send(MARK + struct.pack("<Q", 0), timeout=0)
        except channel.Gone:
            limit = 1.0  # the program has closed the descriptors: the thread may sleep for ever
        if wait and threading.current_thread() is not self._thread:
            self._thread.join(limit)

    def _run(self):
        try:
            while True:
                try:
                    received = self._reading.receive(not self._closing)
                except OSError:
                    return  # the program has closed the descriptor
                if received is None:
                    return
                self._take(*received)
        finally:
            self._release()
            with self._changed:
                self._changed.notify_all()

    def _take(self, message, content):
        kind = message[:1]
        if kind == MARK:
            with self._changed:
                self._seen = max(self._seen, *struct.unpack("<Q", message[1:]))
                self.count += 1
                self._changed.notify_all()
            return
        if _waiting:
            time.sleep(_GIVE_WAY)  # else this thread would take the lock again before the one that forks
        with self._handling:
            handle(message[1:] if content is None else content)
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def _release(self):
        _readers.discard(self)
        self._reading.close()
        self.writing.close()

    def _leave_to_parent(self):
        """Stop reading in a forked child: only its parent reads. The end for writing stays open."""
        self._reading.close()
        self._handling = threading.RLock()
        self._changed = threading.Condition()


def close_all() -> None:
    """Close all Readers of this process, when they have read all that has been sent."""
    for reader in list(_readers):
        reader.close(wait=True)


class Limit:
    """How long flush() waits. It takes steps of at most a second, because it looks whether the thread still runs.

    reader: has `count`. timeout, patience: as for Reader.flush().
    """

    def __init__(self, reader: "Any", timeout: "float | None", patience: "float | None") -> None:
        self._reader = reader
        self._deadline = None if timeout is None else _native.monotonic() + timeout
        self._patience = patience

    def next(self) -> float:
        """Return for how many seconds to wait at most before the next call of is_over()."""
        self._before = self._reader.count
        left = 1.0 if self._deadline is None else min(1.0, max(0.0, self._deadline - _native.monotonic()))
        return left if self._patience is None else min(left, self._patience)

    def is_over(self) -> bool:
        """Whether to give up: the time is over, or no message has come since next() was called."""
        if self._deadline is not None and _native.monotonic() >= self._deadline:
            return True
        return self._patience is not None and self._reader.count == self._before


def handle(encoded: bytes) -> None:
    """Give an encoded record to this program's loggers, if their levels allow."""
    try:
        record = records.decode(encoded)
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except BaseException:  # also SystemExit: a handler must not end the thread
        if logging.raiseExceptions and sys.stderr is not None:
            import traceback

            try:
                sys.stderr.write("--- Logging error ---\n")
                traceback.print_exc()
            except (OSError, ValueError):
                pass


class _Held(threading.local):
    """readers: those that wait while this thread forks."""

    def __init__(self):
        self.readers: list[Reader] = []


_held = _Held()
_waiting: list = []  # one item for each thread that is about to fork, and waits for the lock


def _before_fork():
    for reader in list(_readers):
        _waiting.append(reader)
        try:
            if reader._handling.acquire(timeout=_FORK_WAITS):
                _held.readers.append(reader)
        finally:
            _waiting.pop()


def _after_fork_in_parent():
    while _held.readers:
        _held.readers.pop()._handling.release()


def _after_fork_in_child():
    _held.readers.clear()
    _waiting.clear()
    while _readers:
        _readers.pop()._leave_to_parent()


posix.register_at_fork(
    before=Function(__name__, "_before_fork"),
    after_in_parent=Function(__name__, "_after_fork_in_parent"),
    after_in_child=Function(__name__, "_after_fork_in_child"),
)
# Signals are held around these functions: what a handler raises in a function for forks is printed and lost, and the
# readers would wait for ever. Registered last, so this begins before the others, and ends after them.
posix.register_at_fork(before=_native.held_signals.__enter__, after_in_parent=_native.held_signals.__exit__)
