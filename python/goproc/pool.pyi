# The public types of pool.py. They are not in pool.py: generic classes need `import typing`, which takes longer than
# loading the engine. `make lint` compares the two files (stubtest).

from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping
from itertools import count
from multiprocessing.context import BaseContext
from multiprocessing.context import TimeoutError as TimeoutError
from multiprocessing.pool import ApplyResult as _ApplyResult
from multiprocessing.pool import IMapIterator as _IMapIterator
from multiprocessing.pool import MapResult as _MapResult
from multiprocessing.pool import Pool as _Pool
from multiprocessing.pool import ThreadPool as _ThreadPool
from types import TracebackType
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar, overload

from typing_extensions import Self

__all__ = ["Pool", "ThreadPool"]

_S = TypeVar("_S")
_T = TypeVar("_T")
_Progress: TypeAlias = bool | str | Callable[[int, int | None], object] | None
_ErrorCallback: TypeAlias = Callable[[BaseException], object] | None

INIT: str
RUN: str
CLOSE: str
TERMINATE: str
job_counter: count[int]

class _GetsTasks(Protocol):
    def get(self) -> Any: ...

class _PutsResults(Protocol):
    def put(self, obj: Any, /) -> object: ...

def worker(
    inqueue: _GetsTasks,
    outqueue: _PutsResults,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
    maxtasks: int | None = None,
    wrap_exception: bool = False,
) -> None: ...
def rebuild_exc(exc: BaseException, tb: str) -> BaseException: ...
def mapstar(args: tuple[Callable[[_S], _T], Iterable[_S]]) -> list[_T]: ...
def starmapstar(args: tuple[Callable[..., _T], Iterable[Iterable[Any]]]) -> list[_T]: ...

class MaybeEncodingError(Exception):
    exc: str
    value: str
    def __init__(self, exc: object, value: object) -> None: ...

class RemoteTraceback(Exception):
    tb: str
    def __init__(self, tb: str) -> None: ...

class ExceptionWithTraceback:
    exc: BaseException
    tb: str
    def __init__(self, exc: BaseException, tb: TracebackType | None) -> None: ...

class ApplyResult(_ApplyResult[_T]):
    def get(self, timeout: float | None = None) -> _T: ...
    def wait(self, timeout: float | None = None) -> None: ...
    def ready(self) -> bool: ...
    def cancel(self) -> bool: ...
    def __await__(self) -> Generator[Any, Any, _T]: ...

AsyncResult = ApplyResult

class MapResult(ApplyResult[list[_T]], _MapResult[_T]): ...

# With a chunksize above 1, imap returns an object of another class, which has the same methods.
class IMapIterator(_IMapIterator[_T]):
    def next(self, timeout: float | None = None) -> _T: ...
    def __next__(self, timeout: float | None = None) -> _T: ...
    def cancel(self) -> bool: ...
    def __aiter__(self) -> AsyncIterator[_T]: ...
    async def __anext__(self) -> _T: ...
    async def aclose(self) -> None: ...

class IMapUnorderedIterator(IMapIterator[_T]): ...

class StreamIterator(IMapIterator[tuple[int, _T]]):
    ITEMS_AHEAD: ClassVar[int]
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

class Pool(_Pool):
    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
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
    ) -> None: ...
    def apply(
        self,
        func: Callable[..., _T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        *,
        timeout: float | None = None,
        retries: int = ...,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = ...,
        retry_delay: float | Callable[[int], float] | None = ...,
    ) -> _T: ...
    def apply_async(
        self,
        func: Callable[..., _T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[_T], object] | None = None,
        error_callback: _ErrorCallback = None,
        *,
        timeout: float | None = None,
        retries: int = ...,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = ...,
        retry_delay: float | Callable[[int], float] | None = ...,
    ) -> AsyncResult[_T]: ...
    @overload
    def map(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = None,
        *,
        task_timeout: float | None = None,
        retries: int = ...,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = ...,
        retry_delay: float | Callable[[int], float] | None = ...,
        return_exceptions: Literal[False] = False,
        progress: _Progress = None,
    ) -> list[_T]: ...
    @overload
    def map(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = None,
        *,
        task_timeout: float | None = None,
        retries: int = ...,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = ...,
        retry_delay: float | Callable[[int], float] | None = ...,
        return_exceptions: bool,
        progress: _Progress = None,
    ) -> list[_T | BaseException]: ...
    @overload
    def starmap(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        task_timeout: float | None = None,
        retries: int = ...,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = ...,
        retry_delay: float | Callable[[int], float] | None = ...,
        return_exceptions: Literal[False] = False,
        progress: _Progress = None,
    ) -> list[_T]: ...
    @overload
    def starmap(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        task_timeout: float | None = None,
        retries: int = ...,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = ...,
        retry_delay: float | Callable[[int], float] | None = ...,
        return_exceptions: bool,
        progress: _Progress = None,
    ) -> list[_T | BaseException]: ...
    @overload
    def map_async(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: _ErrorCallback = None,
        *,
        task_timeout: float | None = None,
        retries: int = ...,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = ...,
        retry_delay: float | Callable[[int], float] | None = ...,
        return_exceptions: Literal[False] = False,
    ) -> MapResult[_T]: ...
    @overload
    def map_async(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = None,
        callback: Callable[[list[_T | BaseException]], object] | None = None,
        error_callback: _ErrorCallback = None,
        *,
        task_timeout: float | None = None,
        retries: int = ...,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = ...,
        retry_delay: float | Callable[[int], float] | None = ...,
        return_exceptions: bool,
    ) -> MapResult[_T | BaseException]: ...
    @overload
    def starmap_async(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: _ErrorCallback = None,
        *,
        task_timeout: float | None = None,
        retries: int = ...,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = ...,
        retry_delay: float | Callable[[int], float] | None = ...,
        return_exceptions: Literal[False] = False,
    ) -> MapResult[_T]: ...
    @overload
    def starmap_async(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[_T | BaseException]], object] | None = None,
        error_callback: _ErrorCallback = None,
        *,
        task_timeout: float | None = None,
        retries: int = ...,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = ...,
        retry_delay: float | Callable[[int], float] | None = ...,
        return_exceptions: bool,
    ) -> MapResult[_T | BaseException]: ...
    def imap(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = 1,
        buffersize: int | None = None,
        *,
        prefetch: int | None = None,
        task_timeout: float | None = None,
        progress: _Progress = None,
        retries: int = ...,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = ...,
        retry_delay: float | Callable[[int], float] | None = ...,
    ) -> IMapIterator[_T]: ...
    def imap_unordered(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = 1,
        buffersize: int | None = None,
        *,
        prefetch: int | None = None,
        task_timeout: float | None = None,
        progress: _Progress = None,
        retries: int = ...,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = ...,
        retry_delay: float | Callable[[int], float] | None = ...,
    ) -> IMapIterator[_T]: ...
    def stream(
        self,
        func: Callable[[_S], Iterable[_T]],
        iterable: Iterable[_S],
        *,
        prefetch: int | None = None,
        task_timeout: float | None = None,
    ) -> StreamIterator[_T]: ...
    def close(self) -> None: ...
    def terminate(self) -> None: ...
    def join(self) -> None: ...
    async def join_async(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None: ...

# ThreadPool's methods are the standard library's, so they have no argument timeout or task_timeout.
class ThreadPool(_ThreadPool, Pool):
    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None: ...
    def apply(  # type: ignore[override]
        self, func: Callable[..., _T], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}
    ) -> _T: ...
    def apply_async(  # type: ignore[override]
        self,
        func: Callable[..., _T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[_T], object] | None = None,
        error_callback: _ErrorCallback = None,
    ) -> AsyncResult[_T]: ...
    def map(  # type: ignore[override]
        self, func: Callable[[_S], _T], iterable: Iterable[_S], chunksize: int | None = None
    ) -> list[_T]: ...
    def starmap(  # type: ignore[override]
        self, func: Callable[..., _T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[_T]: ...
    def map_async(  # type: ignore[override]
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: _ErrorCallback = None,
    ) -> MapResult[_T]: ...
    def starmap_async(  # type: ignore[override]
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: _ErrorCallback = None,
    ) -> MapResult[_T]: ...
    # With a chunksize above 1, the iterator has no cancel().
    def imap(  # type: ignore[override]
        self, func: Callable[[_S], _T], iterable: Iterable[_S], chunksize: int | None = 1
    ) -> _IMapIterator[_T]: ...
    def imap_unordered(  # type: ignore[override]
        self, func: Callable[[_S], _T], iterable: Iterable[_S], chunksize: int | None = 1
    ) -> _IMapIterator[_T]: ...
