"""The arguments of Pool that are goproc's own: their checks, and which of them a program has given.

Used by engine_pool.py. A pool that is multiprocessing's own does not have them.
"""

from .blas_threads import checked_threads

__all__ = ["Options"]


class Options:
    """The arguments of one Pool that multiprocessing's does not have, checked. engine_pool.Pool describes them.

    Raises ValueError or TypeError for a wrong value.
    """

    #: By name: the default.
    DEFAULTS = {"retries": 0, "max_memory_per_child": None, "threads": "auto", "nested": False, "pickler": None}

    __slots__ = tuple(DEFAULTS)

    def __init__(self, retries, max_memory_per_child, threads, nested, pickler):
        self.max_memory_per_child = _positive("max_memory_per_child", max_memory_per_child)
        self.retries = checked_retries(retries)
        self.threads = checked_threads(threads)
        self.nested = bool(nested)
        self.pickler = pickler  # checked by picklers.for_context

    def given(self):
        """Return the names of the arguments that the engine alone can obey, and that the program has given."""
        names = [name for name in self.DEFAULTS if getattr(self, name) != self.DEFAULTS[name]]
        return [name for name in names if getattr(self, name) not in (None, "pickle")]


def checked_retries(retries):
    """Return the argument retries. Raises ValueError."""
    if not isinstance(retries, int) or retries < 0:
        raise ValueError("retries must be a non-negative int")
    return retries


def _positive(name, value):
    if value is not None and (not isinstance(value, int) or value <= 0):
        raise ValueError(f"{name} must be a positive int or None")
    return value
