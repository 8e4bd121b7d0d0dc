"""Control: what a pool asks of the engine, besides submitting tasks and collecting results (the port does these).

Each function is an engine's call with the pool's number bound, so that a call costs no more than the engine's own.
A pool on a cluster has a class with the same methods (_cluster/control.py). Used by machinery.py.
"""

from functools import partial

from .._common import calls

__all__ = ["Control"]


class Control:
    """The calls of one of the engine's pools; calls.py describes each under the name pool_NAME. number: the pool's."""

    def __init__(self, number):
        self.limit = partial(calls.pool_limit, number)
        self.retry = partial(calls.pool_retry, number)
        self.taken = partial(calls.pool_taken, number)
        self.cancel = partial(calls.pool_cancel, number)
        self.cancel_all = partial(calls.pool_cancel_all, number)
        self.withdraw = partial(calls.pool_withdraw, number)
        self.withdraw_all = partial(calls.pool_withdraw_all, number)
        self.begun = partial(calls.pool_begun, number)
        self.pending = partial(calls.pool_pending, number)
        self.idle = partial(calls.pool_idle, number)
        self.close = partial(calls.pool_close, number)
        self.terminate = partial(calls.pool_terminate, number)
        self.destroy = partial(calls.pool_destroy, number)
