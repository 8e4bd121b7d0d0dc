"""concurrent.futures' ProcessPoolExecutor on the engine's pool. The implementation is in the folder _futures.

The other names are concurrent.futures' own: its functions wait for this executor's futures, too.
"""

from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    InvalidStateError,
    ThreadPoolExecutor,
    TimeoutError,
    as_completed,
    wait,
)

from ._futures.executor import LimitedExecutor, ProcessPoolExecutor
from ._futures.faults import BrokenProcessPool, WorkerLostError

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "BrokenExecutor",
    "BrokenProcessPool",
    "CancelledError",
    "Executor",
    "Future",
    "InvalidStateError",
    "LimitedExecutor",
    "ProcessPoolExecutor",
    "ThreadPoolExecutor",
    "TimeoutError",
    "WorkerLostError",
    "as_completed",
    "wait",
]
