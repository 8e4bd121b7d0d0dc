"""A pool on a cluster object of Dask, one of whose machines is killed. Arguments: the kind of object, and a file.

PYTHONPATH must have the folder of cluster_targets and helpers.
"""

import os
import signal
import sys
from pathlib import Path

import cluster_targets as targets
import distributed
from cluster_targets import pids
from distributed.deploy.subprocess import SubprocessCluster
from helpers import wait_until

import goproc
from goproc import cluster


def local():
    """Workers below nannies, in processes of multiprocessing; the scheduler is a thread of this process."""
    return distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")


def programs():
    """The scheduler and the workers are programs, each with a nanny: as with SSHCluster, but without ssh."""
    scheduler, worker = {"dashboard_address": ":0"}, {"dashboard": False}
    return SubprocessCluster(n_workers=2, threads_per_worker=1, scheduler_kwargs=scheduler, worker_kwargs=worker)


if __name__ == "__main__":
    kind, ran = sys.argv[1], Path(sys.argv[2])
    with {"local": local, "programs": programs}[kind]() as machines, cluster.Pool(machines) as pool:
        wait_until(lambda: len(pids(pool)) == 2)
        machine = targets.parent(pool.apply(os.getppid))  # the fork server's parent is the process of Dask's worker
        results = [pool.apply_async(targets.note, (str(ran), number, 0.02)) for number in range(100)]
        wait_until(lambda: len(targets.noted(ran)) > 10)
        os.kill(machine, signal.SIGKILL)
        lost = 0
        for number, result in enumerate(results):
            try:
                assert result.get(60) == number
            except goproc.WorkerLostError as error:
                assert "is lost: its process has ended" in str(error), error
                if kind == "local":  # its machines are numbered from 0
                    assert error.machine.startswith(("0 (tcp://", "1 (tcp://")), error.machine
                lost += 1
        assert 1 <= lost <= 20
        wait_until(lambda: len(pids(pool)) == 2)  # the nanny has restarted it
    assert max(targets.noted(ran).values()) == 1
