"""The way of log records: a socket pair of the kernel's that keeps the bounds of messages (SOCK_SEQPACKET).

All children write into one end, and the main program reads from the other one. A message arrives whole or not at all.
What was written stays when the writer is killed. A writer waits for room, and is told when nobody reads any more. A
message that is too large for the socket travels as a file whose descriptor is sent.

_socket's class is used, not socket's: gevent replaces the latter by one that changes the descriptor for all processes.
"""

import _socket
import errno
import posix
import select
import struct
import time

from .. import _native
from .._common import cooperative

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LARGEST", "Gone", "ReadEnd", "WriteEnd", "make"]

#: The most bytes of a message that is sent through the socket itself.
LARGEST = 64 * 1024

#: How many bytes may wait in the socket. The kernel's limit, net.core.wmem_max, is usually lower.
_ROOM = 4 * 1024 * 1024

#: A descriptor, as it is attached to a message.
_INT = struct.Struct("i")

#: Seconds between two attempts, when the kernel has too many descriptors on their way.
_PAUSE = 0.01


class Gone(Exception):
    """Nobody reads any more, or this process has closed its end."""


class WriteEnd:
    """The end into which processes write. socket: a _socket.socket."""

    def __init__(self, socket: "Any") -> None:
        socket.setblocking(True)
        self._socket = socket
        self._mark = _native.mark(socket.fileno())

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: bytes, content: "bytes | None" = None, timeout: "float | None" = None) -> bool:
        """Send a message; wait for room, for at most timeout seconds. Return whether it was sent.

        content: bytes of any size that belong to the message; they travel as a file. Raises Gone.
        """
        fd = self._socket.fileno()
        if _native.mark(fd) != self._mark:
            raise Gone  # the program has closed descriptors that it has not opened
        file = None if content is None else _file_of(content)
        try:
            attachments = [] if file is None else [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _INT.pack(file))]
            flags = _socket.MSG_NOSIGNAL | (0 if timeout is None else _socket.MSG_DONTWAIT)
            deadline = None if timeout is None else _native.monotonic() + timeout
            while True:
                try:
                    self._socket.sendmsg([message], attachments, flags)
                    return True
                except BlockingIOError:
                    left = None if deadline is None else deadline - _native.monotonic()
                    if left is not None and left <= 0:
                        return False
                    waiting = select.poll()
                    waiting.register(fd, select.POLLOUT)
                    waiting.poll(None if left is None else 1000 * left)
                except OSError as error:
                    if error.errno not in (errno.ETOOMANYREFS, errno.ENOBUFS):
                        raise Gone from error
                    time.sleep(_PAUSE)
        finally:
            if file is not None:
                posix.close(file)

    def __del__(self) -> None:
        self._socket.detach()  # without the warning of a socket that is not closed: a child has it until its end

    def close(self) -> None:
        """Close this process's end, unless the program has closed it."""
        if _native.mark(self._socket.fileno()) == self._mark:
            self._socket.close()
        else:
            self._socket.detach()


class ReadEnd:
    """The end from which the main program reads. One thread at a time may receive."""

    def __init__(self, socket: "Any") -> None:
        socket.setblocking(True)
        self._socket = socket
        self._mark = _native.mark(socket.fileno())
        self._buffer = bytearray(LARGEST + 64)

    def receive(self, wait: bool = True) -> "tuple[bytes, bytes | None] | None":
        """Return the next message and its content; None if there is none and wait is false. Raises OSError."""
        fd = self._socket.fileno()
        if _native.mark(fd) != self._mark:
            raise OSError(errno.EBADF, "the program has closed the descriptor of the relay")
        if wait and cooperative.is_patched():
            cooperative.wait_readable(fd, None)
        try:
            flags = _socket.MSG_CMSG_CLOEXEC | (0 if wait else _socket.MSG_DONTWAIT)
            count, attached, _, _ = self._socket.recvmsg_into([self._buffer], _socket.CMSG_SPACE(_INT.size), flags)
        except BlockingIOError:
            return None
        message = bytes(memoryview(self._buffer)[:count])
        for _, _, numbers in attached:
            (number,) = _INT.unpack(numbers[: _INT.size])
            with open(number, "rb") as file:
                file.seek(0)
                return message, file.read()
        return message, None

    def __del__(self) -> None:
        self._socket.detach()

    def close(self) -> None:
        """Close the end: from now on, WriteEnd.send() raises Gone."""
        if _native.mark(self._socket.fileno()) == self._mark:
            self._socket.close()
        else:
            self._socket.detach()


def make() -> "tuple[ReadEnd, WriteEnd]":
    """Return the two ends of a new channel. Raises OSError."""
    reading, writing = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    writing.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, _ROOM)
    return ReadEnd(reading), WriteEnd(writing)


def attached(fd: int) -> WriteEnd:
    """Return the end for writing whose descriptor this process has received."""
    return WriteEnd(_socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd))


def _file_of(content):
    """Return the descriptor of a file with that content; None if this system refuses it."""
    from .._start.data_files import open_unnamed

    try:
        fd = open_unnamed("goproc-record")
    except OSError:
        return None
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        return fd
    except OSError:  # a limit for the size of files
        posix.close(fd)
        return None
