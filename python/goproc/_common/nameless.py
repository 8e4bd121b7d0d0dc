"""Memory without a name (memfd) that other processes of this user can open: making it, opening it, writing its header.

Used by sharing.py, and by _pool/repeats.py. The kernel frees it when nobody has it open or mapped any more.
"""

import os
import posix
import sys
from fcntl import LOCK_EX, flock

from .. import _native
from . import disabled, log

__all__ = ["ALIGNMENT", "TOKEN_AT", "create", "open_place", "write"]

#: Each piece begins at a multiple of this. A shared object has its token at TOKEN_AT.
ALIGNMENT, TOKEN_AT = 64, 8
_NAME = "goproc-share"
_warned = False


def create(pieces, part):
    """Return (descriptor, size) of a new memfd with the pieces, each aligned; None if it cannot be made.

    part: the part of GOPROC_DISABLE that this belongs to.
    """
    global _warned
    if part in disabled:
        return None
    fd = -1
    try:
        if posix.stat("/proc/self").st_uid != posix.geteuid():
            raise PermissionError("other processes may not open the descriptors of this one (PR_SET_DUMPABLE)")
        with _native.held_signals:  # a signal handler must not raise before fd is known
            fd = posix.memfd_create(_NAME, os.MFD_CLOEXEC)
        at = 0
        for piece in pieces:
            at += -at % ALIGNMENT
            view = memoryview(piece)
            done = 0
            while done < len(view):
                done += posix.pwrite(fd, view[done : done + (1 << 30)], at + done)
            at += done
        posix.ftruncate(fd, at)
        posix.close(posix.open(f"/proc/{posix.getpid()}/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC))
        return fd, at
    except BaseException as error:
        if fd >= 0:
            posix.close(fd)
        if not isinstance(error, OSError):
            raise  # of a signal handler, in most cases
        if not _warned:
            _warned = True
            log.warn(f"objects cannot be shared here ({error}): they are pickled for each use")
        return None


def open_place(token, pid, fd):
    """Open descriptor fd of process pid, a memfd of create(); return the new descriptor.

    token: what must be at TOKEN_AT, or None. Raises FileNotFoundError if the memory is gone, PermissionError.
    """
    path = f"/proc/{pid}/fd/{fd}"
    try:
        try:
            if not posix.readlink(path).startswith(f"/memfd:{_NAME}"):
                raise FileNotFoundError
            opened = posix.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            posix.kill(pid, 0)  # PermissionError: another user's process, which /proc hides (its option hidepid)
            raise
    except PermissionError as error:
        raise PermissionError(
            f"process {os.getpid()} may not open the shared object of process {pid}: both must have the same user, and "
            "the same user namespace"
        ) from error
    except OSError:
        raise _gone(pid) from None
    try:
        if token is not None and posix.pread(opened, 16, TOKEN_AT) != token:
            raise _gone(pid)
    except BaseException:
        posix.close(opened)
        raise
    return opened


def _gone(pid):
    return FileNotFoundError(
        f"the shared object is gone: process {pid}, which sent its handle, has closed the handle, or has ended. Keep "
        "what goproc.share() returned until all receivers have begun"
    )


def write(fd, at, value=None):
    """Put a number into the header of a memfd; None: add one to the number there."""
    try:
        writable = posix.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if value is None:
            flock(writable, LOCK_EX)  # several processes may receive at the same time
            value = int.from_bytes(posix.pread(writable, 8, at), sys.byteorder) + 1
        posix.pwrite(writable, value.to_bytes(8, sys.byteorder), at)
    finally:
        posix.close(writable)
