"""The exceptions of goproc keep their text and attributes when they are copied, in each way that libraries do it."""

import copy
import pickle

import pytest

import goproc

ERRORS = [
    goproc.EngineError("the engine is closed"),
    goproc.WorkerLostError(12, -9, "square", 0, None, 3, 1, "3"),
    goproc.WorkerLostError(0, 0, "square", 0, None, 3, 1, "3", "alpha", "the scheduler has lost it"),
    goproc.TaskTimeoutError(12, 1.5, "square", 3, 1, "3"),
    goproc.MemoryLimitError(12, 64 << 20, "square", 3, 1, "3"),
    goproc.AbandonedLockError(12, "Process-1"),
    goproc.ConsumerLostError(12, 2),
    goproc.ProducerLostError(12, 2),
    goproc.CancelledError("the pool was terminated"),
]


def _as_tblib_does(error):
    """tblib, which Dask and Django import, does not call __init__."""
    made = type(error).__new__(type(error), *error.args)
    made.__dict__.update(error.__dict__)
    return made


def test_all_are_here():
    assert {type(error).__name__ for error in ERRORS} == set(goproc.errors.__all__)


@pytest.mark.parametrize("copied", [copy.copy, lambda error: pickle.loads(pickle.dumps(error)), _as_tblib_does])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_copies(error, copied):
    made = copied(error)
    assert type(made) is type(error)
    assert (str(made), made.args, vars(made)) == (str(error), error.args, vars(error))
