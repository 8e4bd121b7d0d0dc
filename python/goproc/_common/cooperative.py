"""Waits in programs in which gevent or eventlet has replaced the standard library's functions that wait.

The problem: monkey-patching replaces `time.sleep`, `select.select`, locks and the like by functions that let other
greenlets run while one waits. goproc waits in C, where these libraries cannot switch greenlets: in join(), for a pool's
results, for an item of a queue, for a server's answer. All greenlets of the thread would be blocked. And gevent's event
loop may reap every child of the program, and drops the exit statuses of children that it does not watch.

The solution: if both `time.sleep` and `select.select` have been replaced, goproc polls, and sleeps in between. Under
gevent, multiprocessing.connection.wait() waits for a process's sentinel, without polling. goproc lets gevent watch each
child, and asks gevent for the exit status if gevent has reaped the child.

The limits: an event that is polled for is noticed up to five milliseconds late. A wait that began before the patching
goes on in C. If only one of the two functions has been replaced, as tests do, goproc waits in C.

docs/design/cooperative.md. Used by popen_fork.py, queues.py, calls.py, _pool/dispatch.py, _start and _relay.
"""

import os
import sys
import time

from .. import _native

__all__ = ["Pauses", "after_fork", "exit_code", "is_patched", "register_child", "wait_readable"]

_BUILTIN = type(len)
_LONGEST = 0.005  # seconds

_told = False  # whether the extension has been given threading.get_ident, which distinguishes greenlets


def is_patched():
    """Return whether goproc must poll, and wait by the functions that have replaced the standard library's."""
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
    """Pauses between polls, in which other greenlets run. The first pause is 0 seconds; later ones are longer.

    deadline: the _native.monotonic() from which on pause() returns False; None for never.
    """

    def __init__(self, deadline=None):
        self._deadline = deadline
        self._next = 0.0

    def pause(self):
        """Pause, and return True. Return False, without a pause, when the deadline is over."""
        pause = self._next
        if self._deadline is not None:
            left = self._deadline - _native.monotonic()
            if left <= 0:
                return False
            pause = min(pause, left)
        time.sleep(pause)
        self._next = min(max(2 * self._next, 0.0001), _LONGEST)
        return True


def wait_readable(fd, timeout):
    """Wait until fd is readable, for at most timeout seconds; None for no limit. Return whether it is."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("select"):
        from multiprocessing.connection import wait

        return bool(wait([fd], timeout))
    pauses = Pauses(None if timeout is None else _native.monotonic() + timeout)
    while not _native.wait_readable(fd, 0):
        if not pauses.pause():
            return False
    return True


def after_fork():
    """In a forked child: reinitialize gevent's event loop, as gevent's own os.fork() does."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("os"):
        from gevent import reinit

        reinit()


def register_child(pid):
    """Let gevent's event loop watch the child, so that it keeps the exit status if it reaps the child.

    gevent's own os.fork() does the same. Returns whether gevent watches the child.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_object_patched("os", "waitpid"):
        return False
    from gevent.os import fork_and_watch

    try:
        fork_and_watch(fork=lambda: pid)
    except TypeError:  # this thread's event loop does not reap children
        return False
    return True


def exit_code(pid, seen):
    """Return the exit code of a child that gevent watches and that has ended.

    seen: the exit code as goproc knows it, which is 255 if gevent has reaped the child.
    """
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
