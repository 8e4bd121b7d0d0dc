"""The spawn server: an interpreter that has done the first steps of every spawned child, and forks children after them.

    main() ──▶ Server.serve() ──fork, as the main program's child──▶ spawn.spawn_main(), as in a new interpreter

No code of the program has ever run in the server. So its children find the same state as in a new interpreter. The
engine starts another server when the environment, the command line or anything else that a process inherits has changed
(RequestAlike in core/prefork). The engine sends each child the descriptors, the signal mask and the disposition of
SIGINT. docs/design/spawn.md says why. popen_spawn_posix.py asks for children.
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
    """The main function of the spawn server's interpreter, and of each child that it forks. Does not return.

    traces: whether the server logs to standard error. socket_fd: the server's end of its socket.
    """
    _native.take_title(f"goproc: spawn server of {os.getppid()}")
    tell = None
    if traces:
        from .._common.log import teller

        tell = teller("spawn server")
    # Ctrl-C must not end the server; the server exits when its client does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    sent = Server(socket_fd, True, _make_rehearsal, 0 if _is_pristine() else errno.ENOSYS, tell).serve()
    if sent is None:
        os._exit(0)
    (interrupts_ignored, low, high, *numbers), fds = sent
    _renumber(fds, numbers)
    # The mask first: SIGINT is blocked in a pool's worker until it can handle it, and must stay blocked here.
    blocked = low & 0xFFFFFFFF | high << 32
    signal.pthread_sigmask(signal.SIG_SETMASK, {n for n in signal.valid_signals() if blocked >> (n - 1) & 1})
    if not interrupts_ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    spawn.spawn_main(*numbers[:3])


def _is_pristine():
    """Whether the interpreter can be forked: its start has left no thread, no tracer, profiler or exit function."""
    monitoring = getattr(sys, "monitoring", None)
    return (
        len(os.listdir("/proc/self/task")) == 1
        and sys.gettrace() is sys.getprofile() is None
        and not stdlib.has_thread_hooks()
        and stdlib.count_exit_functions() <= _EXIT_FUNCTIONS
        and (monitoring is None or not any(map(monitoring.get_tool, range(6))))
    )


#: How many exit functions the modules imported here register: one, in multiprocessing.util.
_EXIT_FUNCTIONS = 1


def _make_rehearsal():
    from multiprocessing import reduction  # noqa: F401

    from .._common import start_methods

    if spawn.deferred_imports is not None:
        spawn.deferred_imports.import_all()
    # Freeze all objects: otherwise the garbage collector of each child would visit them, and so copy their pages.
    import gc

    gc.collect()
    gc.freeze()
    return spawn.Rehearsal(start_methods.concrete["spawn"].Process)


def _renumber(fds, numbers):
    """Give each descriptor of fds its number in numbers; close the standard streams whose number is not in numbers."""
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
        with contextlib.suppress(OSError):  # it has never been open
            os.close(stream)
