# The public types of cluster.py, in a file of their own as those of pool.py. `make lint` compares the two files.

from collections.abc import Callable, Iterable
from multiprocessing.context import BaseContext
from typing import Any, Literal

from .pool import Pool as _Pool

__all__ = ["Pool"]

class Pool(_Pool):
    def __init__(
        self,
        # A distributed.Client or a Cluster of Dask, besides a str: distributed has no types.
        address: Any = None,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
        *,
        security: Any = None,
        start_method: Literal["forkserver", "spawn"] = "forkserver",
        lost_after: float = 8.0,
        reconnect_timeout: float = 60.0,
        log: bool = False,
        retries: int = 0,
        max_memory_per_child: int | None = None,
        threads: int | Literal["auto"] | None = "auto",
        nested: bool = False,
        pickler: Literal["pickle", "cloudpickle"] | None = None,
        max_memory_per_task: int | None = None,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = None,
        retry_delay: float | Callable[[int], float] | None = None,
        cancel_on_interrupt: bool = False,
    ) -> None: ...
