"""The spawn server: a fresh interpreter that has done what every spawned child does first, and forks them from there.

    main() ──▶ Server.serve() ──fork, as the main program's child──▶ spawn.spawn_main(), as in an interpreter of its own

Nothing of the program's has ever run in it. Its children find what they would find in an interpreter executed for them.
The engine starts another server when the environment, the command line or anything else that a program inherits has
changed (RequestAlike in core/prefork). It sends each child the descriptors, the signal mask and the disposition of
SIGINT. popen_spawn_posix.py asks for children.
"""

import contextlib
import errno
import os
import signal
import sys

from .. import _native, spawn
from .._common import stdlib
from .prefork import Server

__all__ = ["main"]


def main(traces, socket_fd):
    """Run the spawn server, and in a child that it has forked, the child: the interpreter's main function in both.

    traces: whether the server tells on standard error what it does.
    """
    _native.take_title(f"goproc: spawn server of {os.getppid()}")
    tell = None
    if traces:
        from .._common.log import teller

        tell = teller("spawn server")
    # A Ctrl-C is for the programs in the foreground; the server ends when its client does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    sent = Server(socket_fd, True, _make_rehearsal, 0 if _is_pristine() else errno.ENOSYS, tell).serve()
    if sent is None:
        os._exit(0)
    (interrupts_ignored, low, high, *numbers), fds = sent
    _renumber(fds, numbers)
    # The mask first: a pool's worker that is coming up has SIGINT blocked, and must not be interrupted in between.
    blocked = low & 0xFFFFFFFF | high << 32
    signal.pthread_sigmask(signal.SIG_SETMASK, {n for n in signal.valid_signals() if blocked >> (n - 1) & 1})
    if not interrupts_ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    spawn.spawn_main(*numbers[:3])


def _is_pristine():
    """Whether the interpreter's start has left nothing that would not survive a fork, or is for one process only."""
    monitoring = getattr(sys, "monitoring", None)
    return (
        len(os.listdir("/proc/self/task")) == 1
        and sys.gettrace() is sys.getprofile() is None
        and not stdlib.has_thread_hooks()
        and stdlib.count_exit_functions() <= _EXIT_FUNCTIONS
        and (monitoring is None or not any(map(monitoring.get_tool, range(6))))
    )


#: How many exit functions the modules imported here register: multiprocessing.util has one.
_EXIT_FUNCTIONS = 1


def _make_rehearsal():
    from multiprocessing import reduction  # noqa: F401

    from .._common import start_methods

    if spawn.deferred_imports is not None:
        spawn.deferred_imports.import_all()
    # What is imported stays: the children need not look through it, which would copy its pages.
    import gc

    gc.collect()
    gc.freeze()
    return spawn.Rehearsal(start_methods.concrete["spawn"].Process)


def _renumber(fds, numbers):
    """Give the descriptors fds these numbers; close those standard streams that are not among them."""
    pending = {}
    for number, fd in zip(numbers, fds, strict=True):
        if number in pending:
            os.close(fd)
        else:
            pending[number] = fd
    streams = [stream for stream in range(3) if stream not in pending]
    while pending:
        number, fd = pending.popitem()
        for other, occupant in pending.items():
            if occupant == number:
                pending[other] = os.dup(occupant)
        if fd != number:
            os.dup2(fd, number)
            os.close(fd)
        os.set_inheritable(number, True)
    for stream in streams:
        with contextlib.suppress(OSError):  # one that has been closed all the time
            os.close(stream)
