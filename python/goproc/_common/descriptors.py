"""Keeps descriptors away from the numbers of standard streams. Used where goproc opens files that it keeps or sends."""

import posix

__all__ = ["above_streams"]


def above_streams(fd: int) -> int:
    """Return fd, or if it has the number of a standard stream, which was closed, a duplicate in its place.

    Otherwise this process might print into the memory of a pool. And an interpreter that inherits a descriptor under
    such a number takes it for its standard stream. Raises OSError.
    """
    if fd > 2:
        return fd
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        posix.close(fd)
