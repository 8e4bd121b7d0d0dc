# The public names of goproc: multiprocessing's, and goproc's own. At run time multiprocessing's functions are methods
# of the default context (__init__.py). `make lint` compares the two files (stubtest). A submodule, such as goproc.pool,
# is imported when a program first accesses it.

from multiprocessing import process as process
from multiprocessing import reduction as reducer
from multiprocessing import reduction as reduction
from multiprocessing.context import AuthenticationError as AuthenticationError
from multiprocessing.context import BufferTooShort as BufferTooShort
from multiprocessing.context import ProcessError as ProcessError
from multiprocessing.context import TimeoutError as TimeoutError
from multiprocessing.process import active_children as active_children
from multiprocessing.process import current_process as current_process
from multiprocessing.process import parent_process as parent_process
from multiprocessing.queues import JoinableQueue as JoinableQueue  # classes for annotations, functions at run time
from multiprocessing.queues import Queue as Queue
from multiprocessing.queues import SimpleQueue as SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar, overload

from . import connection as connection
from . import context as context
from . import errors as errors
from . import forkserver as forkserver
from . import futures as futures
from . import heap as heap
from . import logging as logging
from . import managers as managers
from . import pool as pool
from . import popen_fork as popen_fork
from . import popen_forkserver as popen_forkserver
from . import popen_spawn_posix as popen_spawn_posix
from . import queues as queues
from . import resource_sharer as resource_sharer
from . import resource_tracker as resource_tracker
from . import shared_memory as shared_memory
from . import sharedctypes as sharedctypes
from . import spawn as spawn
from . import synchronize as synchronize
from . import util as util
from ._common.cpus import usable_cpu_count as usable_cpu_count
from .context import Process as Process
from .errors import AbandonedLockError as AbandonedLockError
from .errors import CancelledError as CancelledError
from .errors import ConsumerLostError as ConsumerLostError
from .errors import EngineError as EngineError
from .errors import MemoryLimitError as MemoryLimitError
from .errors import ProducerLostError as ProducerLostError
from .errors import TaskTimeoutError as TaskTimeoutError
from .errors import WorkerLostError as WorkerLostError
from .install import install as install

__all__ = [
    "AbandonedLockError",
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "CancelledError",
    "ConsumerLostError",
    "Condition",
    "EngineError",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "MemoryLimitError",
    "ProducerLostError",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "Shared",
    "SimpleQueue",
    "TaskTimeoutError",
    "TimeoutError",
    "Value",
    "WorkerLostError",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "install",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    "usable_cpu_count",
    "share",
]

_T = TypeVar("_T")

class Shared(Generic[_T]):
    @property
    def value(self) -> _T: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def get(self) -> _T: ...
    def close(self) -> None: ...
    def __enter__(self) -> Shared[_T]: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

@overload
def share(obj: Shared[_T]) -> Shared[_T]: ...
@overload
def share(obj: _T) -> Shared[_T]: ...

__version__: str
SUBDEBUG: int
SUBWARNING: int

Array = context._default_context.Array
Barrier = context._default_context.Barrier
BoundedSemaphore = context._default_context.BoundedSemaphore
Condition = context._default_context.Condition
Event = context._default_context.Event
Lock = context._default_context.Lock
Manager = context._default_context.Manager
Pipe = context._default_context.Pipe
Pool = context._default_context.Pool
RLock = context._default_context.RLock
RawArray = context._default_context.RawArray
RawValue = context._default_context.RawValue
Semaphore = context._default_context.Semaphore
Value = context._default_context.Value
allow_connection_pickling = context._default_context.allow_connection_pickling
cpu_count = context._default_context.cpu_count
freeze_support = context._default_context.freeze_support
get_all_start_methods = context._default_context.get_all_start_methods
get_context = context._default_context.get_context
get_logger = context._default_context.get_logger
get_start_method = context._default_context.get_start_method
log_to_stderr = context._default_context.log_to_stderr
set_executable = context._default_context.set_executable
set_forkserver_preload = context._default_context.set_forkserver_preload
set_start_method = context._default_context.set_start_method
