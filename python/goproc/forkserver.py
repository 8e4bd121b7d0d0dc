"""The fork server: its client, and the server's own main loop. Mirrors multiprocessing/forkserver.py.

    this process                                   the server: a Python process with one thread and no Go
    ────────────                                   ────────────────────────────────────────────────────
                                                   main(): imports the preloaded modules, once
         engine        ◀── STANDBY pid + pidfd, socket ── _Server._fork_standby(): fork ──▶ child: _stand_by()
    connect_to_new_process()
      └▶ engine (Go): ──────────── descriptors, by that socket ────────────────────────────▶ spawn.main()
                      ──▶ TAKEN id, pid
         engine        ◀── EXITED id, status ────── _Server._report_exit(): the child's pidfd is readable

When none stands by, the engine asks the server with START id + descriptors, which forks and answers STARTED id, pid +
pidfd.

Each engine has a server of its own, and talks to it over a private socket pair (SOCK_SEQPACKET): there is no address
that another process could connect to. The server ends when the other end of its socket is closed, so it cannot outlive
the process that started it. A request is `<III` (type, id, pid); descriptors are sent as SCM_RIGHTS: first the process
object's memfd, then the resource tracker's pipe, then those that belong to the pickled objects. A reply is `<IIii`
(type, id, pid, status or errno).
"""

import array
import atexit
import contextlib
import errno
import gc
import os
import pickle
import select
import signal
import socket
import struct
import sys
from multiprocessing import process, resource_tracker, util

from . import _transport, context, engine, popen_fork, spawn

__all__ = ["connect_to_new_process", "ensure_running", "get_inherited_fds", "set_forkserver_preload"]

#: What one message can carry: SCM_MAX_FD.
MAXFDS_TO_SEND = 253

#: How many children the server forks ahead.
STANDBYS = 2

_SOCKET_PLACEHOLDER = "SOCKET"  # in the server's command line, where the engine puts its socket's number
_BETWEEN_STARTS = 0.002  # seconds: forking ahead waits until a program has started all that it starts in a row

_REPLY_SLICE_MS = 50  # how long one call into the engine may wait: signal handlers run in between


class ForkServer:
    """The client's side. Source: multiprocessing.forkserver.ForkServer."""

    def __init__(self):
        self._inherited_fds = None
        self._preload_modules = ["__main__"]

    @property
    def _forkserver_pid(self):
        """The server's pid, None if this process has none running."""
        return (engine.call("ForkserverPid") or None) if engine.is_loaded() else None

    def _stop(self):
        """Stop the server, if one runs, and wait for its end. The next process starts another."""
        if engine.is_loaded():
            engine.call("ForkserverStop")

    def set_forkserver_preload(self, modules_names):
        """Set the names of the modules that a server started from now on imports first; `__main__` is the program's.

        Raises TypeError unless all are str.
        """
        if not all(type(module) is str for module in modules_names):
            raise TypeError("module_names must be a list of strings")
        self._preload_modules = modules_names

    def get_inherited_fds(self):
        """Return the descriptors that this process was sent by its parent; None if no fork server started it."""
        return self._inherited_fds

    def ensure_running(self):
        """Start this process's server unless it runs. Raises OSError if that fails."""
        tracker_fd = resource_tracker.getfd()
        if engine.call("ForkserverPid"):
            return
        data_fd = self._dump_preload_data()
        blocked = None
        try:
            lifeline_fd = _transport.lifeline_fd()
            numbers = data_fd, tracker_fd, lifeline_fd
            command = spawn.get_command_line("goproc.forkserver:main", *numbers, flag="--multiprocessing-forkserver")
            # Until it ignores it, Ctrl-C would end the server.
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            engine.call(
                "ForkserverEnsure",
                engine.encode_texts([*command, _SOCKET_PLACEHOLDER]),
                engine.encode_environment(),
                engine.encode_numbers(numbers),
                _SOCKET_PLACEHOLDER,
            )
        finally:
            if blocked is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(data_fd)

    def connect_to_new_process(self, fds, data_fd):
        """Let the server fork a child that runs the process object in data_fd and inherits duplicates of fds.

        Returns the engine's id of the process, its pid and its sentinel. Raises ValueError for too many descriptors,
        OSError if the fork failed, EOFError if the server died before it answered.
        """
        if len(fds) + 2 > MAXFDS_TO_SEND:
            raise ValueError("too many fds")
        process_id = self._request([data_fd, resource_tracker.getfd(), *fds])
        try:
            sentinel = 0
            while not sentinel:
                sentinel = engine.call("ForkserverReply", process_id, _REPLY_SLICE_MS)
                if not sentinel:
                    _transport.held_signals.check()
        except BaseException as error:
            popen_fork._forget(process_id)
            if isinstance(error, ProcessLookupError):
                raise EOFError(f"the fork server ended before it had started the process: {error}") from None
            raise
        return process_id, engine.call("Pid", process_id), sentinel

    def _request(self, fds):
        request = engine.encode_numbers(fds)
        self.ensure_running()
        try:
            return engine.call("ForkserverRequest", request)
        except ProcessLookupError:
            # It died a moment ago and nothing was sent: another one takes its place.
            self.ensure_running()
            return engine.call("ForkserverRequest", request)

    def _dump_preload_data(self):
        data = {}
        if self._preload_modules:
            data = spawn.get_preparation_data("ForkServer")
            # These belong to the children, who are sent them themselves.
            for key in ("name", "authkey", "log_to_stderr", "log_level"):
                data.pop(key, None)
            if "__main__" not in self._preload_modules:
                data.pop("init_main_from_name", None)
                data.pop("init_main_from_path", None)
        fd = os.memfd_create("goproc-forkserver")
        try:
            with open(fd, "wb", closefd=False) as file:
                pickle.dump((data, [*self._preload_modules, *_parts_in_use()]), file)
            os.lseek(fd, 0, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
        return fd


def _parts_in_use():
    """The parts of multiprocessing and goproc that this program has imported: its children will need them, too."""
    return [
        name for name in sys.modules if name.startswith(("multiprocessing.", "goproc.")) and name != "goproc._engine"
    ]


_REQUEST = struct.Struct("<III")
_START, _PING, _STOP, _TAKEN = 1, 2, 3, 4
_REPLY = struct.Struct("<IIii")
_STARTED, _PONG, _EXITED, _FAILED, _STANDBY, _GONE = 1, 2, 3, 4, 5, 6


def main(data_fd, tracker_fd, lifeline_fd, socket_fd):
    """Run the fork server: its interpreter's main function. All four descriptors are inherited. Does not return."""
    # A Ctrl-C is for the programs in the foreground; the server ends when its client does.
    interrupt_handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    resource_tracker._resource_tracker._fd = tracker_fd
    with open(data_fd, "rb") as file:
        data, modules = pickle.load(file)
    if sys.version_info >= (3, 13):
        # From 3.13 on a child runs exit functions: those of what is imported from here on, as if it had imported that.
        atexit._clear()
        atexit.register(util._exit_function)
    _preload(data, modules)
    # Each child is sent this pipe. The tracker ends with its last writer, and the server would be one for ever.
    os.close(tracker_fd)
    resource_tracker._resource_tracker._fd = None
    util._close_stdin()
    util._flush_std_streams()

    set_by_preload = signal.signal(signal.SIGINT, signal.SIG_IGN)
    if set_by_preload not in (signal.SIG_IGN, None):
        interrupt_handler = set_by_preload
    # What is imported stays: the children need not look through it, which would copy its pages.
    gc.collect()
    gc.freeze()
    try:
        _Server(socket_fd, lifeline_fd, interrupt_handler).run()
    finally:
        # Not through the interpreter's exit: preloaded threads and exit functions are the program's business.
        util._run_finalizers()
        util._flush_std_streams()
        os._exit(0)


def _preload(data, modules):
    """Import what the children need, `__main__` first. What fails to import is left to them: they raise the error."""
    process.current_process()._inheriting = True
    try:
        try:
            spawn.prepare(data)
        except BaseException:
            pass
        for module in modules:
            if module != "__main__":
                try:
                    __import__(module)
                except BaseException:
                    pass
    finally:
        del process.current_process()._inheriting


class _Server:
    """The server's state: its socket, the children that it has forked and must reap, and those that stand by.

    What a child does before it is sent its descriptors does not depend on them. So some are forked ahead, and stand by.
    The client has a socket to each, sends one its descriptors by that, and tells the server which it took.
    """

    def __init__(self, socket_fd, lifeline_fd, interrupt_handler):
        self._socket = socket.socket(fileno=socket_fd)
        self._lifeline_fd = lifeline_fd
        self._interrupt_handler = interrupt_handler
        self._epoll = select.epoll()
        self._epoll.register(socket_fd, select.EPOLLIN)
        self._children = {}  # pidfd: (the engine's id, pid); the id is 0 of those that stand by
        self._standbys = {}  # pid: pidfd
        self._gone = {}  # pid: exit status, of the last ones that have ended while they stood by
        self._forking_ahead = True
        try:
            self._rehearsal = spawn.dump(context.ForkServerProcess(target=_nothing), self)
        except Exception:  # the working folder is gone, say: then there is none
            self._rehearsal = os.memfd_create("goproc-rehearsal")

    def run(self):
        """Serve until the client closes its end or asks to stop."""
        socket_fd = self._socket.fileno()
        with self._socket, self._epoll, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            calm = True
            while True:
                lacking = self._forking_ahead and len(self._standbys) < STANDBYS
                events = self._epoll.poll(None if not lacking else 0 if calm else _BETWEEN_STARTS)
                calm = not events
                for fd, _ in events:
                    if fd != socket_fd:
                        self._report_exit(fd)
                        calm = True
                    elif not self._serve_request():
                        return
                if not events:
                    self._fork_standby()

    def _serve_request(self):
        self._forking_ahead = True
        message, fds, flags = _receive(self._socket, _REQUEST.size)
        try:
            if len(message) != _REQUEST.size:
                return False
            request, process_id, pid = _REQUEST.unpack(message)
            if request == _START:
                self._start_child(process_id, fds, bool(flags & socket.MSG_CTRUNC))
            elif request == _TAKEN:
                self._note_taken(process_id, pid)
            elif request == _PING:
                self._socket.send(_REPLY.pack(_PONG, process_id, os.getpid(), 0))
            return request in (_START, _TAKEN, _PING)
        finally:
            for fd in fds:
                os.close(fd)

    def _start_child(self, process_id, fds, truncated):
        try:
            if truncated or len(fds) < 2:
                raise OSError(errno.EMFILE, "descriptors of the request were lost")
            pid, pidfd = self._fork(lambda: fds)
        except Exception as error:
            number = getattr(error, "errno", None) or errno.EAGAIN
            self._socket.send(_REPLY.pack(_FAILED, process_id, 0, number))
            return
        self._children[pidfd] = (process_id, pid)
        self._send(_STARTED, process_id, pid, pidfd)

    def _fork_standby(self):
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, theirs:
                pid, pidfd = self._fork(lambda: self._stand_by(ours, theirs))
                self._children[pidfd] = (0, pid)
                self._standbys[pid] = pidfd
                self._send(_STANDBY, 0, pid, pidfd, ours.fileno())
        except ConnectionError:
            raise  # the client has ended
        except OSError:
            self._forking_ahead = False  # a request is answered with what is the matter

    def _note_taken(self, process_id, pid):
        if (pidfd := self._standbys.pop(pid, None)) is not None:
            self._children[pidfd] = (process_id, pid)
        else:
            self._socket.send(_REPLY.pack(_EXITED, process_id, pid, self._gone.pop(pid, 255)))

    def _fork(self, descriptors):
        """Fork a child that runs what it finds in descriptors(); return its pid and pidfd. Raises OSError."""
        pid = pidfd = None
        try:
            pid = _transport.fork()
            if pid == 0:
                self._run_child(descriptors)
            pidfd = os.pidfd_open(pid)
            self._epoll.register(pidfd, select.EPOLLIN)
        except BaseException:
            if pid:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            if pidfd is not None:
                os.close(pidfd)
            raise
        return pid, pidfd

    def _report_exit(self, pidfd):
        process_id, pid = self._children.pop(pidfd)
        try:
            result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            assert result is not None  # without WNOHANG
            status = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        except ChildProcessError:
            status = 255  # a preloaded module has reaped it
        self._epoll.unregister(pidfd)
        os.close(pidfd)
        if self._standbys.pop(pid, None) is None:
            self._socket.send(_REPLY.pack(_EXITED, process_id, pid, status))
            return
        # The client may have taken it: then it will say so, or has. If something keeps children from standing by, more
        # would be forked in vain.
        self._forking_ahead = False
        self._gone[pid] = status
        while len(self._gone) > 64:
            del self._gone[next(iter(self._gone))]
        self._socket.send(_REPLY.pack(_GONE, 0, pid, 0))

    def _send(self, kind, process_id, pid, *fds):
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        self._socket.sendmsg([_REPLY.pack(kind, process_id, pid, 0)], [rights])

    def _stand_by(self, theirs, own):
        """Return the descriptors that a child is sent. It ends when there is nobody any more who could send them."""
        with own:
            theirs.close()
            self._rehearse()
            _, fds, flags = _receive(own, 1)
        if flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, "descriptors of the process were lost")
        if not fds:
            os._exit(0)
        return fds

    def _rehearse(self):
        """Do once what a child does with what it is sent, as far as that leaves no trace.

        What it writes to is copied then: reference counts are everywhere, so those are some hundred pages.
        """
        with contextlib.suppress(Exception), open(f"/proc/self/fd/{self._rehearsal}", "rb") as file:
            data = pickle.load(file)
            del data["dir"], data["log_to_stderr"]  # the folder may be gone by now; one handler more would be a trace
            spawn.prepare(data)
            pickle.load(file).run()
        util._flush_std_streams()

    def _run_child(self, descriptors):
        code = 1
        try:
            self._socket.close()
            self._epoll.close()
            for pidfd in self._children:
                os.close(pidfd)
            fds = descriptors()
            os.close(self._rehearsal)
            data_fd, resource_tracker._resource_tracker._fd, *_forkserver._inherited_fds = fds
            code = spawn.main(data_fd, self._lifeline_fd, self._interrupt_handler)
        except Exception:
            sys.excepthook(*sys.exc_info())
            util._flush_std_streams()
        finally:
            popen_fork.leave(code)


def _nothing():
    """Do nothing."""


def _receive(connection, size):
    """Return a message of so many bytes, or another one, the descriptors that came with it, and recvmsg's flags."""
    room = socket.CMSG_SPACE(MAXFDS_TO_SEND * array.array("i").itemsize)
    message, ancillary, flags, _ = connection.recvmsg(size + 1, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return message, fds.tolist(), flags


_forkserver = ForkServer()
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
connect_to_new_process = _forkserver.connect_to_new_process
set_forkserver_preload = _forkserver.set_forkserver_preload
