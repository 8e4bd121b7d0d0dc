"""The arguments of Pool that are goproc's own: their checks, and which of them a program has given.

Used by engine_pool.py. A pool that is multiprocessing's own does not have them.
"""

from .blas_threads import checked_threads
from .inputs import flag, refuse_unknown

__all__ = ["Options", "checked_retries", "policy_of_call", "positive", "retry_policy"]


class Options:
    """The arguments of one Pool that multiprocessing's does not have, checked. engine_pool.Pool describes them.

    Raises ValueError or TypeError for a wrong value.
    """

    #: By name: the default.
    DEFAULTS = {
        "retries": 0,
        "max_memory_per_child": None,
        "threads": "auto",
        "nested": False,
        "pickler": None,
        "max_memory_per_task": None,
        "retry_on": None,
        "retry_delay": None,
        "cancel_on_interrupt": False,
    }

    __slots__ = (*DEFAULTS, "retry", "engine_retries")

    def __init__(
        self,
        *,
        retries,
        max_memory_per_child,
        threads,
        nested,
        pickler,
        max_memory_per_task,
        retry_on,
        retry_delay,
        cancel_on_interrupt,
    ):
        self.max_memory_per_child = positive("max_memory_per_child", max_memory_per_child)
        self.max_memory_per_task = positive("max_memory_per_task", max_memory_per_task)
        self.retries = checked_retries(retries)
        self.retry_on, self.retry_delay = retry_on, retry_delay
        self.retry = retry_policy(self.retries, retry_on, retry_delay)
        self.engine_retries = 0 if self.retry is not None else self.retries
        self.threads = checked_threads(threads)
        self.nested = flag("nested", nested)
        self.pickler = pickler  # checked by picklers.for_context
        self.cancel_on_interrupt = flag("cancel_on_interrupt", cancel_on_interrupt)

    def given(self):
        """Return the names of the arguments that the engine alone can obey, and that the program has given."""
        names = [name for name in self.DEFAULTS if getattr(self, name) is not self.DEFAULTS[name]]
        return [name for name in names if getattr(self, name) not in (0, None, "auto", "pickle")]


def checked_retries(retries):
    """Return the argument retries. Raises ValueError, and TypeError for a bool."""
    _refuse_bool("retries", "a non-negative int", retries)
    if not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries must be a non-negative int, not {retries!r}")
    return retries


def policy_of_call(again, method, unknown, known):
    """Return the RetryPolicy of one call of a pool's method.

    again: the pool's own arguments (retries, retry_on, retry_delay), which hold if the call does not give them.
    unknown: the keyword arguments of the call that its signature does not have. known: the names of those that it has.
    """
    from .retrying import checked_policy

    names = ("retries", "retry_on", "retry_delay")
    given = unknown.get("retry_on") or unknown.get("retry_delay")  # by the call itself, which then needs retries
    retries, retry_on, retry_delay = (unknown.pop(name, own) for name, own in zip(names, again, strict=True))
    if unknown:
        refuse_unknown(method, unknown, *known, *names)
    return checked_policy(checked_retries(retries), retry_on, retry_delay, always=not given)


def retry_policy(retries, retry_on, retry_delay):
    """Return the retrying.RetryPolicy; None if the engine's own retries will do."""
    if retry_on is None and retry_delay is None:
        return None
    from .retrying import checked_policy  # imported here, as most pools have none

    return checked_policy(retries, retry_on, retry_delay)


def positive(name, value):
    """Return an argument that is a positive int or None. Raises ValueError, and TypeError for a bool."""
    _refuse_bool(name, "a positive int or None", value)
    if value is not None and (not isinstance(value, int) or value <= 0):
        raise ValueError(f"{name} must be a positive int or None, not {value!r}")
    return value


def _refuse_bool(name, wanted, value):
    """Raise TypeError for a bool, which Python takes for the int 0 or 1."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be {wanted}, not {value!r}")
