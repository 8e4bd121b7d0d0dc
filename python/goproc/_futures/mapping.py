"""map() of an executor. Used by executor.py.

A map is one job of the engine's pool, with a task for each item or chunk. So its items need no future each, and small
ones travel in batches, as those of Pool.imap. by_submit() is for maps that must call submit(): when a program has
overridden it, and with a buffersize.
"""

import itertools
import weakref
from collections import deque
from functools import partial

from .. import _native
from .._common import disabled, stdlib
from .._pool.codec import ITEM, MAP, STARMAP, once
from .._pool.inputs import COLLECTIONS
from .._pool.repeats import Repeats, with_buffers
from .._pool.results import job_counter
from .._pool.submitter import batch_size
from .faults import of_executor

__all__ = ["by_submit", "checked", "counted", "report", "start"]

_base = stdlib.futures_base()
_TAKEN = (True, None)


def checked(chunksize, buffersize):
    """Check the arguments of map(). Raises ValueError or TypeError as concurrent.futures does."""
    if chunksize < 1:
        raise ValueError("chunksize must be >= 1.")
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")


def report(progress, iterables):
    """Return the Report of a map; None if no progress is shown. See _pool/progress.py."""
    from .._pool.progress import checked, total_of

    make = checked(progress)
    return None if make is None else make(total_of(*iterables) if iterables else 0)


def counted(results, report):
    """Yield the results, hold none of them meanwhile, and count them in the Report."""
    taken: list = []
    done = 0
    try:
        while True:
            try:
                taken.append(next(results))
            except StopIteration:
                break
            except Exception:
                report.tell(done + 1, 1)
                raise
            done += 1
            report.tell(done)
            yield taken.pop()
        report.close()
    finally:
        report.stop()
        results.close()


def start(works, func, iterables, timeout, chunksize, limit, retries, policy, report=None):
    """Submit all tasks of a map; return the iterator of its results.

    timeout: after that many seconds from now on, the iterator raises TimeoutError; None for never. limit, retries,
    policy: of each task, as for Works.submit. report: counts the items; None for no count.
    """
    deadline = None if timeout is None else timeout + _native.monotonic()
    job = _Map(works, func, chunksize)
    if policy is not None:
        works.run_again()
        job._retry = policy
    works.results[job._job] = job
    try:
        job.submit(iterables, limit, retries)
    except Exception as error:  # of an iterable: what was read before it is run, as with concurrent.futures
        works.refuse(error)
        raise
    except BaseException:
        works.forget(job)
        raise
    finally:
        job.all_submitted()
    return _results(job, deadline, chunksize > 1) if report is None else _shown(job, deadline, chunksize, report)


def _results(job, deadline, in_chunks):
    """Yield the results of a map, and hold none of them meanwhile."""
    try:
        for index in range(job.length):
            if in_chunks:
                values = job.take(index, deadline)
                values.reverse()
                while values:
                    yield values.pop()
            else:
                yield job.take(index, deadline)
    finally:
        job.drop()


def _shown(job, deadline, chunksize, report):
    """Do what _results() does, and count the items in the Report."""
    done, outcomes, monotonic = 0, job.outcomes, _native.monotonic
    try:
        for index in range(job.length):
            if monotonic() >= report.due:
                report.tell(done)
            if outcomes[index] is None:
                job.look_at(index)
                report.before_wait(done, job, job.dispatch, None)
            try:
                if chunksize > 1:
                    values = job.take(index, deadline)
                else:
                    values = [job.take(index, deadline)]
            except Exception:
                if outcomes[index] is not None:  # else the time is over
                    report.tell(done + chunksize, chunksize)
                raise
            done += len(values)
            values.reverse()
            while values:
                yield values.pop()
        report.close(done)
    finally:
        report.stop()
        job.drop()


class _Map:
    """One call of map. The pool holds it among its results until all tasks are complete.

    chunksize: the number of items in a task.
    """

    _limit = _note = _retry = None  # as of the pool's results
    _held: "dict[int, list[object]]" = {}

    def __init__(self, works, func, chunksize):
        self._works = works
        self._func = func
        self._chunksize = chunksize
        self._job = next(job_counter)
        self._outcomes = []  # of each task that was submitted: (success, value); None until it has come
        self._left = 0  # how many have not come
        self._open = True  # whether more tasks will be submitted
        self._at = 0  # the task whose outcome is waited for
        self._star = False
        self._repeats = None

    @property
    def func(self):
        """The function of all calls; None when the map is complete."""
        return self._func

    @property
    def length(self):
        """How many tasks there are."""
        return len(self._outcomes)

    @property
    def done(self):
        """Whether the outcome that is waited for has come."""
        return self._outcomes[self._at] is not None

    def submit(self, iterables, limit, retries):
        """Read the iterables, and submit the tasks."""
        works, chunksize = self._works, self._chunksize
        self._star = len(iterables) != 1
        how = STARMAP if self._star else ITEM if chunksize == 1 else MAP
        size = 1
        one_by_one = works.one_by_one or retries or limit is not None or self._retry is not None
        if not one_by_one and all(type(iterable) in COLLECTIONS for iterable in iterables):
            size = batch_size((), chunksize)
        name = once(self._func, works.submitter.form)
        units = _units(iterables, how, chunksize)
        if "repeats" not in disabled:
            name = with_buffers(name)
            self._repeats = Repeats(name, works._workers)
        while batch := list(itertools.islice(units, size)):
            index = len(self._outcomes)
            self._left += len(batch)
            self._outcomes += [None] * len(batch)
            if limit is not None:
                works.submitter.limit(self, index, limit)
            if retries:
                works.crew.control.retry(self._job, index, retries)
            works.submitter.submit_batch(self, index, name, batch, how)
            if works.growing:
                works.grow()

    def all_submitted(self):
        """Note that no more tasks will be submitted."""
        self._open = False
        self._works.submitted.add(self.length)
        self._leave_if_complete()

    @property
    def dispatch(self):
        """The Dispatch that delivers the outcomes."""
        return self._works.dispatch

    @property
    def outcomes(self):
        """The outcomes of all tasks; None for each that has not come."""
        return self._outcomes

    def look_at(self, index):
        """Make `done` be about this task."""
        self._at = index

    def take(self, index, deadline):
        """Return the result of a task, once; or raise its exception."""
        outcomes = self._outcomes
        if outcomes[index] is None:
            self._at = index
            self._works.dispatch.wait(self, None if deadline is None else deadline - _native.monotonic())
            if outcomes[index] is None:
                raise _base.TimeoutError()
        success, value = outcomes[index]
        outcomes[index] = _TAKEN
        if not success:
            value = of_executor(value)
            try:
                raise value
            finally:
                del value  # else the exception's traceback would hold the exception
        return value[0] if self._star and self._chunksize == 1 else value

    def drop(self):
        """Withdraw the tasks that have not begun: no further result will be taken. Those that run go on."""
        if self._left:
            self._works.withdraw_pending(self)
        self._outcomes = [_TAKEN if outcome else outcome for outcome in self._outcomes]

    # As in the pool's results: if a signal handler raises in one of these methods, it is called again.

    def _set(self, index, outcome):
        if self._repeats is not None and self._repeats.again(self._works._port, self._job, index, outcome):
            return
        first, count = index if type(index) is tuple else (index, 1)  # a tuple: a batch that was withdrawn
        for i in range(first, first + count):
            if self._outcomes[i] is None:
                if self._held:
                    self._held.pop(i, None)
                self._outcomes[i] = outcome
                self._left -= 1
        self._leave_if_complete()

    def _fail(self, error):
        for i in range(len(self._outcomes)):
            self._set(i, (False, error))

    def _leave_if_complete(self):
        if not self._left and not self._open:
            self._works.results.pop(self._job, None)
            self._func = self._repeats = None
            self._held = {}


def _units(iterables, how, chunksize):
    """Return an iterator over the inputs of tasks: an item, or a tuple of items. Two iterables are read in parallel."""
    if how == ITEM:
        return iter(iterables[0])
    items = zip(*iterables, strict=False) if how == STARMAP else iter(iterables[0])
    return iter(lambda: tuple(itertools.islice(items, chunksize)), ())


def by_submit(executor, submit, func, iterables, timeout, chunksize, buffersize):
    """Do a map by calling submit() for each chunk. buffersize: how many chunks are submitted ahead; None for all."""
    deadline = None if timeout is None else timeout + _native.monotonic()
    process = partial(stdlib.process_chunk(), func)
    chunks = _units(iterables, STARMAP, chunksize)
    futures = deque(submit(process, chunk) for chunk in itertools.islice(chunks, buffersize))
    # The results are yielded by another function, so that tasks are submitted before the first result is asked for.
    return _results_of(futures, chunks, process, weakref.ref(executor), deadline)


def _results_of(futures, chunks, process, executor_ref, deadline):
    try:
        while futures:
            if (executor := executor_ref()) is not None:
                for chunk in itertools.islice(chunks, 1):
                    futures.append(executor.submit(process, chunk))
            del executor
            values = _result_of(futures.popleft(), deadline)
            values.reverse()
            while values:
                yield values.pop()
    finally:
        for future in futures:
            _cancel_pending(future)


def _result_of(future, deadline):
    try:
        return future.result(None if deadline is None else deadline - _native.monotonic())
    finally:
        _cancel_pending(future)
        del future


def _cancel_pending(future):
    """Cancel a future of a map if it has not begun."""
    getattr(future, "_cancel_pending", future.cancel)()
