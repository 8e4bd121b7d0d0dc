"""A cluster of Dask for the tests: a scheduler and two workers of two threads, which run until the tests end."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["Cluster"]

#: Seconds until all of it must be there.
PATIENCE = 60


class Cluster:
    """path: the scheduler file. The machines do not have the folders of the tests in sys.path."""

    def __init__(self, machines=2, cores=2):
        self._folder = tempfile.TemporaryDirectory(prefix="goproc-cluster-")
        self.folder = Path(self._folder.name)
        self.path = str(self.folder / "scheduler.json")
        self.processes = []
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        for _ in range(machines):
            self.add(cores)

    def add(self, cores):
        """Start another machine; return the process of its Dask worker."""
        return self._start("worker", "--host", "127.0.0.1", "--nthreads", str(cores), "--no-nanny", "--no-dashboard")

    def _start(self, what, *options):
        words = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--scheduler-file", self.path, *options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOPROC", "PYTHON"))}
        environment["DASK_TEMPORARY_DIRECTORY"] = str(self.folder)
        with open(self.folder / f"{what}-{len(self.processes)}.log", "wb") as log:
            process = subprocess.Popen(
                words, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    @property
    def address(self):
        """The address of the scheduler, as soon as it has one."""
        deadline = time.monotonic() + PATIENCE
        while not os.path.exists(self.path):
            assert time.monotonic() < deadline, "the scheduler has not started"
            time.sleep(0.02)
        return json.loads(Path(self.path).read_text())["address"]

    def wait(self):
        """Wait until all machines are there."""
        code = (
            "import sys; from distributed import Client\n"
            "with Client(sys.argv[1], timeout=60) as client: client.wait_for_workers(int(sys.argv[2]), timeout=60)"
        )
        subprocess.run([sys.executable, "-c", code, self.address, str(len(self.processes) - 1)], check=True)

    def end(self):
        scheduler, *workers = self.processes
        self._end(workers)  # Dask may wait 30 s in a worker that is told to end while its scheduler ends
        self._end([scheduler])
        self._folder.cleanup()

    @staticmethod
    def _end(processes):
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
