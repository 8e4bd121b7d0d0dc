"""Waiting where gevent or eventlet has replaced the standard library's functions that wait.

The problem: monkey-patching replaces `time.sleep`, `select.select`, locks and the like by functions that let other
greenlets run meanwhile. goproc waits in C, of which these libraries know nothing: in join(), for a pool's results, for
a server's answer. All greenlets of the thread would stand still meanwhile. And gevent's event loop may reap every child
of the program, and drop the status of those that it was not told of.

The solution: where both `time.sleep` and `select.select` have been replaced, poll, and sleep in between. Under gevent,
multiprocessing.connection.wait() waits for a process's sentinel, without polling. gevent is told of each child, and
then asked for the exit status if it has reaped the child.

Its limits: what is polled for is noticed up to five milliseconds late. A wait that has begun before the patching goes
on in C. Where only one of the two has been replaced, as tests do, goproc waits in C.

Used by popen_fork.py, _pool/dispatch.py, calls.py and _start/prefork.py.
"""

import os
import sys
import time

from .. import _native

__all__ = ["Pauses", "after_fork", "exit_code", "is_patched", "register_child", "wait_readable"]

_BUILTIN = type(len)
_LONGEST = 0.005  # seconds

_told = False  # whether the extension has been told how to tell greenlets apart


def is_patched():
    """Return whether goproc must wait by the functions that have replaced the standard library's."""
    global _told
    if type(time.sleep) is _BUILTIN:
        return False
    select = sys.modules.get("select")
    if select is None or type(select.select) is _BUILTIN:
        return False
    if not _told:
        import threading

        _told = True
        _native.tell_threads_apart_by(threading.get_ident)
    return True


class Pauses:
    """Pauses between polls, in which other greenlets run: none at first, then ever longer ones.

    deadline: the time.monotonic() after which pause() returns False; None for never.
    """

    def __init__(self, deadline=None):
        self._deadline = deadline
        self._next = 0.0

    def pause(self):
        """Pause. Return False, without a pause, when the deadline is over."""
        pause = self._next
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                return False
            pause = min(pause, left)
        time.sleep(pause)
        self._next = min(max(2 * self._next, 0.0001), _LONGEST)
        return True


def wait_readable(fd, timeout):
    """Wait until fd is readable, for at most timeout seconds; None is for ever. Return whether it is."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("select"):
        from multiprocessing.connection import wait

        return bool(wait([fd], timeout))
    pauses = Pauses(None if timeout is None else time.monotonic() + timeout)
    while not _native.wait_readable(fd, 0):
        if not pauses.pause():
            return False
    return True


def after_fork():
    """In a forked child: have gevent's event loop begin anew, as its own os.fork() does."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("os"):
        from gevent import reinit

        reinit()


def register_child(pid):
    """Have gevent's event loop keep the child's status if it reaps it, as after its own os.fork(). Return whether."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_object_patched("os", "waitpid"):
        return False
    from gevent.os import fork_and_watch

    try:
        fork_and_watch(fork=lambda: pid)
    except TypeError:  # in a thread whose event loop waits for no children
        return False
    return True


def exit_code(pid, seen):
    """Return the exit code of a registered child that has ended. seen: what goproc knows; 255 if others reaped it."""
    from gevent.os import _watched_children as children

    watcher = children.pop(pid, None)
    if isinstance(watcher, tuple):
        reaped, status, *_ = watcher
    elif watcher is None:
        return seen
    else:
        reaped, status = watcher.rpid, watcher.rstatus
        watcher.stop()
        watcher.close()
    return os.waitstatus_to_exitcode(status) if reaped == pid else seen
