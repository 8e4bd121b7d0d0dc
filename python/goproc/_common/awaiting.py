"""Awaiting in coroutines of asyncio: a pool's result, the end of a process, a call that blocks.

    await result ──▶ a future of the running loop, in result._watchers ◀── the pool's thread: notify(result)
    await process.join_async() ──▶ loop.add_reader() of a descriptor that is readable when the process has ended

No thread waits. Results are collected by the pool's own thread, and a process by the loop. A call that blocks, such as
Pool.terminate(), has a thread of its own for as long as it runs (InThread).

Used by _pool and context.py, which import it when a program first awaits. docs/design/asyncio.md says why.
"""

import asyncio
import posix
import select
from collections import deque

from .. import _native
from .threads import OwnThread

__all__ = ["InThread", "notify", "process_ended", "until"]

#: The longest pause between two looks at a process that has no descriptor to wait for, in seconds.
_LONGEST = 0.01


async def until(watched, is_done, check=None):
    """Wait in the running loop until is_done(). The code that makes it true calls notify(watched) afterwards.

    check: called when this coroutine has become a watcher; it may raise, or complete what is watched.
    """
    loop = asyncio.get_running_loop()
    while not is_done():
        future = loop.create_future()
        watcher = (loop, future)
        watchers = watched.__dict__.setdefault("_watchers", deque())
        watchers.append(watcher)
        try:
            # Another thread first completes `watched`, and then notifies watchers. So it finds this one, or is_done().
            if check is not None:
                check()
            if not is_done():
                await future
        finally:
            try:
                watchers.remove(watcher)
            except ValueError:
                pass  # notify() has removed it


def notify(watched):
    """Let all who wait in until() check again. Called in any thread; does nothing if nobody waits."""
    watchers = watched._watchers
    while watchers:
        try:
            loop, future = watchers.popleft()
        except IndexError:
            return  # another thread, or a watcher itself, has removed the last one
        try:
            loop.call_soon_threadsafe(_wake, future)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more


def _wake(future):
    if not future.done():
        future.set_result(None)


class InThread:
    """A call that blocks, in a thread of its own. Any number of coroutines, of any loops, may wait for it.

    function: is called at once, without arguments. The thread holds it until the call has ended.
    """

    _watchers = None

    def __init__(self, name, function):
        self._function = function
        self._error = None
        self._ended = False
        OwnThread(name, self._run).start()

    def _run(self):
        try:
            self._function()
        except BaseException as error:
            self._error = error
        self._function = None
        self._ended = True
        notify(self)

    @property
    def has_ended(self):
        return self._ended

    async def wait(self):
        """Wait for the end; raise what the function has raised."""
        await until(self, lambda: self._ended)
        if self._error is not None:
            raise self._error

    async def wait_even_if_cancelled(self):
        """Like wait(). If the waiting task is cancelled, wait nevertheless, and raise CancelledError after that."""
        cancelled = None
        while not self._ended:
            try:
                await until(self, lambda: self._ended)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        await self.wait()


class _Sentinel:
    """What one loop watches for all its tasks that wait for the end of one process.

    The loop is given an epoll descriptor with a duplicate of the sentinel in it. So the program may close the process
    object meanwhile. It may also have a reader of its own for the sentinel, although a loop allows only one for each
    descriptor. And uvloop makes descriptors that it watches non-blocking, which must not happen to the sentinel.
    """

    def __init__(self, loop, sentinel):
        self._loop = loop
        self._futures = set()
        self._duplicate = posix.dup(sentinel)
        try:
            self._epoll = select.epoll(1)
        except BaseException:
            posix.close(self._duplicate)
            raise
        try:
            self._epoll.register(self._duplicate, select.EPOLLIN)
            loop.add_reader(self._epoll.fileno(), self._ended)
        except BaseException:
            self._release()
            raise

    def _ended(self):
        self._loop.remove_reader(self._epoll.fileno())
        for future in self._futures:
            _wake(future)

    def _release(self):
        self._epoll.close()
        posix.close(self._duplicate)

    async def wait(self, timeout):
        """Wait for the end, for at most timeout seconds; None for no limit."""
        future = self._loop.create_future()
        self._futures.add(future)
        try:
            if not self._epoll.poll(0):
                await asyncio.wait([future], timeout=timeout)
        finally:
            self._futures.discard(future)
            future.cancel()

    def leave(self):
        """If nobody waits any more, close the descriptors and return True."""
        if self._futures:
            return False
        if not self._loop.is_closed():
            self._loop.remove_reader(self._epoll.fileno())
        self._release()
        return True


async def process_ended(popen, timeout):
    """Wait until a process has ended and its exit code is known, for at most timeout seconds; None for no limit.

    popen: the process's Popen. Where there is no descriptor to wait for, the exit code is polled.
    """
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else _native.monotonic() + timeout
    sentinels = popen.__dict__.setdefault("_watched", {})
    if popen.poll() is not None:
        return
    try:
        sentinel = sentinels.get(loop)
        if sentinel is None and getattr(popen, "_has_sentinel", bool)():
            sentinel = sentinels[loop] = _Sentinel(loop, popen.sentinel)
    except (OSError, NotImplementedError):
        sentinel = None  # no descriptor is left, or the loop takes none
    if sentinel is not None:
        try:
            await sentinel.wait(timeout)
        finally:
            if sentinel.leave():
                sentinels.pop(loop, None)
    # The sentinel of a fork server's child may be readable before the server has sent the exit code.
    pause = 0.00005
    while popen.poll() is None and (deadline is None or _native.monotonic() < deadline):
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST)
