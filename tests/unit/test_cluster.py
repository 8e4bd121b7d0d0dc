"""goproc.cluster: the same Pool on the machines of a Dask cluster. Here the machines are processes of this machine."""

import os

import cluster_targets as targets
import pytest

pytest.importorskip("distributed", reason="goproc.cluster needs distributed")

from goproc import cluster  # noqa: E402


@pytest.fixture
def pool(client):
    with cluster.Pool(client) as pool:
        yield pool
    pool.join()


def test_map(pool):
    assert pool.map(targets.double, range(1000)) == [2 * i for i in range(1000)]
    assert pool.map(targets.double, range(100), chunksize=1) == [2 * i for i in range(100)]
    assert os.getpid() not in pool.map(targets.pid, range(20), chunksize=1)
