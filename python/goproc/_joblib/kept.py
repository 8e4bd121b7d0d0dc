"""Keeps an executor between two calls of Parallel, as loky does, and ends it after a long idle time.

    configure() ─▶ take() ─▶ the executor that was kept for the same options, or a new one
    terminate() ─▶ give_back() ─▶ it is kept; a thread ends it when its idle time is over

At most one idle executor is kept. Executors end at the exit of the program as all executors do.
"""

import posix
import threading

from .. import _native
from .._common.detached import Function
from .._common.threads import OwnThread
from ..futures import ProcessPoolExecutor

__all__ = ["give_back", "shutdown", "take"]


class Kept:
    """An executor, and what it was made with. key: the options. users: the number of calls of Parallel that use it."""

    def __init__(self, key, executor, idle_time):
        self.key, self.executor, self.idle_time = key, executor, idle_time
        self.users = 1
        self.until = 0.0  # when it is ended, if nobody uses it

    @property
    def usable(self):
        """Whether it takes further calls."""
        return not (self.executor._broken or self.executor._shutdown_thread)


class _State:
    """All executors of this process, and the thread that ends them."""

    def __init__(self):
        self.changed = threading.Condition()
        self.kept: list[Kept] = []
        self.thread = None


_state = _State()


def _forget():
    global _state
    _state = _State()  # a forked child: the workers are its parent's


posix.register_at_fork(after_in_child=Function(__name__, "_forget"))


def take(key, idle_time, workers, context, initializer, initargs):
    """Return the Kept of an executor with these options. key: what must be equal. idle_time: in seconds."""
    state = _state
    with state.changed:
        ended = [kept for kept in state.kept if not kept.users and (kept.key != key or not kept.usable)]
        for kept in ended:
            state.kept.remove(kept)
        found = next((kept for kept in state.kept if kept.key == key and kept.usable), None)
        if found is None:
            found = Kept(key, ProcessPoolExecutor(workers, context, initializer, initargs), idle_time)
            state.kept.append(found)
        else:
            found.users += 1
            found.idle_time = idle_time
        state.changed.notify_all()
    _end(ended, wait=False)
    return found


def give_back(kept):
    """Say that a call of Parallel does not use an executor any more."""
    state = _state
    with state.changed:
        kept.users -= 1
        if kept.users or kept not in state.kept:
            return
        kept.until = _native.monotonic() + kept.idle_time
        ended = [one for one in state.kept if not one.users and (one is not kept or not kept.usable)]
        for one in ended:
            state.kept.remove(one)
        if kept in state.kept and state.thread is None:
            state.thread = OwnThread("goproc-joblib", lambda: _watch(state))
            state.thread.start()
        state.changed.notify_all()
    _end(ended, wait=False)


def shutdown(wait):
    """End all executors that nobody uses. wait: whether to wait until their workers have ended."""
    state = _state
    with state.changed:
        ended = [kept for kept in state.kept if not kept.users]
        for kept in ended:
            state.kept.remove(kept)
        thread = state.thread
        state.changed.notify_all()
    _end(ended, wait)
    if wait and thread is not None and not any(kept.users for kept in state.kept):
        thread.join()


def _end(ended, wait):
    for kept in ended:
        kept.executor.shutdown(wait=wait)


def _watch(state):
    """End executors whose idle time is over, until none is idle. The thread that does so."""
    while True:
        with state.changed:
            idle = [kept for kept in state.kept if not kept.users]
            if not idle:
                state.thread = None
                return
            now = _native.monotonic()
            ended = [kept for kept in idle if kept.until <= now]
            if not ended:
                state.changed.wait(min(kept.until for kept in idle) - now)
                continue
            for kept in ended:
                state.kept.remove(kept)
        _end(ended, wait=False)
