"""The program of the processes of an address such as local:2x4: Dask's scheduler, or a Dask worker.

    python -m goproc._cluster.local_worker FOLDER scheduler PORT    prints the scheduler's address
    python -m goproc._cluster.local_worker FOLDER NAME CORES        a machine; reads the scheduler's address

Standard input is a pipe from the main program. When that ends, in whatever way, the pipe is closed, and so this process
ends, and removes FOLDER, which is for its files. Started by local.py.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import sys
import threading
import time
from typing import Any

import dask
import distributed

__all__ = ["main"]

#: Settings of Dask: no web pages, and no profiling.
_QUIET = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.worker.daemon": False,
}

#: Seconds that Dask has to remove its files when the main program has ended.
_PATIENCE = 2.0


def main(arguments: "list[str]") -> None:
    """Run a scheduler or a worker of Dask until the main program ends."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    folder, *arguments = arguments
    try:
        with dask.config.set({**_QUIET, "temporary-directory": folder}):
            asyncio.run(_serve(arguments, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _serve(arguments, folder):
    common: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": ":0"}
    server: distributed.Scheduler | distributed.Worker
    is_scheduler = arguments[0] == "scheduler"
    if is_scheduler:
        server = distributed.Scheduler(**{**common, "port": int(arguments[1])})
    else:
        name, cores = arguments
        address = open(0, "rb", buffering=0, closefd=False).readline().decode().strip()
        if not address:
            return  # the main program has ended
        server = distributed.Worker(address, name=name, nthreads=int(cores), memory_limit=0, **common)
    serving = asyncio.current_task()
    loop = asyncio.get_running_loop()
    threading.Thread(target=_wait_for_end, args=(loop, serving, folder), daemon=True).start()
    try:
        async with server:
            if is_scheduler:
                print(server.address, flush=True)
            await server.finished()
    except asyncio.CancelledError:
        pass  # the main program has ended


def _wait_for_end(loop, serving, folder):
    while os.read(0, 4096):
        pass
    with contextlib.suppress(RuntimeError):  # the loop has been closed: Dask's scheduler has ended this machine
        loop.call_soon_threadsafe(serving.cancel)
    time.sleep(_PATIENCE)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
