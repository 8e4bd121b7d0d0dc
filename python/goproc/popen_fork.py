"""Starts a process by fork, and watches processes however they were started. Mirrors multiprocessing/popen_fork.py.

    Popen._launch:  _transport.start() (C): fork() ─┬─ parent ──▶ the sentinel is the child's pidfd, in a seat that the
                                                    │             engine's reaper watches
                                                    └─ child ───▶ process_obj._bootstrap()

    When no seat is left:  ForkPrepare (Go) ──▶ _transport.fork() (C) ──▶ ForkCommit (Go)

Called by context.py. The spawn and forkserver variants derive from this class, as in the standard library.
"""

import atexit
import gc
import os
import signal
import sys
import time
from multiprocessing import util

from . import _transport, engine
from .errors import EngineError
from .lifeline import open_lifeline

__all__ = ["Popen", "collect_again", "leave", "run_child"]


class Popen:
    """A child process of the engine.

    Attributes: pid; sentinel (a pidfd, readable once the process has ended); returncode (None until poll() or wait()
    has seen the end, then the exit status, or minus the number of the signal that ended it); finalizer (gives the
    engine's entry back). Source: multiprocessing.popen_fork.Popen.
    """

    method = "fork"

    def __init__(self, process_obj):
        util._flush_std_streams()
        self.returncode = None
        self.finalizer = None
        self._owner = os.getpid()
        self._launch(process_obj)

    def duplicate_for_child(self, fd):
        """Return the number under which the child will find fd: a forked child has it already."""
        return fd

    def poll(self, flag=os.WNOHANG):
        """Return the return code, or None while the process runs. With flag 0, wait for its end first.

        In a process other than the one that started it the answer is None, as with multiprocessing.
        """
        if self.returncode is None and self._owner == os.getpid():
            if flag != os.WNOHANG:
                return self.wait()
            self.returncode = self._ended_with()
        return self.returncode

    def wait(self, timeout=None):
        """Wait for the end of the process, for at most timeout seconds; return the return code, or None if it runs."""
        if self.returncode is not None or self._owner != os.getpid():
            return self.returncode
        deadline = None if timeout is None else time.monotonic() + timeout
        process_id = self._id
        if process_id < 0:
            code = _transport.exit_code(process_id)
            if code is not None and code is not NotImplemented:
                self.returncode = code
                return code
            # This thread waits, the engine's reaper need not.
            _transport.watch(process_id, False)
            try:
                if not _transport.wait_readable(self.sentinel, timeout):
                    return None
                if self.poll() is not None:
                    return self.returncode
            finally:
                if self.returncode is None:
                    _transport.watch(process_id, True)
        elif not _transport.wait_readable(self.sentinel, timeout):
            return None
        # A fork server's child has two messengers: its pidfd, and the server that reaps it. The second may be later.
        pause = 0.00005
        while self.poll() is None:
            if deadline is not None and time.monotonic() >= deadline:
                return None
            time.sleep(pause)
            pause = min(pause * 1.5, 0.01)
        return self.returncode

    def terminate(self):
        """Send SIGTERM."""
        self._send_signal(signal.SIGTERM)

    def kill(self):
        """Send SIGKILL."""
        self._send_signal(signal.SIGKILL)

    def interrupt(self):
        """Send SIGINT."""
        self._send_signal(signal.SIGINT)

    def close(self):
        """Give back the sentinel and the engine's entry. The process must have ended."""
        if self.finalizer is not None:
            self.finalizer()

    def _send_signal(self, sig):
        if self.returncode is not None:
            return
        if self._owner != os.getpid():
            os.kill(self.pid, sig)
            return
        try:
            engine.call("Signal", self._id, sig)
        except EngineError:
            _signal_without_engine(self.sentinel, sig)

    def _ended_with(self):
        if self._id < 0:
            code = _transport.exit_code(self._id)
            if code is not NotImplemented:
                return code
        try:
            code = engine.call("ExitCode", self._id)
        except EngineError:
            return self._ended_without_engine()
        return None if code == engine.RUNNING else code

    def _ended_without_engine(self):
        """A poisoned engine reaps nothing any more; what it left behind must still come to an end."""
        if not _transport.wait_readable(self.sentinel, 0):
            return None
        try:
            result = os.waitid(os.P_PIDFD, self.sentinel, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return 255  # reaped before the engine was poisoned, or the fork server's child
        if result is None:
            return None
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status

    def _watch(self, process_id, pid, sentinel):
        """Take over the engine's entry process_id."""
        self._id = process_id
        self.pid = pid
        self.sentinel = sentinel
        self.finalizer = util.Finalize(self, _forget, (process_id,))

    def _launch(self, process_obj):
        engine.load()
        child: list = []
        nursery = vars(process_obj).pop("_goproc_nursery", None)
        try:
            taken = nursery is not None and nursery.take(process_obj, child)
            if not taken and not _transport.start(process_obj.daemon, child):
                return self._launch_by_engine(process_obj)
            self._id, self.pid, self.sentinel = child
            if not self.pid:
                run_child(process_obj, self.sentinel)
            self.finalizer = util.Finalize(self, _forget, (self._id,))
        except BaseException:
            if child:
                if not child[1]:
                    os._exit(1)  # Ctrl-C in the child: it must not go on as its parent
                _end_unknown(*child)
            raise

    def _launch_by_engine(self, process_obj):
        process_id = engine.call("ForkPrepare")
        lifeline = pid = None
        try:
            # The engine's own descriptors are closed in the child, before it could use this one.
            lifeline = os.dup(engine.lifeline_fd())
            pid = _transport.fork()
            if pid == 0:
                run_child(process_obj, None, lifeline)
            self._watch(process_id, pid, engine.call("ForkCommit", process_id, pid))
        except BaseException:
            _end_unwatched(process_id, pid)
            raise
        finally:
            if lifeline is not None:
                os.close(lifeline)


def run_child(process_obj, parent_sentinel, inherited_lifeline=None):
    """Be the process, a forked child, to its end."""
    code = 1
    try:
        put_off_collecting()
        if parent_sentinel is None:
            parent_sentinel = open_lifeline(inherited_lifeline, process_obj.daemon)
        if sys.version_info >= (3, 13):
            # From 3.13 on a child runs the exit functions that it registers itself.
            atexit._clear()
            atexit.register(util._exit_function)
        code = process_obj._bootstrap(parent_sentinel=parent_sentinel)
    finally:
        leave(code)


_collecting = False  # whether garbage is to be collected again


def put_off_collecting():
    """Collect no garbage until the process's own code runs: what would be looked at, and copied by that, is old."""
    global _collecting
    _collecting = gc.isenabled()
    gc.disable()


def collect_again():
    """Let the collector be as it was before put_off_collecting()."""
    if _collecting:
        gc.enable()


def leave(code):
    """End this process, a forked child, with an exit status. One that is too large is an error, and the status 1."""
    if sys.version_info >= (3, 13):
        atexit._run_exitfuncs()
    try:
        os._exit(code)
    except OverflowError:
        sys.excepthook(*sys.exc_info())
        util._flush_std_streams()
        os._exit(1)


def _forget(process_id):
    if process_id < 0 and _transport.forget(process_id):
        return
    try:
        engine.call("Forget", process_id)
    except EngineError:
        pass


def _end_unknown(process_id, pid, sentinel):
    """End a child whose Popen could not be completed: Ctrl-C in between."""
    _signal_without_engine(sentinel, signal.SIGKILL)
    _transport.wait_readable(sentinel, None)
    _forget(process_id)


def _end_unwatched(process_id, pid):
    """End a child that could not be handed to the engine: no descriptor for its pidfd, or Ctrl-C in between."""
    try:
        # The engine ends a child itself when it cannot take it: then the pid is no longer ours to signal.
        if pid and os.waitpid(pid, os.WNOHANG)[0] == 0:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    except ChildProcessError:
        pass
    for function in ("ForkAbort", "Forget"):
        try:
            engine.call(function, process_id)
        except (EngineError, ValueError, OSError):
            pass  # what made the start fail is being raised


def _signal_without_engine(sentinel, sig):
    try:
        signal.pidfd_send_signal(sentinel, sig)
    except ProcessLookupError:
        pass
