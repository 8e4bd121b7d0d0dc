"""A cluster on this machine, for a first try: a process for Dask's scheduler, and one for each machine.

Used by address.py for addresses such as local:2x4.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

from .. import _native
from .._common.cpus import usable_cpu_count

__all__ = ["LocalMachines", "is_local"]

_PATTERN = re.compile(r"local(?::(\d+)(?:x(\d+))?)?$")

#: Seconds that the processes have to end by themselves.
_END = 4.0


def is_local(address: str) -> bool:
    """Whether an address is local, local:MACHINES or local:MACHINESxCORES. Raises ValueError if it is a wrong one."""
    if address != "local" and not address.startswith("local:"):
        return False
    _shape(address)
    return True


def _shape(address):
    found = _PATTERN.match(address)
    machines, cores = (int(part) if part else None for part in found.groups()) if found else (0, 0)
    if machines == 0 or cores == 0:
        raise ValueError(f"{address!r} is not an address: local:2x4 means two machines of four cores, on this machine")
    machines = machines or 1
    return machines, cores or max(1, usable_cpu_count() // machines)


class LocalMachines:
    """The cluster of an address local:MACHINESxCORES. It is ended by close(), and ends with this process.

    scheduler: the address of its Dask scheduler.
    """

    def __init__(self, address):
        self.machines, self.cores = _shape(address)
        self.address = address
        self.processes: list[subprocess.Popen] = []  # the scheduler's, and one for each machine
        self._folder = tempfile.mkdtemp(prefix="goproc-cluster-")  # the scheduler removes it if this process cannot
        try:
            process = self._start("scheduler", "0")
            machines = [self._start(f"machine-{number}", str(self.cores)) for number in range(self.machines)]
            assert process.stdout is not None
            self.scheduler = process.stdout.readline().decode().strip()
            if not self.scheduler:
                raise ConnectionError(f"the scheduler of {address} could not start; what it printed may say why")
            for machine in machines:
                self._tell(machine)
        except BaseException:
            self.close()
            raise

    def add(self, name, cores=None):
        """Start one more machine; return its process."""
        process = self._start(name, str(cores or self.cores))
        self._tell(process)
        return process

    def _tell(self, process):
        process.stdin.write(self.scheduler.encode() + b"\n")
        process.stdin.flush()

    def _start(self, *arguments):
        name = arguments[0]
        folder = self._folder if name == "scheduler" else os.path.join(self._folder, name)
        command = [sys.executable, "-m", "goproc._cluster.local_worker", folder, *arguments]
        path = os.pathsep.join(part or os.getcwd() for part in sys.path)
        environment = {**os.environ, "PYTHONPATH": path, "GOPROC_CLUSTER": "", "DASK_LOGGING__DISTRIBUTED": "critical"}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.processes.append(process)
        return process

    def close(self):
        """End the processes, and wait for their end."""
        for process in reversed(self.processes):
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
        deadline = _native.monotonic() + _END
        for process in self.processes:
            try:
                process.wait(max(0.0, deadline - _native.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()  # type: ignore[union-attr]
        self.processes.clear()
        shutil.rmtree(self._folder, ignore_errors=True)
