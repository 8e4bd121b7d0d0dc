"""The program's connection with its cluster: one Client of Dask for all pools and executors of a process.

The first pool makes it. For an address `local:...` it also makes the machines, which takes a second or two, so all
pools share these. At the end of the program it ends the pools first: without a connection they could not end.
"""

import atexit
import os
import posix
import threading
import weakref
from typing import Any

from .._common import clusters
from .._common.detached import Function
from .._common.stdlib import import_module

__all__ = ["client", "cores", "end_first"]


class _State:
    """connected: the Connection of _cluster/address.py. ending: the pools that are ended before it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.connected = None
        self.ending: weakref.WeakSet[Any] = weakref.WeakSet()


_state = _State()
_of_parents: list = []  # a forked child keeps its parent's states here, because it must not end them


def _forget():
    global _state
    _of_parents.append(_state)
    _state = _State()


posix.register_at_fork(after_in_child=Function(__name__, "_forget"))


def client():
    """Return the Client. Raises what goproc.cluster.Pool raises for an address that is wrong, or not reached."""
    state = _state
    with state.lock:
        if state.connected is None:
            connected = import_module("goproc._cluster.address").connect(clusters.address())
            try:
                import_module("goproc._cluster_program.shipping").ship(connected.client, clusters.shipped())
            except BaseException:
                connected.close()
                raise
            state.connected = connected
            atexit.register(_end, state, os.getpid())  # after Dask's own functions, so that it is called before them
        return state.connected.client


def cores() -> int:
    """Return the number of cores of all machines together, at least 1."""
    return max(1, sum(client().nthreads().values()))


def end_first(thing) -> None:
    """Have thing.end() called before the connection ends, if thing still exists then."""
    _state.ending.add(thing)


def _end(state, pid):
    if os.getpid() != pid:
        return
    for thing in list(state.ending):
        thing.end()
    with state.lock:
        connected, state.connected = state.connected, None
    if connected is not None:
        import_module("goproc._cluster_program.shipping").unship(connected.client)
        connected.close()
