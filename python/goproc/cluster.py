"""goproc.cluster: the same Pool on many machines, by a Dask cluster.

    from goproc.cluster import Pool

    with Pool("tcp://scheduler:8786") as pool:     # or "local:2x4": two machines of four cores, on this one
        results = pool.map(function, items)

Needs the package distributed: pip install "goproc[cluster]". The implementation is in the folder _cluster.
"""

from ._cluster.pool import Pool

__all__ = ["Pool"]
