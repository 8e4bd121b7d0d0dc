"""A cluster of Dask on this machine: a scheduler, and worker processes that stand for machines of one core each."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ..alternation import with_benchmarks
from ..processor import clock

#: Seconds that the scheduler and all machines may take to be there.
PATIENCE = 60


class Machines:
    """A scheduler and `count` machines, as Dask's own commands start them. They end with end().

    path: the scheduler file. scheduler: the process id of the scheduler.
    """

    def __init__(self, count):
        self._folder = tempfile.TemporaryDirectory(prefix="goproc-bench-")
        self.path = os.path.join(self._folder.name, "scheduler.json")
        self._environment = {**with_benchmarks(), "DASK_TEMPORARY_DIRECTORY": self._folder.name}
        self._processes: list[subprocess.Popen] = []
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.scheduler = self._processes[0].pid
        for _ in range(count):
            self._start("worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard")

    def _start(self, what, *options):
        words = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--scheduler-file", self.path, *options]
        log = open(os.path.join(self._folder.name, f"{what}-{len(self._processes)}.log"), "wb")
        with log:
            self._processes.append(
                subprocess.Popen(
                    words,
                    cwd=self._folder.name,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )

    def wait(self):
        """Wait until all machines are there. Raises TimeoutError."""
        from distributed import Client

        deadline = time.monotonic() + PATIENCE
        while not os.path.exists(self.path):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no scheduler after {PATIENCE} s")
            time.sleep(0.02)
        with Client(scheduler_file=self.path, timeout=PATIENCE, set_as_default=False) as client:
            client.wait_for_workers(len(self._processes) - 1, timeout=PATIENCE)

    def scheduler_seconds(self):
        """Return the seconds of processor time that the scheduler has used."""
        return time.clock_gettime(clock(self.scheduler))

    def end(self):
        """End the machines, and then the scheduler."""
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._folder.cleanup()


def resident(pid):
    """Return the resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
