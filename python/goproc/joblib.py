"""A backend of joblib on goproc's workers. The implementation is in the folder _joblib.

    import goproc.joblib
    import joblib

    goproc.joblib.register()
    with joblib.parallel_config(backend="goproc"):
        ...

It needs joblib 1.3 or newer: pip install 'goproc[joblib]'. docs/guide/joblib.md describes what it does.
"""

try:
    import joblib as _joblib
except ImportError as error:
    raise ImportError("goproc.joblib needs the package joblib: pip install 'goproc[joblib]'") from error

if tuple(map(int, _joblib.__version__.split(".")[:2])) < (1, 3):
    raise ImportError(
        f"goproc.joblib needs joblib 1.3 or newer, not {_joblib.__version__}: pip install 'goproc[joblib]'"
    )

from functools import partial as _partial

from ._joblib import backend as _backend
from ._joblib import kept as _kept
from ._joblib.backend import GoprocBackend

__all__ = ["GoprocBackend", "register", "shutdown"]

GoprocBackend.__module__ = "goproc.joblib"  # its public module


def register(name="goproc", *, context=None, make_default=False):
    """Make the backend known to joblib, under a name.

    name: the name that parallel_config() and Parallel() take as backend. context: what starts the workers: "spawn",
    "forkserver", "fork", or a context; None for spawn. make_default: whether Parallel uses this backend if the program
    names none.

    With None and "spawn", workers are new interpreters that do not import the program's main module. parallel_config()
    takes another context for its block. A name can be registered again. Raises ValueError for an unknown start method,
    TypeError for another context. Source: joblib.register_parallel_backend.
    """
    _backend.context_of(context)  # raises its error here
    _backend.registered[name] = context if isinstance(context, str) else None
    factory = GoprocBackend if context is None else _partial(GoprocBackend, context=context)
    _joblib.register_parallel_backend(name, factory, make_default=make_default)


def shutdown(wait=True):
    """End the workers that are kept for the next call of Parallel. A call that runs is not disturbed.

    wait: whether to wait until they have ended. The next call starts new workers.
    """
    _kept.shutdown(wait)
