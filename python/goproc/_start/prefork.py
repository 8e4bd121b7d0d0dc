"""The main loop of a server that forks, and how a forked process receives its order.

    the engine ──FORK──▶ Server.serve() ──fork──▶ a process, which stands by
    the engine ◀──STANDBY pid + pidfd, socket──────────┤
    the engine ──order + descriptors──────────────────▶ serve() returns them in the process

core/prefork is the client, and describes the messages. The first steps of a process do not depend on its order. So some
processes are forked ahead, and rehearse. docs/design/prefork.md says why. Used by forkserver.py and spawn_server.py.

This module imports little: a child of the spawn server must find only the modules that it would have imported itself.
"""

import array
import errno
import os
import posix
import signal
import struct
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    SCM_RIGHTS,
    SOCK_SEQPACKET,
    SOL_SOCKET,
    socketpair,
)
from _socket import socket as Socket
from os import waitpid  # before a preloaded module can replace it, as gevent's monkey-patching does

try:
    from select import EPOLLIN, epoll  # likewise
except ImportError:  # in a client that has been monkey-patched before; the client does not use it
    epoll = None  # type: ignore[assignment, misc]

from .. import _native
from .._common import cooperative, disabled

__all__ = ["STANDBYS", "Server"]

#: How many processes stand by.
STANDBYS = 0 if "standby" in disabled else 2

#: Seconds without a request after which a process that was taken is replaced. A client that starts several processes
#: need not wait for the server's forks, which make the server's pages copy-on-write.
_BETWEEN_STARTS = 0.002

#: The rehearsal needs many imports. So it is made after that many seconds without a request, or after more than that
#: many requests. A client that starts one process, or a small pool, need not wait for it.
_BEFORE_REHEARSAL, _FEW_REQUESTS = 0.05, 2

#: Seconds between polls of children whose tether is closed, but which have not ended (_report_exit).
_BETWEEN_LOOKS = 0.05

_REQUEST = struct.Struct("<Iii")
_FORK, _TAKEN, _PING, _STOP = 1, 2, 3, 4
_REPLY = struct.Struct("<Iii")
_STANDBY, _FAILED, _EXITED, _PONG, _FORKED = 1, 2, 3, 4, 5

_INT = array.array("i").itemsize
_MAX_PASSED = 253  # SCM_MAX_FD
_MAX_ORDER = 4 * (_MAX_PASSED + 3)


class Server:
    """A server's state: its socket, and the processes that it has forked.

    socket_fd: its end of the socket. siblings: whether the processes are siblings, that is, children of the server's
    parent; else they are the server's children, and it waits for them. make_rehearsal: called once, when no request is
    pending; returns an object that a process calls, and then close()s, before it stands by. unable: an errno with which
    every request is refused; 0 for none. tell: a function that logs; it takes a text and its % arguments.
    """

    def __init__(self, socket_fd, siblings, make_rehearsal, unable=0, tell=None):
        self._socket = Socket(fileno=socket_fd)
        self._siblings = siblings
        self._make_rehearsal = make_rehearsal
        self._rehearsal = None
        self._unable = unable
        self._tell = tell or (lambda *_: None)
        self._client = os.getppid()
        self._epoll = epoll()
        self._epoll.register(socket_fd, EPOLLIN)
        self._children = {}  # pidfd: pid, of the server's own children. Without pidfds: the tether's read end: pid
        self._untold: set[int] = set()  # the tethers that are closed, but whose children cannot be reaped yet
        self._ahead = 0  # how many processes have been forked ahead and not taken yet
        self._forking_ahead = False
        self._requests = 0

    def serve(self):
        """Serve until the client is gone or asks to stop; then return None.

        In a forked process, return its order: a list of ints, and the list of descriptors that it was sent.
        """
        socket_fd = self._socket.fileno()
        calm = True
        self._tell("the server is ready")
        try:
            while True:
                lacking = self._forking_ahead and self._ahead < STANDBYS and not self._unable
                pause = self._pause(calm) if lacking else _BETWEEN_LOOKS if self._untold else None
                events = self._epoll.poll(pause)
                for fd in tuple(self._untold):
                    self._report_exit(fd)
                calm = not events
                sent = None
                for fd, _ in events:
                    if fd != socket_fd:
                        self._report_exit(fd)
                        calm = True
                        continue
                    request, value = self._receive_request()
                    if request == _FORK and self._unable:
                        self._send(_FAILED, 0, self._unable)
                    elif request == _FORK:
                        sent = self._fork(False)
                    elif request == _TAKEN:
                        self._ahead -= value
                    elif request == _PING:
                        self._send(_PONG, 0, value)
                    else:
                        return None
                    if sent is not None:
                        return sent
                if not events and lacking:
                    if self._rehearsal is None:
                        self._rehearsal = self._make_rehearsal()
                    if (sent := self._fork(True)) is not None:
                        return sent
        except (BrokenPipeError, ConnectionResetError):
            return None
        finally:
            self._leave()

    def _pause(self, calm):
        if self._rehearsal is None and self._requests <= _FEW_REQUESTS:
            return _BEFORE_REHEARSAL
        return 0 if calm else _BETWEEN_STARTS

    def _receive_request(self):
        self._forking_ahead = True
        self._requests += 1
        message = posix.read(self._socket.fileno(), _REQUEST.size + 1)  # as sandboxes may refuse recvfrom
        return _REQUEST.unpack(message)[:2] if len(message) == _REQUEST.size else (_STOP, 0)

    def _fork(self, ahead):
        """Fork a process, and tell the client. ahead: whether the process is forked ahead of a request.

        Returns None in the server. In the process, waits for the order, and returns it.
        """
        pid = pidfd = None
        pair: tuple = ()
        tether: tuple = ()
        try:
            pair = ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
            if not _native.have_pidfds():
                tether = posix.pipe()
            if self._siblings:
                pid = _native.fork_sibling()
            else:
                pid = _native.fork()
                if pid:
                    pidfd = tether[0] if tether else os.pidfd_open(pid)
                    self._epoll.register(pidfd, EPOLLIN)
        except Exception as error:
            if pid:
                os.kill(pid, signal.SIGKILL)
                waitpid(pid, 0)
            for fd in tether or ((pidfd,) if pidfd is not None else ()):
                posix.close(fd)
            for end in pair:
                end.close()
            if ahead:
                self._forking_ahead = False  # the next request is told the error
            else:
                self._send(_FAILED, 0, getattr(error, "errno", None) or errno.EAGAIN)
            return None
        if pid == 0:
            if tether:
                _native.keep_tether(tether[1])
            if self._siblings:
                # The process announces itself. If the server is killed now, the parent still learns of this child, and
                # can wait for it. The server sends FORKED, in case this process is killed now.
                try:
                    self._announce(os.getpid(), tether[0] if tether else os.pidfd_open(os.getpid()), ours)
                except BaseException:
                    theirs.close()
                    raise
            else:
                if tether:
                    posix.close(tether[0])
                cooperative.after_fork()
            ours.close()
            self._leave()
            return self._stand_by(theirs, ahead)
        theirs.close()
        if tether:
            posix.close(tether[1])
            if self._siblings:
                posix.close(tether[0])
        self._ahead += ahead
        self._tell("process %d was forked%s", pid, ", to stand by" if ahead else "")
        if self._siblings:
            ours.close()
            self._send(_FORKED, pid, ahead)
        else:
            self._children[pidfd] = pid
            self._announce(pid, pidfd, ours)  # closes ours
        return None

    def _announce(self, pid, pidfd, connection):
        try:
            self._send(_STANDBY, pid, 0, pidfd, connection.fileno())
        finally:
            connection.close()
            if self._siblings:
                posix.close(pidfd)

    def _send(self, kind, pid, value, *fds):
        rights = [(SOL_SOCKET, SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._socket.sendmsg([_REPLY.pack(kind, pid, value)], rights)

    def _report_exit(self, pidfd):
        pid = self._children[pidfd]
        try:
            reaped, status = waitpid(pid, os.WNOHANG)
            if not reaped:  # a tether is closed a moment before its process can be reaped; or the process has closed it
                if pidfd not in self._untold:
                    self._untold.add(pidfd)
                    self._epoll.unregister(pidfd)
                return
            status = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            status = 255  # a preloaded module has reaped the process
        self._tell("process %d has ended with exit code %d", pid, status)
        del self._children[pidfd]
        if pidfd in self._untold:
            self._untold.remove(pidfd)
        else:
            self._epoll.unregister(pidfd)
        posix.close(pidfd)
        self._send(_EXITED, pid, status)

    def _leave(self):
        """Close the server's descriptors: in a forked process, and at the end of the server."""
        self._socket.close()
        self._epoll.close()
        while self._children:
            posix.close(self._children.popitem()[0])

    def _stand_by(self, own, ahead):
        """Rehearse if forked ahead, and wait for the order on the socket own; return it. Exit if the client is gone."""
        _native.take_title(f"goproc: standby of {self._client}")
        if (rehearsal := self._rehearsal) is not None:
            if ahead:
                rehearsal()
            rehearsal.close()
        message, ancillary, flags, _ = own.recvmsg(_MAX_ORDER, CMSG_SPACE(_MAX_PASSED * _INT), MSG_CMSG_CLOEXEC)
        own.close()
        fds = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                fds.frombytes(content[: len(content) - len(content) % _INT])
        if not message:
            os._exit(0)  # the client is gone
        _native.give_title_back()
        if flags & MSG_CTRUNC:
            raise OSError(errno.EMFILE, "descriptors of the process were lost")
        return [word for (word,) in struct.iter_unpack("<i", message)], fds.tolist()
