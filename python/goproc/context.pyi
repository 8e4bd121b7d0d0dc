# The public types of context.py. Everything else has the types of multiprocessing's contexts.

import os
from collections.abc import Callable, Iterable
from multiprocessing import context as _standard
from multiprocessing import reduction as reduction
from multiprocessing import synchronize as _standard_locks
from multiprocessing.context import AuthenticationError as AuthenticationError
from multiprocessing.context import BufferTooShort as BufferTooShort
from multiprocessing.context import ProcessError as ProcessError
from multiprocessing.context import TimeoutError as TimeoutError
from multiprocessing.context import assert_spawning as assert_spawning
from multiprocessing.context import get_spawning_popen as get_spawning_popen
from multiprocessing.context import set_spawning_popen as set_spawning_popen
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar, Literal, TypeAlias, overload

from typing_extensions import Self

from . import synchronize as _synchronize
from .pool import Pool as _Pool

__all__ = ()

_Abandoned: TypeAlias = Literal["raise", "take", "keep"]

class BaseContext(_standard.BaseContext):
    Process: ClassVar[type[BaseProcess]]  # each context's class has one
    def Lock(self, *, abandoned: _Abandoned = "raise") -> _synchronize.Lock: ...
    def RLock(self, *, abandoned: _Abandoned = "raise") -> _synchronize.RLock: ...
    def Condition(
        self,
        lock: _standard_locks.Lock | _standard_locks.RLock | None = None,
        *,
        abandoned: _Abandoned = "raise",
    ) -> _synchronize.Condition: ...
    def Semaphore(self, value: int = 1) -> _synchronize.Semaphore: ...
    def BoundedSemaphore(self, value: int = 1, *, abandoned: _Abandoned = "raise") -> _synchronize.BoundedSemaphore: ...
    def Event(self) -> _synchronize.Event: ...
    def Barrier(
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> _synchronize.Barrier: ...
    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        *,
        retries: int = 0,
        max_memory_per_child: int | None = None,
        threads: int | Literal["auto"] | None = "auto",
        nested: bool = False,
        pickler: Literal["pickle", "cloudpickle"] | None = None,
        max_memory_per_task: int | None = None,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = None,
        retry_delay: float | Callable[[int], float] | None = None,
        cancel_on_interrupt: bool = False,
        log: bool = False,
    ) -> _Pool: ...
    def set_executable(self, executable: str | bytes | os.PathLike[str] | None) -> None: ...
    def set_forkserver_preload(
        self, module_names: list[str], *, on_error: Literal["ignore", "warn", "fail"] = "ignore"
    ) -> None: ...
    @overload  # type: ignore[override]  # returns goproc's contexts, which derive from the standard library's
    def get_context(self, method: None = None, *, pickler: Literal["pickle", "cloudpickle"] | None = None) -> Self: ...
    @overload
    def get_context(
        self, method: Literal["spawn"], *, pickler: Literal["pickle", "cloudpickle"] | None = None
    ) -> SpawnContext: ...
    @overload
    def get_context(
        self, method: Literal["fork"], *, pickler: Literal["pickle", "cloudpickle"] | None = None
    ) -> ForkContext: ...
    @overload
    def get_context(
        self, method: Literal["forkserver"], *, pickler: Literal["pickle", "cloudpickle"] | None = None
    ) -> ForkServerContext: ...
    @overload
    def get_context(self, method: str, *, pickler: Literal["pickle", "cloudpickle"] | None = None) -> BaseContext: ...

class _Awaitable:
    async def join_async(self, timeout: float | None = None) -> None: ...

class Process(_standard.Process, _Awaitable): ...
class ForkProcess(_standard.ForkProcess, _Awaitable): ...
class SpawnProcess(_standard.SpawnProcess, _Awaitable): ...
class ForkServerProcess(_standard.ForkServerProcess, _Awaitable): ...

class ForkContext(BaseContext, _standard.ForkContext):
    Process: ClassVar[type[ForkProcess]]

class SpawnContext(BaseContext, _standard.SpawnContext):
    Process: ClassVar[type[SpawnProcess]]

class ForkServerContext(BaseContext, _standard.ForkServerContext):
    Process: ClassVar[type[ForkServerProcess]]

class DefaultContext(BaseContext, _standard.DefaultContext):
    Process: ClassVar[type[Process]]
    def __init__(self) -> None: ...
    @overload  # type: ignore[override]  # typeshed says that it never returns None
    def get_start_method(self, allow_none: Literal[False] = False) -> str: ...
    @overload
    def get_start_method(self, allow_none: bool) -> str | None: ...

_default_context: DefaultContext
_concrete_contexts: dict[str, BaseContext]

def default_start_method() -> str: ...
def set_default_start_method(method: str) -> None: ...
