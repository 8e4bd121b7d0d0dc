"""Pool: the API of goproc.Pool on the machines of a Dask cluster; see goproc.cluster.

Everything that a program sees is engine_pool.Pool's. This class puts other parts below it: a port to the machines
instead of the engine's, and a crew of machines instead of processes.
"""

import os
import socket
import sys
from multiprocessing import util
from typing import Any

from .. import __version__
from .._common import picklers, start_methods
from .._pool import engine_pool
from .._pool.codec import encode
from .._pool.dispatch import Dispatch
from .._pool.inputs import COLLECTIONS
from .._pool.machinery import terminate
from .._pool.submitter import Submitter
from ..pool import Pool as _Pool
from .address import connect
from .contents import Contents, Repeats
from .control import Control
from .crew import Crew
from .forms import Form
from .ledger import Ledger
from .port import Port

__all__ = ["Pool"]

_METHODS = ("forkserver", "spawn")


class Pool(_Pool):
    """A pool of workers on the machines of a Dask cluster. All methods are goproc.Pool's.

    address: of the cluster: "tcp://host:8786" or "tls://host:8786" for a Dask scheduler, the path of a scheduler file,
    a distributed.Client, a Cluster object of Dask, or "local:2x4" for two machines of four cores that are processes
    here; None for GOPROC_CLUSTER, else Dask's configuration. processes: the most workers in all; None for the cluster's
    number of cores. initializer, initargs, maxtasksperchild: as for goproc.Pool. context: not used, for the machines
    start their workers by start_method.

    security: a distributed.Security for tls. start_method: by which a machine starts its workers, "forkserver" or
    "spawn". lost_after: seconds; a machine that has not answered for that long is lost, and a machine that has not
    heard of this program for that long ends its workers. reconnect_timeout: how many seconds to wait for a scheduler
    that does not answer, and for machines when there are none; then all tasks that are left fail with WorkerLostError.
    The other options are goproc.Pool's, and hold on each machine.

    Raises what goproc.Pool raises; ImportError if the package distributed is not installed; ConnectionError if the
    scheduler cannot be reached; RuntimeError if a machine has other versions of Python or goproc. Source: goproc.
    """

    def __init__(
        self,
        address=None,
        processes=None,
        initializer=None,
        initargs=(),
        maxtasksperchild=None,
        context=None,
        *,
        security=None,
        start_method="forkserver",
        lost_after=8.0,
        reconnect_timeout=60.0,
        **options,
    ):
        self._state = engine_pool.INIT  # for __del__, if this fails
        self._pool = []
        if start_method not in _METHODS:
            raise ValueError(f"start_method must be one of {', '.join(map(repr, _METHODS))}, not {start_method!r}")
        for name, value in (("lost_after", lost_after), ("reconnect_timeout", reconnect_timeout)):
            if not isinstance(value, (int, float)) or not value > 0:
                raise ValueError(f"{name} must be a positive number of seconds, not {value!r}")
        picklers.checked("cloudpickle")
        self._start_method, self._lost_after, self._reconnect_timeout = start_method, lost_after, reconnect_timeout
        self._given = processes
        connection = connect(address, security, reconnect_timeout)
        self._connection = connection
        try:
            if processes is None:
                processes = max(1, connection.run(_cores(connection), 30))
            super().__init__(processes, initializer, initargs, maxtasksperchild, context, **options)
        except BaseException:
            connection.close()
            raise

    @property
    def _processes(self):
        """The number of workers; if it was not given, the number of cores that the cluster has now."""
        return self._counted if self._given is not None else max(self._counted, len(self._pool))

    @_processes.setter
    def _processes(self, number):
        self._counted = number

    def _start(self, options, usable):
        contents = self._contents = Contents()
        form = Form(contents)
        initializer = self._pickled_initializer(form)
        settings = {
            "pool": os.urandom(4).hex(),
            "versions": (sys.version_info[:2], __version__),
            "start_method": self._start_method,
            "lost_after": self._lost_after,
            "program": f"{socket.gethostname()}:{os.getpid()}",
            "retries": options.engine_retries,
            "initializer": initializer,
            "contents": {token: bytes(contents.bytes_of(token) or b"") for token in contents.take(-1)},
            "sys_path": [path or os.getcwd() for path in sys.path] if self._connection.machines else None,
            "maxtasks": self._maxtasksperchild,
            "max_memory": options.max_memory_per_child,
            "task_memory": options.max_memory_per_task,
            "threads": options.threads,
            "nested": options.nested,
        }
        port = Port(contents)
        ledger = Ledger(port.complete, options.engine_retries)
        most = self._processes if self._given is not None else 1 << 30
        sink = self._log_sink()
        crew = Crew(self._connection, settings, most, self._pool, port, ledger, sink, self._reconnect_timeout)
        crew.control = Control(port, ledger, crew)
        self._port, self._crew = port, crew
        self._dispatch = Dispatch(port, self._results, crew)
        self._submitter = Submitter(port, crew.control, crew, self._dispatch, self._results, form)
        self._submitter.pool_retries = options.engine_retries
        try:
            crew.start()
        except BaseException:
            crew.terminate()
            raise
        self._terminate = util.Finalize(self, terminate, args=(crew, self._dispatch), exitpriority=15)
        self._state = engine_pool.RUN
        if options.retry is not None:
            self._run_again()
        return None

    def _mapped_now(self, method, arguments, *others):
        mapped: Any = super()
        if type(arguments[1]) not in COLLECTIONS:  # its iterator may use the memory of an item again for the next one
            return mapped._mapped_now(method, arguments, *others)
        with self._port.lent():
            return mapped._mapped_now(method, arguments, *others)

    def _log_sink(self):
        """Return what takes the log records of the workers; None if they are not relayed."""
        state = start_methods.relay
        if state is None or not (state.everywhere or self._lease is not None):
            return None
        from .._relay.state import Lease
        from .log_sink import LogSink

        return LogSink(state, None if self._lease is None else Lease())

    def _Repeats(self, func, workers):
        return Repeats(func, workers, self._contents)

    def _pickled_initializer(self, form):
        if self._initializer is None:
            return None
        try:
            stream, buffers = encode((self._initializer, tuple(self._initargs)), form)
        except RuntimeError as error:
            raise RuntimeError(
                "the initializer of a cluster's pool, or one of its initargs, cannot be sent to another machine: "
                f"{error}. A lock, a queue or another shared object of this machine cannot be used there: let the "
                "tasks return what they have to tell, or use a goproc.Manager with an address on the network"
            ) from error
        stream = b"".join(stream) if type(stream) is list else stream
        return stream if buffers is None else (stream, [bytes(buffer) for buffer in buffers])


async def _cores(connection):
    return sum(info["nthreads"] for info in (await connection.workers()).values())


Pool.__module__ = "goproc.cluster"  # its public module
