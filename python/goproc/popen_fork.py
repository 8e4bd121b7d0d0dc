"""Starts a process by fork, and watches processes of all start methods. Mirrors multiprocessing/popen_fork.py.

    Popen._launch:  _native.start() (C): fork() ─┬─ parent ──▶ the sentinel is the child's pidfd, in a seat that the
                                                 │             engine's reaper watches, when there is an engine
                                                 └─ child ───▶ process_obj._bootstrap()

    When no seat is left:  ForkPrepare (Go) ──▶ _native.fork() (C) ──▶ ForkCommit (Go)
    When the program has replaced os.fork:  os.fork() ──▶ _native.take_on(), in the parent

Called by context.py. The spawn and forkserver variants derive from this class, as in the standard library.
"""

import os
import posix
import signal
import sys
import time
from multiprocessing import util

from . import _native
from ._common import calls, cooperative, engine, start_methods, starters, stdlib
from ._common.detached import loaded
from ._native import collect_again
from .errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess
    from typing import Any, NoReturn

__all__ = ["Popen", "collect_again", "leave", "run_child"]

#: Whether a child runs the exit functions that it has registered, as with multiprocessing from Python 3.13 on.
_RUNS_EXIT_FUNCTIONS = sys.version_info >= (3, 13)


# Default arguments hold what is needed, here and in Popen.__del__: at the end of the program, the globals of all
# modules are cleared. Then there may be no engine's function to call, which is a TypeError.
def _forget(
    process_id,
    forget=_native.forget,
    is_loaded=engine.is_loaded,
    forget_entry=calls.forget,
    refused=(EngineError, TypeError),
):
    if (process_id < 0 and forget(process_id)) or not is_loaded():
        return
    try:
        forget_entry(process_id)
    except refused:
        pass


class _Child(list):
    """A record of a forked child. _native.start() fills it in before a signal handler can run, so no child is lost.

    id: the id of its seat. pid: its process id. Both are 0 in the child itself. descriptor: in the parent, the child's
    sentinel; in the child, its end of the lifeline. All three are None until the fork.
    """

    def __init__(self) -> None:
        super().__init__((None, None, None))

    @property
    def id(self) -> "int | None":
        return self[0]

    @property
    def pid(self) -> "int | None":
        return self[1]

    @property
    def descriptor(self) -> "int | None":
        return self[2]


class Popen:
    """A child process.

    pid: its process id. sentinel: a pidfd, which is readable once the process has ended. returncode: None until poll()
    or wait() has seen the end; then the exit status, or minus the number of the signal that ended it.
    A derived class may start the process in a _launch() of its own, which sets pid and sentinel. Then the process is
    watched as by multiprocessing. Source: multiprocessing.popen_fork.Popen.

    A signal handler may raise at any step of start(). So _launch() puts this object into the Process object as soon as
    it knows the child. If a handler raises before that, there is no child, or _launch() ends it.
    """

    pid: int
    sentinel: int
    returncode: "int | None"
    method: str = "fork"
    _id = 0  # negative: the id of a seat; positive: the id of an entry of the engine; 0: neither
    _mark: "int | None" = None  # the mark of the sentinel; None if a derived class has started the process
    _registered = False  # whether gevent's event loop watches the process

    def __init__(self, process_obj: "BaseProcess") -> None:
        stdlib.flush_streams()
        self.returncode = None
        self._owner = os.getpid()
        counters = loaded("goproc._common.counters")
        if counters is not None and counters.is_counting() and _is_executors(process_obj):
            counters.count_executors()
        self._launch(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Return fd: a forked child has all descriptors of its parent, under the same numbers."""
        return fd

    def poll(self, flag: int = os.WNOHANG) -> "int | None":
        """Return the return code, or None while the process runs. With flag 0, wait for its end first.

        Returns None in any process but its parent, as with multiprocessing.
        """
        if self.returncode is None and self._owner == os.getpid():
            if self._mark is None:
                return self._account(_standard().poll(self, flag))
            if flag != os.WNOHANG:
                return self.wait()
            code = self._ended_with()
            if code is not None and self._registered:
                self._registered = False
                code = cooperative.exit_code(self.pid, code)
            self.returncode = code
        return self.returncode

    def wait(self, timeout: "float | None" = None) -> "int | None":
        """Wait for the end of the process, for at most timeout seconds; None for no limit.

        Returns the return code, or None if the process still runs.
        """
        if self.returncode is not None or self._owner != os.getpid():
            return self.returncode
        if self._mark is None:
            return _standard().wait(self, timeout)
        deadline = None if timeout is None else _native.monotonic() + timeout
        patched = cooperative.is_patched()
        if self._id < 0 and not patched:
            code = _native.join(self._id, timeout)
            if code is not NotImplemented:
                if code is not None:
                    self.returncode = self._account(code)
                    return code
            # Now the time is over, or a tracer has still to take the status; or the engine has adopted the process, or
            # another thread has joined it and released the seat.
            if self.returncode is not None:
                return self.returncode
            if deadline is not None:
                timeout = max(0, deadline - _native.monotonic())
                if code is None and timeout == 0:
                    return None
        if self._has_sentinel():
            if not (
                cooperative.wait_readable(self.sentinel, timeout)
                if patched
                else _native.wait_readable(self.sentinel, timeout, self.pid, self._mark)
            ):
                return None
        # The sentinel may be readable before the status is known: a fork server has to send it, a tracer to take it.
        pause = 0.00005
        while Popen.poll(self) is None:
            if deadline is not None and _native.monotonic() >= deadline:
                return None
            time.sleep(pause)
            pause = min(pause * 1.5, 0.01)
        return self.returncode

    def _has_sentinel(self):
        """Whether the sentinel is still open: the program may have closed it, and opened a file with its number."""
        return self._mark is not None and _native.mark(self.sentinel) == self._mark

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send_or_wait(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send_or_wait(signal.SIGKILL)

    def interrupt(self) -> None:
        """Send SIGINT."""
        self._send_or_wait(signal.SIGINT)

    def close(self) -> None:
        """Release the sentinel, and the seat or the engine's entry. The process must have ended."""
        if self._id and self._owner == os.getpid():
            _forget(self._id)
            self._id = 0
        if "finalizer" in self.__dict__:
            self.finalizer()

    def finalizer(self) -> None:
        """Do what close() does, if the process has ended. A derived class may have set a util.Finalize in its place."""
        if self.poll() is not None:
            self.close()

    # Not multiprocessing.util.Finalize: making one writes to pages, which are copy-on-write just after a fork.
    def __del__(self, forget: "Callable[[int], None]" = _forget, getpid: "Callable[[], int]" = os.getpid) -> None:
        if self._id and self._owner == getpid():
            forget(self._id)

    def _send_or_wait(self, sig):
        """Send a signal. Raises PermissionError only if the process goes on running, as with multiprocessing."""
        try:
            self._send_signal(sig)
        except ProcessLookupError:  # it has ended, and its parent, which is not this process, has reaped it
            pass
        except PermissionError:  # this process has changed its user id
            if self.wait(timeout=0.1) is None:
                raise

    def _send_signal(self, sig):
        if self.returncode is not None:
            return
        if self._owner != os.getpid():
            os.kill(self.pid, sig)
            return
        if self._mark is None:
            _standard()._send_signal(self, sig)
            return
        if self._id < 0 and _native.send_signal(self._id, sig):
            return
        try:
            calls.signal(self._id, sig)
        except EngineError:
            self._signal_without_engine(sig)

    def _signal_without_engine(self, sig):
        try:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                os.kill(self.pid, sig)
        except ChildProcessError:  # the process has been reaped, or is a child of the fork server
            if self.method == "forkserver" and not _native.wait_readable(self.sentinel, 0):
                os.kill(self.pid, sig)
        except OSError:  # a sandbox refuses waitid
            os.kill(self.pid, sig)

    def _ended_with(self):
        if self._id < 0:
            code = _native.exit_code(self._id)
            if code is not NotImplemented:
                return self._account(code)
        try:
            return self._account(calls.exit_code(self._id))
        except EngineError:
            return self._account(self._ended_without_engine())

    def _account(self, code):
        """Return code. If the process has ended by itself, the locks that it holds stay held, as in multiprocessing."""
        if code is not None:
            if code >= 0:
                _native.leave_locks(self.pid)
            else:
                _native.mend_queues()
        return code

    def _ended_without_engine(self):
        """Reap the process here, and return its exit code or None: a poisoned engine reaps no processes."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            # The process was reaped before the engine was poisoned, or it is a child of the fork server.
            return 255 if _native.wait_readable(self.sentinel, 0) else None
        return os.waitstatus_to_exitcode(status) if pid else None

    def _watch(self, process_id, pid, sentinel):
        """Note the started process. process_id: the id of its seat, or of the engine's entry."""
        util.debug("process %d was started (%s)", pid, self.method)
        self._id = process_id
        self.pid = pid
        self.sentinel = sentinel
        self._mark = _native.mark(sentinel)
        self._registered = self.method != "forkserver" and cooperative.register_child(pid)

    def _launch(self, process_obj):
        child, name = _Child(), process_obj._name
        nursery = start_methods.take_nursery(process_obj)
        if (fork := starters.fork()) is not None:
            return self._launch_by_program(process_obj, fork)
        try:
            taken = nursery is not None and nursery.take(process_obj, child)
            if not taken:
                with starters.keeping_tracker:
                    taken = _native.start(start_methods.ends_with_parent(process_obj), child)
            if not taken:
                return self._launch_by_engine(process_obj)
            if child.pid == 0:
                run_child(process_obj, child.descriptor, None, name)
            self._watch(*child)
            process_obj._popen = self
        except BaseException:
            if child.pid is not None:
                if child.pid == 0:
                    posix._exit(1)  # Ctrl-C in the child, which must not go on with its parent's code
                _end_unknown(child)
            raise

    def _launch_by_program(self, process_obj, fork):
        fds = list(_native.make_tether() or ())
        tether_end = fds[:1]
        pid = None
        try:
            fds.append(_native.duplicate_lifeline())
            with starters.keeping_tracker:
                pid = fork()
            if pid == 0:
                if tether_end:
                    posix.close(fds[0])
                    _native.keep_tether(fds[1])
                _native.put_off_collecting()
                run_child(process_obj, None, fds[-1], process_obj._name)
            del fds[: len(tether_end)]  # the seat owns it now
            self._watch(*_native.take_on(pid, *tether_end))
            process_obj._popen = self
        except BaseException:
            if pid == 0:
                posix._exit(1)
            if pid:
                _kill(pid)
            raise
        finally:
            _native.close_all(fds)

    def _launch_by_engine(self, process_obj):
        util.info("a process is forked with an entry of the engine's: there is no seat for it")
        process_id = calls.fork_prepare()
        lifeline = pid = None
        try:
            # A duplicate, because the child first closes its parent's lifeline, with all else that is not for a child.
            lifeline = _native.duplicate_lifeline()
            with starters.keeping_tracker:
                pid = _native.fork()
            if pid == 0:
                _native.put_off_collecting()
                run_child(process_obj, None, lifeline, process_obj._name)
            self._watch(process_id, pid, calls.fork_commit(process_id, pid))
            process_obj._popen = self
        except BaseException:
            _end_unwatched(process_id, pid)
            raise
        finally:
            if lifeline is not None:
                posix.close(lifeline)


def _standard():
    """Return multiprocessing's Popen. Its methods work on every object that has its attributes."""
    return stdlib.standard_module("popen_fork").Popen


def _is_executors(process_obj):
    """Whether the process is a worker of concurrent.futures.ProcessPoolExecutor."""
    return getattr(getattr(process_obj, "_target", None), "__module__", None) == "concurrent.futures.process"


def run_child(
    process_obj: "BaseProcess",
    parent_sentinel: "int | None",
    inherited_lifeline: "int | None" = None,
    name: str = "",
    method: str = "fork",
) -> "NoReturn":
    """Run the process object in a forked child, and end the child. Does not return.

    parent_sentinel: the descriptor that is readable when the parent has ended. If it is None, it is made from
    inherited_lifeline, which is the lifeline's descriptor that the child has inherited. name, method: dump finds them
    in this call's frame, so the child need not write them anywhere.
    """
    code = 1
    try:
        cooperative.after_fork()
        if parent_sentinel is None:
            assert inherited_lifeline is not None  # one of the two is given
            parent_sentinel = _native.open_lifeline(inherited_lifeline, start_methods.ends_with_parent(process_obj))
        if _RUNS_EXIT_FUNCTIONS:
            stdlib.forget_exit_functions()
        start_methods.begin_child(process_obj)
        code = process_obj._bootstrap(parent_sentinel=parent_sentinel)
    finally:
        leave(code)


def leave(code: int) -> "NoReturn":
    """End this process, a forked child, with the exit status code. If code is too large, print the error and use 1.

    If os._exit is a function of the program's, it is called, but the process ends even if it raises or returns. With
    multiprocessing such a child would go on with its parent's code.
    """
    if _RUNS_EXIT_FUNCTIONS:
        stdlib.run_exit_functions()
    engine.close()  # the child's own engine, if it has loaded one
    _native.leave_locks()
    try:
        os._exit(code)
    except SystemExit:
        pass
    except BaseException:
        code = 1
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            stdlib.flush_streams()
        finally:
            posix._exit(code & 0xFF)


def _end_unknown(child):
    """End a child whose Popen could not be completed, because of Ctrl-C."""
    _native.send_signal(child.id, signal.SIGKILL)
    _native.join(child.id, None)
    _forget(child.id)


def _end_unwatched(process_id, pid):
    """End a child that the engine could not take: there is no descriptor for its pidfd, or Ctrl-C came in between."""
    if pid:
        _kill(pid)
    for function in calls.fork_abort, calls.forget:
        try:
            function(process_id)
        except (EngineError, ValueError, OSError):
            pass  # the caller raises the error that made the start fail


def _kill(pid):
    """Kill a child and wait for its end, unless it has ended: whoever could not take it may have done this."""
    try:
        if os.waitpid(pid, os.WNOHANG)[0] == 0:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    except ChildProcessError:
        pass


def __getattr__(name: str) -> "Any":
    return stdlib.other_name(__name__, stdlib.standard_module("popen_fork"), name)
