"""What the address of a cluster means. Used by pool.py.

tcp://host:8786, tls://host:8786   a Dask scheduler
a path                             a scheduler file, as `dask scheduler --scheduler-file` writes it
local, local:2, local:2x4          a cluster on this machine: machines x cores
a distributed.Client               a client of the program, which the program closes itself
a Cluster object                   what Dask's deployers make: anything with a scheduler_address
None                               GOPROC_CLUSTER, else the scheduler-address of Dask's configuration
"""

import asyncio
import concurrent.futures
import os
import socket
import time
from typing import Any

from .. import _native
from .local import LocalMachines, is_local

__all__ = ["Connection", "connect"]

_WHAT = (
    "give the address of a Dask scheduler (tcp://host:8786), a scheduler file, a distributed.Client, a Cluster of "
    "Dask, or local:2x4 for a try on this machine; or set GOPROC_CLUSTER"
)


def connect(address: Any, security: Any = None, timeout: float = 30.0) -> "Connection":
    """Return the Connection to the cluster of an address.

    security: a distributed.Security, or the arguments for one in a dict; None for Dask's configuration. timeout:
    seconds to wait for the scheduler. Raises ValueError or TypeError if address has none of the forms above, or if tls
    needs security, ConnectionError if the scheduler cannot be reached, ImportError if distributed is not installed.
    """
    try:
        import dask
        import distributed
    except ImportError as error:
        raise ImportError(
            f'goproc.cluster needs the package distributed ({error}): install it by pip install "goproc[cluster]"',
            name="distributed",
        ) from error
    if address is None:
        address = os.environ.get("GOPROC_CLUSTER") or dask.config.get("scheduler-address", None)
        if address is None:
            raise ValueError(f"goproc.cluster needs the address of a cluster: {_WHAT}")
    if isinstance(address, distributed.Client):
        return Connection(address, False, str(getattr(address.scheduler, "address", address)))
    if isinstance(address, os.PathLike):
        address = os.fspath(address)
    if not isinstance(address, str):
        if not hasattr(address, "scheduler_address"):
            raise TypeError(f"{type(address).__name__} is not the address of a cluster: {_WHAT}")
        return _of_client(distributed, address, str(address.scheduler_address), security, timeout)
    if is_local(address):
        return _of_local(distributed, address, timeout)
    if "://" not in address and (os.path.sep in address or os.path.exists(address)):
        if not os.path.exists(address):
            raise ValueError(f"there is no scheduler file {address!r}: {_WHAT}")
        return _of_client(distributed, None, address, security, timeout, scheduler_file=address)
    if "://" not in address and ":" not in address:
        raise ValueError(f"{address!r} is not the address of a cluster: {_WHAT}")
    return _of_client(distributed, address, address, security, timeout)


def _of_client(distributed, address, name, security, timeout, **options):
    if isinstance(address, str) and address.startswith(("tcp://", "tls://")):
        _wait_for_port(address, timeout)

    try:
        client = _client(distributed, address, timeout, security=security, **options)
    except (OSError, TimeoutError, asyncio.TimeoutError) as error:
        raise ConnectionError(
            f"the scheduler {name} of the cluster cannot be reached within {timeout:g} s ({error}): does it run, and "
            "may this machine connect to it?"
        ) from error
    except TypeError as error:
        if "ssl_context" not in str(error):
            raise
        raise ValueError(
            f"the scheduler {name} of the cluster uses tls, which needs certificates: give "
            "security=distributed.Security(tls_ca_file=..., tls_client_cert=..., tls_client_key=...), or set "
            "distributed.comm.tls in Dask's configuration"
        ) from error
    return Connection(client, True, name)


def _client(distributed, address, timeout, **options):
    """Return a Client. If it cannot connect, end its thread, which would go on otherwise."""
    client = distributed.Client.__new__(distributed.Client)
    try:
        client.__init__(address, timeout=timeout, set_as_default=False, name="goproc", **options)
    except BaseException:
        client.status = "closed"  # so that the Client does not try to close a connection that was never open
        if (runner := vars(client).get("_loop_runner")) is not None:
            runner.stop()
        raise
    return client


def _wait_for_port(address, timeout):
    """Wait until something listens at an address. This distinguishes a wrong port from a slow scheduler."""
    host, _, number = address.partition("://")[2].rpartition(":")
    deadline = _native.monotonic() + timeout
    while True:
        try:
            with socket.create_connection((host.strip("[]"), int(number)), max(deadline - _native.monotonic(), 0.1)):
                return
        except (OSError, ValueError) as error:
            if _native.monotonic() > deadline - 0.1:
                raise ConnectionError(
                    f"the scheduler {address} of the cluster cannot be reached within {timeout:g} s ({error}): does it "
                    "run, and may this machine connect to it?"
                ) from error
        time.sleep(0.1)


def _of_local(distributed, address, timeout):
    machines = LocalMachines(address)
    try:
        client = _client(distributed, machines.scheduler, timeout)
        client.wait_for_workers(machines.machines, timeout)
    except BaseException:
        machines.close()
        raise
    return Connection(client, True, address, machines)


class Connection:
    """A Dask client, and what has to be closed with it.

    client: the distributed.Client. own: whether close() closes it. address: for messages to the user. machines: the
    LocalMachines, if there are some.
    """

    def __init__(self, client, own, address, machines=None):
        if getattr(client, "_asynchronous", False):
            raise TypeError("a Client(asynchronous=True) has no thread of its own: give goproc.cluster a plain Client")
        self.client, self.address, self.machines = client, address, machines
        self._own = own
        self._loop = client.loop.asyncio_loop

    def run(self, coroutine, timeout=None):
        """Run a coroutine on the client's loop, and wait for it; return its result.

        Raises RuntimeError if the program has closed its Client.
        """
        if not self._loop.is_running():
            coroutine.close()
            raise RuntimeError(f"the client of the cluster {self.address} has been closed")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise

    async def workers(self):
        """Return the scheduler's information on its workers, by their addresses. Runs on the loop."""
        try:
            identity = await self.client.scheduler.identity(n_workers=-1)
        except TypeError:  # before distributed 2025.2
            identity = await self.client.scheduler.identity()
        return identity["workers"]

    def close(self):
        """Close the client, and end the local machines. Do nothing if the client is the program's."""
        if not self._own:
            return
        try:
            self.client.close(timeout=3)
        except Exception:
            pass  # the scheduler is gone
        if self.machines is not None:
            self.machines.close()
