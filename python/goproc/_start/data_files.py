"""Files without a name, and pipes, from which new processes read what they are sent. Used by spawn.py and others."""

import os
import posix
from io import BufferedWriter, BytesIO, FileIO

from .. import _native
from .._common.engine import REFUSALS

__all__ = ["open_unnamed", "put", "writer"]


def put(name: str, buffer: BytesIO) -> int:
    """Return a descriptor from which the contents of buffer can be read: a memfd with that name, or a pipe's."""
    if len(buffer.getbuffer()) > _native.file_size_limit():
        return _fed_pipe(buffer)
    fd = open_unnamed(name)
    try:
        with writer(fd) as file:
            file.write(buffer.getbuffer())
        posix.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        posix.close(fd)
        raise
    return fd


def writer(fd: int) -> BufferedWriter:
    """Return a file object that writes to a descriptor, and leaves it open."""
    return BufferedWriter(FileIO(fd, "wb", closefd=False))


def open_unnamed(name: str) -> int:
    """Return the descriptor of a new, empty, unnamed file: a memfd, or if the kernel refuses that, a temporary file.

    name: shown in /proc/<pid>/fd. Raises OSError if neither can be made.
    """
    try:
        return _native.above_streams(posix.memfd_create(name))
    except OSError as reason:
        if reason.errno not in REFUSALS:
            raise
        refusal = reason
    import tempfile

    for folder in ("/dev/shm", None):
        try:
            with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
                return _native.above_streams(posix.dup(file.fileno()))
        except OSError:
            pass
    raise OSError(
        refusal.errno,
        f"memfd_create: {refusal.strerror}, and no temporary file can be made in any folder either: goproc needs one "
        "of the two to send a new process its data",
    )


def _fed_pipe(buffer):
    """Return the read end of a pipe into which a thread writes buffer, which is too large for a file (RLIMIT_FSIZE)."""
    from .._common.threads import OwnThread

    def feed():
        try:
            with FileIO(write_fd, "wb") as pipe, buffer.getbuffer() as left:
                while left:
                    left = left[pipe.write(left) :]
        except BrokenPipeError:
            pass  # the child has ended

    read_fd, write_fd = map(_native.above_streams, posix.pipe())
    try:
        OwnThread("goproc-feed", feed).start()
    except BaseException:
        posix.close(read_fd)
        posix.close(write_fd)
        raise
    return read_fd
