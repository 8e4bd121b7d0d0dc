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

from ._joblib import kept as _kept
from ._joblib.backend import GoprocBackend, register

__all__ = ["GoprocBackend", "register", "shutdown"]

GoprocBackend.__module__ = register.__module__ = "goproc.joblib"  # their public module


def shutdown(wait=True):
    """End the workers that are kept for the next call of Parallel, but not those of a running call.

    wait: whether to wait until they have ended. The next call starts new workers.
    """
    _kept.shutdown(wait)
