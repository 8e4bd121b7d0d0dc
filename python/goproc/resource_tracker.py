"""multiprocessing.resource_tracker, under goproc's name: named resources, and the process that removes them.

It is the standard library's module, because it holds state that belongs to the process; only the class of the one
tracker object is replaced. multiprocessing starts the tracker with the first spawned process. Here that process only
gets the tracker's pipe, and the process that registers the first resource starts the tracker.
docs/design/named-memory.md has the reasons.
"""

import fcntl
import multiprocessing.resource_tracker as _standard
import os
import posix
import select
import signal
import sys
import threading
from multiprocessing import util

from . import _native
from ._common import disabled, stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.resource_tracker import *  # noqa: F403
    from multiprocessing.resource_tracker import ResourceTracker as ResourceTracker
    from multiprocessing.resource_tracker import getfd as getfd
    from multiprocessing.resource_tracker import main as main
    from typing import Any


#: Its types are not complete in typeshed.
_Standard: "Any" = _standard.ResourceTracker


class _Untracked(threading.local):
    """A context manager: inside it, this thread's calls do not reach the tracker if they are about shared memory."""

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *exception: object) -> None:
        self.depth -= 1


class _ResourceTracker(_Standard):
    """This process's end of the tracker's pipe. Source: multiprocessing.resource_tracker.ResourceTracker.

    All processes of a program have the same pipe. The tracker's end of it has a lock of the kernel's (flock): so only
    one process starts the tracker.
    """

    _fd: "Any"  # an int, or None
    _pid: "Any"  # the same

    #: Whether the tracker of the pipe may not have been started yet. stdlib.inherit_tracker() sets it, too.
    _is_late = False

    #: See _Untracked.
    untracked = _Untracked()

    #: The pipe as pipe() has last seen it: its descriptor and mark, and the tracker's pid, which is None if an ancestor
    #: has started it.
    _seen: "tuple[int, int, int | None] | None" = None

    #: Held while pipe() looks at the pipe, or makes it: threads may start processes at the same time.
    _making = threading.RLock()

    def pipe(self) -> int:
        """Return the descriptor of the pipe, for a child to inherit. The tracker need not run yet.

        A program may close descriptors that it has not opened. If it has closed the pipe, the standard library fails,
        or writes to another file that has got the same number. So the pipe is checked first, and if it has been closed,
        another one is made.
        """
        with self._making:
            if self._fd is not None:
                now = self._fd, _native.mark(self._fd), self._pid
                # Another mark with the same pid: the descriptor is now another file. With another pid, multiprocessing
                # has started another tracker since, whose pipe happens to have the same number.
                if not now[1] or (self._seen is not None and now != self._seen and now[::2] == self._seen[::2]):
                    self._fd = self._pid = None  # the old tracker ends when no process has its pipe any more
            if self._fd is None and "late-tracker" not in disabled and not getattr(sys, "frozen", False):
                self._make_pipe()
            fd = self._fd if self._is_late and self._fd is not None else self.getfd()
            self._seen = fd, _native.mark(fd), self._pid
            return fd

    def _make_pipe(self):
        with _native.held_signals:  # a handler may start a process, too
            reader, writer = posix.pipe()
            posix.close(reader)
            self._is_late, self._fd = True, _native.above_streams(writer)

    def ensure_running(self) -> None:
        """Start the tracker unless it runs."""
        self._start_late()
        super().ensure_running()

    # The standard library's ensure_running(), to which programs may hold references, calls one of these two, depending
    # on the version of Python.
    def _check_alive(self):
        self._start_late_locked()
        return super()._check_alive()  # if the tracker could not be started: False

    def _ensure_running_and_write(self, msg=None):
        self._start_late()
        super()._ensure_running_and_write(msg)

    def _send(self, cmd, name, rtype):
        if rtype == "shared_memory":
            if self.untracked.depth:
                return
            if cmd == "UNREGISTER":
                # Another process of the program may have registered the name, or nobody. The tracker would complain
                # of a name that it does not know; it keeps a set of names, so registering one again does nothing.
                if self._fd is None or (self._is_late and not self._is_read()):
                    return
                super()._send("REGISTER", name, rtype)
        self._start_late()
        super()._send(cmd, name, rtype)

    def _stop(self, *args, close=posix.close, **options):
        if self._fd is not None and self._pid is None and self._is_late:
            close(self._fd)
            self._fd = None
            return
        super()._stop(*args, **options)

    def _is_read(self):
        """Whether any process has the other end of the pipe."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return not any(events & select.POLLERR for _, events in poll.poll(0))

    def _start_late(self):
        if self._is_late:
            with self._lock:
                if not self._start_late_locked():
                    posix.close(self._fd)
                    self._fd = None

    def _start_late_locked(self):
        """Start the tracker if the pipe has no reader. Return False if this process cannot read the pipe."""
        if not self._is_late or self._fd is None:
            return True
        self._is_late = False
        if self._is_read():
            return True
        try:
            reader = _native.above_streams(posix.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            # There is no /proc, or the pipe belongs to another user.
            util.info("this process has a resource tracker of its own: its parent's pipe cannot be read: %s", error)
            return False
        try:
            # The tracker inherits the lock with the descriptor. If this process is killed before, it is free again.
            fcntl.flock(reader, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._pid = _launch(reader)
        except BlockingIOError:
            pass  # another process starts the tracker
        finally:
            posix.close(reader)
        return True


def _launch(reader):
    """Start the tracker, which reads from the descriptor; return its pid."""
    code = f"from multiprocessing.resource_tracker import main;main({reader})"
    command = [stdlib.standard_module("spawn").get_executable(), *stdlib.interpreter_flags(), "-c", code]
    fds = [reader]
    try:
        fds.append(sys.stderr.fileno())
    except Exception:  # there is none, or the program has put another object in its place
        pass
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])  # the tracker ignores them
    try:
        return util.spawnv_passfds(os.fsencode(command[0]), command, fds)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


posix.register_at_fork(after_in_child=_ResourceTracker._making._at_fork_reinit)  # type: ignore[attr-defined]
_ResourceTracker.__module__ = _standard.__name__
stdlib.tracker().__class__ = _ResourceTracker
_standard.ensure_running = stdlib.tracker().ensure_running
sys.modules[__name__] = _standard
