"""What the main program and a machine send each other: packed by pickle, with large payloads out of band.

Dask sends a Packed with its buffers as separate frames, so that large payloads are not copied into a stream. The
payloads of tasks and results are bytes here: neither side of the connection unpickles them.
"""

import pickle
from pickle import PickleBuffer
from typing import Any, NamedTuple

__all__ = ["LARGE", "Order", "Packed", "Reply", "as_buffer", "pack"]

#: Payloads from this size on, in bytes, travel as buffers of their own.
LARGE = 32 << 10


class Order(NamedTuple):
    """A message from the main program to a machine.

    order: the number of the changes below, from 1; 0 if there are none. poll: the number of the poll, from 1; 0 for a
    message that is answered at once. tasks: tuples (position, job, index, count, stream, buffers, limits, retries).
    grant: the tasks below this position may begin. drops: positions of tasks that are not to begin here. calls: tuples
    (name, *arguments): "cancel", "taken", "recall", "close", "terminate", "mark". contents: the bytes of shared
    objects, by id. passed_on: how many bytes of log records have been passed on, in all.
    """

    order: int
    poll: int
    tasks: "list[tuple[Any, ...]]" = []
    grant: int = 0
    drops: "list[int]" = []
    calls: "list[tuple[Any, ...]]" = []
    contents: "dict[bytes, Any]" = {}
    passed_on: int = 0


class Reply(NamedTuple):
    """The answer of a machine.

    frames: tuples (job, index, kind, payload), as port.collect() returns them. fed: the tasks below this position have
    been given to workers. recalled: (job, index) of tasks that have not begun here, and will not. broken: the pickled
    exception that keeps the workers from beginning; None if they can begin. ended: whether the machine's pool has
    ended. pids: of the machine's workers. records: log records of the workers, as tuples (message, content) of
    _relay/channel.py. logged: how many bytes of records have been sent, with these.
    """

    frames: "list[tuple[Any, ...]]" = []
    fed: int = 0
    recalled: "list[tuple[int, int]]" = []
    broken: "bytes | None" = None
    ended: bool = False
    pids: "tuple[int, ...]" = ()
    records: "list[tuple[Any, Any]]" = []
    logged: int = 0


class Packed:
    """A pickled message: the stream, and the buffers that pickling left out of it."""

    __slots__ = ("_stream", "_buffers")

    def __init__(self, stream, *buffers):
        self._stream, self._buffers = stream, buffers

    def load(self) -> Any:
        """Return the message."""
        return pickle.loads(self._stream, buffers=self._buffers)

    @property
    def nbytes(self) -> int:
        """How many bytes it has."""
        return sum(memoryview(part).nbytes for part in (self._stream, *self._buffers))

    def __reduce_ex__(self, protocol):
        if protocol < 5:  # Dask's, as long as the two ends of a connection have not told each other theirs
            return Packed, tuple(map(bytes, (self._stream, *self._buffers)))
        return Packed, (PickleBuffer(self._stream), *self._buffers)


def pack(message: "tuple[Any, ...]") -> Packed:
    """Return a message as a Packed."""
    buffers: list[PickleBuffer] = []
    stream = pickle.dumps(message, 5, buffer_callback=buffers.append)
    return Packed(stream, *buffers)


def as_buffer(piece: Any) -> Any:
    """Return bytes or a buffer in the form in which it is packed: a PickleBuffer if it is large, else bytes."""
    if type(piece) is bytes and len(piece) < LARGE:
        return piece
    view = memoryview(piece)
    if view.nbytes < LARGE:
        return bytes(view)
    if type(piece) is memoryview:  # CPython up to 3.12.1 crashes when it collects a cycle with a PickleBuffer of one
        is_whole = piece.nbytes == memoryview(piece.obj).nbytes
        piece = piece.obj if is_whole else bytes(piece) if piece.readonly else bytearray(piece)
    return PickleBuffer(piece)
