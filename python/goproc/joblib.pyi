# The public types of joblib.py, in a file of their own as those of pool.py. `make lint` compares the two files.

from collections.abc import Callable
from multiprocessing.context import BaseContext
from typing import Any

from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

__all__ = ["GoprocBackend", "register", "shutdown"]

class GoprocBackend(AutoBatchingMixin, ParallelBackendBase):
    supports_retrieve_callback: bool
    supports_inner_max_num_threads: bool
    parallel: Any
    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        *,
        context: str | BaseContext | None = None,
        idle_worker_timeout: float | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None: ...
    def effective_n_jobs(self, n_jobs: int | None) -> int: ...
    def configure(
        self, n_jobs: int = 1, parallel: Any = None, prefer: Any = None, require: Any = None, **options: Any
    ) -> int: ...
    def stop_call(self) -> None: ...
    def terminate(self) -> None: ...
    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Any: ...
    def apply_async(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Any: ...
    def retrieve_result_callback(self, out: Any) -> Any: ...
    def retrieval_context(self) -> Any: ...
    def abort_everything(self, ensure_ready: bool = True) -> None: ...

def register(
    name: str = "goproc", *, context: str | BaseContext | None = None, make_default: bool = False
) -> None: ...
def shutdown(wait: bool = True) -> None: ...
