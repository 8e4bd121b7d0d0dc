"""The role of this process in the relay: none, reading for its children, or sending to the main program.

start_methods.relay is the State of this process, None if there is none. The modules that start processes ask it what a
child is sent, and tell it that a child begins.
"""

import atexit
import logging
import os
import posix
import sys
import threading
from multiprocessing import process, reduction
from multiprocessing.util import Finalize

from .. import _native
from .._common import start_methods
from .._common.detached import Function
from . import channel, child
from .reader import Reader, close_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ForSpawned", "Lease", "State", "flush", "is_sending", "relay_all", "relay_none"]

#: Seconds that the end of a pool waits for a handler that is busy with one record.
_PATIENCE = 1.0

_lock = threading.RLock()
_exit_pid: "int | None" = None  # the process whose end is prepared
_shuts_down = False  # whether logging is shut down by _at_exit


class State:
    """The relay as one process sees it; it is start_methods.relay.

    writing: the end into which records are written. reader: in the process that reads, its Reader; None in one that
    sends. everywhere: whether all processes that are started from here send; else only those of leases. sinks: of the
    pools on clusters (_cluster/log_sink.py).
    """

    def __init__(self, writing: channel.WriteEnd, reader: "Reader | None", everywhere: bool) -> None:
        self.writing = writing
        self.reader = reader
        self.owner = os.getpid() if reader is not None else None
        self.everywhere = everywhere
        self.leases: set[Lease] = set()
        self.sinks: set[Any] = set()

    def reads_here(self) -> bool:
        """Whether this process reads. A copy that os.fork() has made of the reading process does not."""
        return self.owner == os.getpid()

    def is_handling(self) -> bool:
        """Whether this thread is the one that gives records to this program's handlers."""
        return self.reader is not None and self.reader.is_reading()

    def flush(self, timeout: "float | None" = None) -> bool:
        """Wait until the records that were sent have been handled, also those of machines; see Reader.flush()."""
        assert self.reader is not None
        if self.is_handling():
            return False
        deadline = None if timeout is None else _native.monotonic() + timeout
        for sink in list(self.sinks):
            if not sink.flush(None if deadline is None else max(0.0, deadline - _native.monotonic())):
                return False
        return self.reader.flush(None if deadline is None else max(0.0, deadline - _native.monotonic()))

    # ---- called by the modules that start processes

    def for_spawned(self, process_obj: "Any") -> "ForSpawned | None":
        """Return what a process that does not inherit this state is sent; None if it is not to send its records."""
        return ForSpawned(self.writing) if self.everywhere or _is_of_lease(process_obj) else None

    def begin(self, process_obj: "Any") -> None:
        """Begin a child process, before its process object runs."""
        if not (self.everywhere or _is_of_lease(process_obj)):
            start_methods.relay = None
            self.writing.close()
            child.unname_functions()
            return
        self.reader, self.owner, self.everywhere = None, None, True
        self.leases.clear()
        self.sinks.clear()
        child.begin(self.writing)
        child.run_noting(process_obj)

    def note(self, function: object) -> None:
        """Note the function of the task that this process runs; None for none."""
        child.note(function)


class _Spawned(State):
    """The State of a process that was sent it. levels, machine: as for ForSpawned."""

    def __init__(self, descriptor, levels, machine):
        super().__init__(channel.attached(descriptor.detach()), None, True)
        self._levels, self._machine = levels, machine

    def begin_early(self, data):
        """Begin before the main module is imported, so that its records, warnings and errors are sent, too.

        data: from spawn.get_preparation_data().
        """
        start_methods.relay = self
        child.name_machine(self._machine)
        data["log_to_stderr"] = False  # the main program's handler writes the records
        child.begin(self.writing)
        child.set_levels(self._levels)

    def begin(self, process_obj):
        super().begin(process_obj)
        if self._levels is not None:
            child.set_levels(self._levels)  # the main module has been imported since, and may have set others
            self._levels = None


class ForSpawned:
    """Stands for the State of a process that will be started. It arrives there as a _Spawned.

    levels: from child.get_levels() in the main program; None for those of this process. machine: the name of the
    cluster's machine that the process will run on; None for that of this process.
    """

    def __init__(self, writing: channel.WriteEnd, levels: "Any" = None, machine: "str | None" = None) -> None:
        self._writing, self._levels, self._machine = writing, levels, machine

    def __reduce__(self) -> "Any":
        levels = child.get_levels() if self._levels is None else self._levels
        machine = child.machine_name() if self._machine is None else self._machine
        return _Spawned, (reduction.DupFd(self._writing.fileno()), levels, machine)


def _is_of_lease(process_obj):
    return vars(process_obj).get("_goproc_relayed", False)


# ---- the process that reads


def is_sending() -> bool:
    """Whether this process is a child that sends its records to the main program."""
    state = start_methods.relay
    return state is not None and state.owner is None


def _reading():
    """Return the State of this process as one that reads; make it if there is none. Called with _lock."""
    state = start_methods.relay
    if state is None or not state.reads_here():
        reader = Reader()
        state = start_methods.relay = State(reader.writing, reader, False)
        child.name_functions()
        _prepare_exit()
    return state


def relay_all() -> None:
    """Have all processes that are started from now on send their records to this one. Raises OSError."""
    with _lock:
        while not is_sending():
            state = _reading()
            state.everywhere = True
            if start_methods.relay is state:  # else the garbage collector has ended it meanwhile, with a pool
                return


def relay_none() -> None:
    """Undo relay_all(), when all records that were sent have been handled."""
    state = start_methods.relay
    if state is not None and state.reads_here() and state.everywhere:
        state.flush()
        _end_if_unused(state, everywhere=False, wait=True)


def flush(timeout: "float | None" = None) -> bool:
    """Wait until the records that were sent have been handled; see Reader.flush()."""
    state = start_methods.relay
    if state is None or not state.reads_here():
        return True
    return state.flush(timeout)


def _end_if_unused(state, lease=None, everywhere=True, wait=False):
    with _lock:
        state.leases.discard(lease)
        state.everywhere = state.everywhere and everywhere
        if state.everywhere or state.leases or start_methods.relay is not state:
            return
        start_methods.relay = None
        child.unname_functions()
    state.reader.close(wait)


class Lease:
    """Has the processes of one pool send their records, until it ends. Raises OSError."""

    def __init__(self) -> None:
        self._state = None
        with _lock:
            while not is_sending():
                self._state = _reading()
                self._state.leases.add(self)
                if start_methods.relay is self._state:  # as in relay_all()
                    break

    def marking(self, make: "Any") -> "Any":
        """Return a function that does as make, which makes Process objects, and marks them."""

        def make_process(*arguments, **options):
            process_obj = make(*arguments, **options)
            process_obj._goproc_relayed = True
            return process_obj

        return make_process

    def end(self) -> None:
        """Wait until the records have been handled, unless a handler takes long; then end."""
        state = self._state
        if state is not None and state.reads_here() and self in state.leases:
            _end_if_unused(state, self, wait=state.reader.flush(patience=_PATIENCE))

    def drop(self) -> None:
        """End without waiting: the records that were sent are still handled. May be called by the garbage collector."""
        state = self._state
        if state is not None and state.reads_here():
            _end_if_unused(state, self)


# ---- the end of the program


def _prepare_exit():
    """Have all records handled at the end of this process: after its children have ended, before logging is shut down.

    multiprocessing's exit function joins the children, and calls finalizers after that. If logging was imported later,
    its exit function would be called before: then it is called from here.
    """
    global _exit_pid, _shuts_down
    if _exit_pid == os.getpid():
        return
    _exit_pid = os.getpid()
    Finalize(None, _at_exit, exitpriority=-1000)
    names = list(sys.modules)
    is_later = names.index("logging") > names.index("multiprocessing.util")
    if is_later and process.parent_process() is None:  # children do not shut logging down
        atexit.unregister(logging.shutdown)
        _shuts_down = True


def _at_exit():
    if (state := start_methods.relay) is not None and state.reads_here():
        start_methods.relay = None
        for sink in list(state.sinks):
            sink.close()
    close_all()
    if _shuts_down:
        logging.shutdown()


def _after_fork_in_child():
    global _lock, _shuts_down
    _lock = threading.RLock()
    if _shuts_down:  # the finalizer is not this process's
        _shuts_down = False
        atexit.register(logging.shutdown)


posix.register_at_fork(after_in_child=Function(__name__, "_after_fork_in_child"))
