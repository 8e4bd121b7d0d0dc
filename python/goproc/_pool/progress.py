"""Shows how many items of a map are done: by tqdm, by rich, or by a function of the program.

The thread that waits for the results, or iterates over them, tells. It is told at most 100 times a second, and at the
end. Used by engine_pool.py, results.py and _futures, which import it for `progress=` only.
"""

import sys
import weakref

from .. import _native
from ..errors import CancelledError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # as in results.py

__all__ = ["checked", "follow", "of_iterator", "total_of"]

#: The least time between two reports, and the longest wait for a further result of a map, in seconds.
_LEAST, _LONGEST = 0.01, 0.05

_MISSING = "progress=True and a description need tqdm or rich: pip install 'goproc[progress]', or pass a function"


def checked(progress):
    """Return a function that makes a Report for a total; None if no progress is wanted.

    Raises TypeError for what is neither a bool, a description nor a function; ImportError if there is no library.
    """
    if progress is None or progress is False:
        return None
    if progress is not True and not isinstance(progress, str):
        if not callable(progress):
            raise TypeError(
                f"progress must be True, a description (str) or a function of (done, total), not {progress!r}"
            )
        return lambda total, cls=Report: cls(total, _Function(progress, total))
    make = _bar_class()
    if progress is True and not _is_notebook() and not _is_terminal():
        return None
    return lambda total, cls=Report: cls(total, make(total, None if progress is True else progress))


def total_of(*iterables):
    """Return the number of items that iterables have in parallel; None if it is not known."""
    try:
        return min(len(iterable) for iterable in iterables)
    except (TypeError, ValueError):
        return None


class Report:
    """The count of one job.

    total: the number of items, None if it is not known. show: an object with show(done, failed) and close().
    """

    _show: "Any" = None  # for __del__

    def __init__(self, total, show, cancel=None):
        self._total = total
        self._cancel = cancel
        self.done = self.failed = 0
        self.due = 0.0  # when the next call of tell() is worth its time
        self._shown = None if total == 0 else (0, 0)
        self._show = show

    def tell(self, done, failed=0):
        """Tell how many items are done. failed: how many more have failed."""
        self.due = _native.monotonic() + _LEAST
        self.done = done if self._total is None else min(done, self._total)
        self.failed += failed
        state = self.done, self.failed
        if state != self._shown and self._show is not None:
            self._shown = state
            try:
                self._show.show(*state)
            except BaseException:  # of the program's function
                self.stop()
                if self._cancel is not None:
                    self._cancel()
                raise

    def close(self, done=None):
        """Tell the last count, and close the bar. A second call does nothing."""
        try:
            self.tell(self.done if done is None else done)
        finally:
            self.stop()

    def stop(self):
        """Close the bar, without a further call of the program's function."""
        show, self._show = self._show, None
        if show is not None:
            show.close()

    __del__ = stop  # of an abandoned iterator

    def raised(self, error, counts, done, failed):
        """Tell that an iterator has raised error. counts: whether error is the outcome of a task of `failed` items."""
        if isinstance(error, (StopIteration, StopAsyncIteration)):
            self.close(done)
        elif not isinstance(error, Exception) or isinstance(error, CancelledError):
            self.stop()
        elif counts:
            self.tell(done, failed)

    def before_wait(self, done, waiter, dispatch, timeout):
        """Tell the count before a thread waits for the next result, unless the result comes very soon."""
        if done != self.done:
            left = self.due - _native.monotonic()
            if left > 0 and (timeout is None or timeout > left):
                dispatch.wait(waiter, left)
                if waiter.done:
                    return
            self.tell(done)


class OfIterator(Report):
    """The count of an iterator of imap."""

    def __init__(self, total, show, iterator):
        self._iteration = iterator._iteration if hasattr(iterator, "_iteration") else iterator._chunks._iteration
        self._in_chunks = self._iteration is not vars(iterator).get("_iteration")
        self._items = 0
        super().__init__(total, show, self._iteration.cancel)
        self._iteration._report = weakref.ref(self)  # only the iterator holds it: when it is dropped, the bar is closed

    def taken(self):
        """Return how many items have been taken."""
        if self._in_chunks:
            return self._items
        taken, end = self._iteration._taken, self._iteration._error_at
        return taken if end is None else min(taken, end)  # the exception of reading the input is no item

    def wait(self, timeout):
        """Tell the count before the iteration waits for a result."""
        self.before_wait(self.taken(), self._iteration, self._iteration._dispatch, timeout)

    def take_chunk(self, chunks, timeout):
        """Return chunks.next(timeout), and count its items."""
        before = self._iteration._taken
        if _native.monotonic() >= self.due:
            self.tell(self._items)
        try:
            chunk = chunks.next(timeout)
        except BaseException as error:
            self.has_raised(error, before)
            raise
        self._items += len(chunk)
        return chunk

    def has_taken(self, result):
        """Count a result that a coroutine has taken: an item, or a chunk."""
        if self._in_chunks:
            self._items += len(result)

    def has_raised(self, error, before):
        """Tell that the iteration has raised error. before: how many results had been taken before."""
        failed, iteration = 0, self._iteration
        counts = iteration._taken != before and iteration._error_at is None
        if counts and not isinstance(error, CancelledError):
            failed = iteration._chunksize
            self._items += failed
        self.raised(error, counts, self.taken(), failed)


def of_iterator(make, iterator, total):
    """Give an iterator of imap its count. make: what checked() has returned."""
    iterator._report = make(total, lambda total, show: OfIterator(total, show, iterator))


def follow(result, make):
    """Return result.get() of a MapResult, and report meanwhile. make: what checked() has returned."""
    report = None
    try:
        report = make(result._input_length)
        step = _Step(result)
        while not result.done:
            step.left = result._left
            step.due = report.due
            result._dispatch.wait(step, _LONGEST)
            done, report.failed = _state(result)
            report.tell(done)
        done, report.failed = _state(result)
        report.close(done)
    except BaseException as error:
        if report is not None:
            report.stop()
        keeps = isinstance(error, KeyboardInterrupt) and not getattr(result._pool, "_cancel_on_interrupt", False)
        if not result.done and not keeps:
            result.cancel()  # the program's function has raised, or it was Ctrl-C
        raise
    return result.get()


def _state(result):
    """Return how many items of a MapResult are done, and how many of them have failed."""
    size, length = result._chunksize, result._input_length
    done = (result._chunks - result._left) * size
    if done and result._received[-1]:
        done -= result._chunks * size - length  # the last chunk may be smaller
    return min(max(done, 0), length), result._failed


class _Step:
    """The waiter of a thread that follows a MapResult: done after a further result, as soon as a report is due."""

    def __init__(self, result):
        self._result, self._job = result, result._job
        self.left, self.due = 0, 0.0

    @property
    def done(self):
        result = self._result
        return result.done or result._left != self.left and _native.monotonic() >= self.due


class _Function:
    """The program's function."""

    def __init__(self, function, total):
        self._function, self._total = function, total

    def show(self, done, failed):
        self._function(done, self._total)

    def close(self):
        pass


class _Tqdm:
    def __init__(self, total, description):
        from tqdm.std import tqdm

        if _is_notebook():
            from tqdm.auto import tqdm
        # No thread of tqdm's, and no lock of multiprocessing's, for which it would start processes.
        members: dict = {"monitor_interval": 0}
        if not hasattr(tqdm, "_lock"):
            import threading

            members["_lock"] = threading.RLock()
        self._bar = type("tqdm", (tqdm,), members)(total=total, desc=description, file=sys.stderr)

    def show(self, done, failed):
        if failed:
            self._bar.set_postfix(failed=failed, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self):
        self._bar.close()


class _Rich:
    def __init__(self, total, description):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False)
        self._description = description or ""
        self._task = self._bar.add_task(self._description, total=total)
        self._bar.start()
        self._next = 0.0

    def show(self, done, failed):
        text = f"{self._description} ({failed} failed)".lstrip() if failed else self._description
        self._bar.update(self._task, completed=done, description=text)
        if (now := _native.monotonic()) >= self._next:
            self._next = now + 0.1
            self._bar.refresh()

    def close(self):
        self._bar.refresh()
        self._bar.stop()


def _bar_class():
    from importlib.util import find_spec

    for name, bar in (("tqdm", _Tqdm), ("rich", _Rich)):
        if (sys.modules[name] if name in sys.modules else find_spec(name)) is not None:
            return bar
    raise ImportError(_MISSING)


def _is_terminal():
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False  # there is none, or it is closed


def _is_notebook():
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", ())
