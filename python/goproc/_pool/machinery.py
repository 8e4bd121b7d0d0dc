"""The parts behind one of the engine's pools: how they are made, and how they end. Used by engine_pool.py and _futures.

A pool and an executor have the same parts: the engine's pool, the port to it, the workers, the collector of results,
and the submitter of tasks.
"""

import errno
import posix
import threading
from multiprocessing import util

from .. import _native
from .._common import calls, engine
from .._common.own_pickler import ANY
from ..errors import EngineError
from .codec import BY_NAME
from .control import Control
from .crew import Crew
from .dispatch import Dispatch
from .submitter import FOR_EVER, Submitter

__all__ = ["Machinery", "NoEngine", "form_of", "quietly", "run_again", "terminate"]


class NoEngine(Exception):
    """There can be no pool of the engine's here. reason: the exception that says why."""

    def __init__(self, reason):
        super().__init__(str(reason))
        self.reason = reason


class Machinery:
    """One of the engine's pools, with its workers.

    context: starts the workers. make_process: makes a Process object of that context. processes: the number of workers.
    workers: the list of their Process objects. results: by job, the results that are not complete. plan: the Plan of
    each worker. form: how tasks are pickled (codec.py). retries: how often a task whose worker was lost is run again.
    what: the name of what is made, in the plural, for the warning when there is no engine.

    Raises NoEngine, or the exception for which no worker could be started.
    """

    def __init__(self, context, make_process, processes, workers, results, plan, form, *, retries=0, what="Pools"):
        ANY.own()  # if the pickler is replaced, import the modules that keep it: workers use it even if it is restored
        refusal = engine.refusal()
        if refusal is not None:
            raise NoEngine(refusal)
        try:
            number = calls.pool_new(min(retries, FOR_EVER))
        except OSError as reason:
            if reason.errno == errno.EFBIG:
                why = f"RLIMIT_FSIZE, the limit of the size of files, is too low for a pool's shared memory: {reason}"
            elif reason.errno in engine.REFUSALS:
                why = f"this system refuses a system call that pools need: {reason}"
            else:
                raise
            engine.warn_once(f"{why}. {what}")
            raise NoEngine(reason) from None
        try:
            memory_fd = _native.above_streams(posix.dup(calls.pool_memory_fd(number)))
            try:
                self.port = _native.Port(number, memory_fd)
                if plan.task_memory is not None:
                    calls.pool_limit_memory(number, min(plan.task_memory, 1 << 62))
            except BaseException:
                posix.close(memory_fd)
                raise
            control = Control(number)
            self.crew = Crew(context, make_process, number, processes, workers, results, plan, control)
            self.dispatch = Dispatch(self.port, results, self.crew)
            self.submitter = Submitter(self.port, control, self.crew, self.dispatch, results, form)
            self.submitter.pool_retries = retries
            try:
                self.crew.repopulate(all_or_none=True)
            except BaseException:
                self.crew.terminate()
                self.port.close()
                raise
        except BaseException:
            quietly(lambda: calls.pool_destroy(number))
            raise


def form_of(pickler, context):
    """Return the form for the tasks of a pool whose workers are about to be started (codec.py).

    pickler: "pickle" or "cloudpickle". context: starts the workers.
    """
    if pickler == "pickle":
        return BY_NAME
    from .forms import for_tasks

    return for_tasks(context.get_start_method())


_making = threading.RLock()  # an object's __del__ may submit a task while its thread holds it


def run_again(dispatch, submitter, on_busy, on_idle):
    """Prepare a pool for tasks that are run again by a RetryPolicy. A second call changes nothing."""
    from .retrying import Retrying

    with _making:
        if dispatch.retrying is None:
            made = Retrying(dispatch, submitter, on_busy, on_idle)
            if dispatch.retrying is None:
                submitter.retrying = dispatch.retrying = made
    dispatch.serve()


def terminate(crew, dispatch):
    """End the workers, and then the engine's pool. If a signal handler interrupts it, it can be called again."""
    util.debug("finalizing pool")
    crew.terminated = True
    control = crew.control
    idle = quietly(control.idle) or ()
    quietly(control.terminate)
    crew.terminate(idle)
    dispatch.finish()
    quietly(control.destroy)


def quietly(call, *arguments):
    """Return call(*arguments); None if the engine is poisoned or closed, or the pool has been destroyed."""
    try:
        return call(*arguments)
    except (EngineError, calls.PoolGoneError):
        return None
