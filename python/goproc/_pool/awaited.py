"""A pool's results in coroutines of asyncio: `await` of a result, and `async for`. Used by results.py.

Imported when a program first awaits a result, as asyncio is.
"""

import asyncio

from .._common.awaiting import until

__all__ = ["Results", "next_of", "result_of"]

#: After this number of results that had come already, the loop's other tasks run.
_MOST_AT_ONCE = 64


async def result_of(result):
    """Return the value of a result, or raise its exception; if the awaiting task is cancelled, cancel the result."""
    try:
        await until(result, result.ready, result._serve_watchers)
    except asyncio.CancelledError:
        result.cancel()
        raise
    return result.get()


async def next_of(iterator, report=None):
    """Return the next result of an IMapIterator; if the awaiting task is cancelled, cancel the iteration.

    report: counts the results (progress.py); None for no count.
    """
    if report is None:
        return await _next_of(iterator)
    taken = iterator._iteration._taken
    report.tell(report.taken())
    try:
        item = await _next_of(iterator)
    except BaseException as error:
        report.has_raised(error, taken)
        raise
    report.has_taken(item)
    return item


async def _next_of(iterator):
    iteration = iterator._iteration
    try:
        iteration.taken_at_once += 1
        if iteration.taken_at_once > _MOST_AT_ONCE:
            iteration.taken_at_once = 0
            await asyncio.sleep(0)
        while (outcome := iteration.take_now()) is None:
            iteration.taken_at_once = 0
            await until(iteration, lambda: iteration.done, iteration._serve_watchers)
    except asyncio.CancelledError:
        iterator.cancel()
        raise
    success, value = outcome
    if success:
        return value
    raise value


class Results:
    """The object that an `async for` over imap's iterator holds. If it is dropped, the rest of the job is cancelled."""

    def __init__(self, iterator):
        self._iterator = iterator
        iterator._when_dropped(self)

    def __aiter__(self):
        return self

    def __anext__(self):
        return self._iterator.__anext__()

    async def aclose(self):
        """Cancel the rest of the job."""
        self._iterator.cancel()
