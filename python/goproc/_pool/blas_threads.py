"""How many threads the libraries in a pool's worker may use: BLAS (OpenBLAS, MKL, BLIS), OpenMP, numexpr and numba.

The problem: such a library starts a thread for each CPU, so n workers have n * n threads, which take turns. The
solution: each worker sets the environment variables of these libraries before they are loaded. A library that is loaded
already, because the worker was forked from a program that has it, is told through threadpoolctl. docs/guide/cpus.md
says what that means for a program.

    Pool(), or the first call of an executor ──▶ for_workers(): a ThreadLimit, or None
    ChannelEnd (worker.py), in the worker    ──▶ ThreadLimit.apply()

A spawned worker imports this module, so it imports nothing else.
"""

import os
import sys
from io import FileIO

from .._common import disabled, stdlib
from .._common.cpus import usable_cpu_count

__all__ = ["ThreadLimit", "checked_threads", "for_workers"]

#: Read by OpenBLAS, MKL, BLIS and Accelerate, too, if their own variable is not set.
_OPENMP = "OMP_NUM_THREADS"

#: By variable: the kinds of libraries of threadpoolctl that read it when they are loaded.
_VARIABLES = {
    _OPENMP: "openmp",
    "OPENBLAS_NUM_THREADS": "openblas",
    "MKL_NUM_THREADS": "mkl",
    "BLIS_NUM_THREADS": "blis",
    "VECLIB_MAXIMUM_THREADS": "",
    "NUMBA_NUM_THREADS": "",
    "NUMEXPR_NUM_THREADS": "",
    "NUMEXPR_MAX_THREADS": "",
}

#: Modules that load such a library. To look at sys.modules costs much less than to look at /proc/self/maps.
_USERS = frozenset(
    "cv2 faiss flexiblas jaxlib lightgbm mkl numba numexpr numpy scipy sklearn tensorflow torch xgboost".split()
)

#: What the paths of such libraries have in common.
_PATHS = (b"blas", b"blis", b"libmkl", b"libgomp", b"libomp", b"libiomp")

_MISSING = (
    "threads={} cannot be applied: the program has loaded a library for BLAS or OpenMP, which forked workers inherit. "
    "That needs threadpoolctl, which is not installed: pip install 'goproc[threads]'"
)


class ThreadLimit:
    """How many threads each library of a worker may use.

    count: the number. given: whether the program has given it. variables: the environment variables to set.
    """

    __slots__ = ("count", "given", "variables", "_is_helpless")

    def __init__(self, count, given, variables):
        self.count, self.given, self.variables = count, given, variables
        self._is_helpless = False  # in a forked worker: whether its parent has not found threadpoolctl

    def apply(self):
        """Apply the limit to this process. It raises nothing: what cannot be limited is logged."""
        loaded = self._are_loaded()  # before the variables are set: libraries that are loaded later read these
        for name in self.variables:
            os.environ[name] = str(self.count)
        if loaded and not self._is_helpless:
            try:
                self._limit_loaded()
            except Exception as error:
                from .._common.log import warn

                warn(f"pool: the threads of loaded libraries could not be limited to {self.count}: {error!r}")

    def check(self, method):
        """In the main program: raise ImportError if forked workers could not apply the limit. method: how they start.

        It imports threadpoolctl here, once, if workers will need it.
        """
        if method != "fork" or sys.modules.get("threadpoolctl") is not None or not self._are_loaded():
            return
        if _has_threadpoolctl():
            sys.modules["threadpoolctl"].ThreadpoolController()  # so that it need not find its own libraries later
        elif self.given:
            raise ImportError(_MISSING.format(self.count), name="threadpoolctl")
        else:
            self._is_helpless = True

    def _are_loaded(self):
        return any(name in sys.modules for name in _USERS) or self.given and _is_mapped()

    def _limit_loaded(self):
        if not _has_threadpoolctl():
            if self.given:
                raise ImportError(_MISSING.format(self.count), name="threadpoolctl")
            return
        kinds = {_VARIABLES[name] for name in self.variables}
        for library in sys.modules["threadpoolctl"].ThreadpoolController().lib_controllers:
            present = library.get_num_threads()
            if library.internal_api not in kinds and not self.given or present is None:
                continue
            if self.given or present > self.count:
                library.set_num_threads(self.count)


def checked_threads(value):
    """Return the argument threads: an int, None or "auto". Raises ValueError."""
    if value is None or type(value) is str and value == "auto":
        return value
    number = value.__index__() if hasattr(type(value), "__index__") and not isinstance(value, bool) else 0
    if number < 1:
        raise ValueError(f"threads must be a positive int, 'auto' or None, not {value!r}")
    return number


def for_workers(threads, processes, method, usable=None):
    """Return the ThreadLimit of each worker of a pool, None for no limit.

    threads: the checked argument of the pool. processes: the number of workers. method: by which they are started.
    usable: usable_cpu_count(), if it is known. Raises ImportError if the limit needs threadpoolctl, and that is not
    installed.
    """
    given = threads is not None and threads != "auto"
    variables = list(_VARIABLES)
    if not given:
        # A program that does not know of goproc gets the same digits as with multiprocessing: the number of threads can
        # change the last digit of a sum.
        if threads is None or stdlib.installed or "blas-threads" in disabled or not (variables := _unset()):
            return None
        threads = max(1, (usable or usable_cpu_count()) // processes)
    limit = ThreadLimit(threads, given, variables)
    limit.check(method)
    return limit


def _unset():
    """Return the variables that are not set; none if OpenMP's is set, because most libraries read that one."""
    return () if _OPENMP in os.environ else [name for name in _VARIABLES if name not in os.environ]


def _is_mapped():
    try:
        with FileIO("/proc/self/maps") as file:
            maps = file.read() or b""
    except OSError:
        return False
    return any(path in maps for path in _PATHS)


def _has_threadpoolctl():
    try:
        import threadpoolctl  # noqa: F401
    except ImportError:
        return False
    return True
