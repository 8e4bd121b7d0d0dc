"""The libraries that are compared, each as a class with the same operations.

`start` starts the machines, `open` connects with them and makes what the library calls a pool, `close` ends that, and
`end` ends the machines. The other operations are as those of ../peers.py. An operation is written as the library's
documentation recommends it. If a library cannot do an operation, its class has no such method.
"""

import importlib.util

from .machines import Machines


class DaskMachines:
    """What the libraries on Dask's machines share."""

    package = "distributed"

    def start(self, count):
        self.count = count
        self.machines = Machines(count)
        self.machines.wait()

    def end(self):
        self.machines.end()

    def scheduler_seconds(self):
        return self.machines.scheduler_seconds()


class GoprocPeer(DaskMachines):
    """goproc.cluster.Pool."""

    def open(self):
        from goproc import cluster

        self._pool = cluster.Pool(self.machines.path)

    def close(self):
        self._pool.close()
        self._pool.join()

    def one(self, function, item):
        return self._pool.apply(function, (item,))

    def one_by_one(self, function, items):
        return self._pool.map(function, items, chunksize=1)

    def map(self, function, items):
        return self._pool.map(function, items)

    def imap(self, function, items):
        return self._pool.imap(function, items)


class DaskPeer(DaskMachines):
    """Dask's Client.map, and gather."""

    def open(self):
        from distributed import Client

        self._client = Client(scheduler_file=self.machines.path)

    def close(self):
        self._client.close()

    def one(self, function, item):
        return self._client.submit(function, item, pure=False).result()

    def one_by_one(self, function, items):
        return self._client.gather(self._client.map(function, items, pure=False))

    map = one_by_one


class DaskExecutorPeer(DaskPeer):
    """The executor of Dask's Client.get_executor."""

    def open(self):
        super().open()
        self._executor = self._client.get_executor(pure=False)

    def close(self):
        self._executor.shutdown()
        super().close()

    def one(self, function, item):
        return self._executor.submit(function, item).result()

    def one_by_one(self, function, items):
        return list(self._executor.map(function, items))

    map = one_by_one


class RayPeer:
    """ray.util.multiprocessing.Pool."""

    package = "ray"

    def start(self, count):
        from ray.cluster_utils import Cluster

        self.count = count
        memory = {"object_store_memory": 3 << 30}
        self._cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **memory}
        )
        for _ in range(count - 1):
            self._cluster.add_node(num_cpus=1, **memory)
        self._cluster.wait_for_nodes()

    def end(self):
        self._cluster.shutdown()

    def scheduler_seconds(self):
        return 0.0  # each of its machines has a part of the scheduler

    def open(self):
        import ray
        from ray.util.multiprocessing import Pool

        self._ray = ray
        ray.init(address=self._cluster.address, log_to_driver=False, logging_level="ERROR")
        self._pool = Pool(self.count)

    def close(self):
        self._pool.close()
        self._pool.join()
        self._ray.shutdown()

    def one(self, function, item):
        return self._pool.apply(function, (item,))

    def one_by_one(self, function, items):
        return self._pool.map(function, items, chunksize=1)

    def map(self, function, items):
        return self._pool.map(function, items)


KINDS = {"goproc": GoprocPeer, "dask": DaskPeer, "dask executor": DaskExecutorPeer, "ray": RayPeer}

#: By library: what its column of the tables is called.
TITLES = {
    "goproc": "goproc",
    "dask": "Dask, `Client.map`",
    "dask executor": "Dask, `get_executor`",
    "ray": "Ray, its `Pool`",
}


def is_installed(library):
    return importlib.util.find_spec(KINDS[library].package) is not None
