"""Checks of the arguments of Pool's methods."""

import operator

__all__ = ["checked_limit", "one_prefetch", "refuse_unknown", "whole"]


def refuse_unknown(method, unknown, *known):
    """Raise the TypeError for keyword arguments that a method does not take, and suggest what may be meant."""
    from difflib import get_close_matches

    name = next(iter(unknown))
    text = f"{method}() got an unexpected keyword argument {name!r}"
    if name == "timeout":  # of a map
        text += ": task_timeout= limits each task; get(timeout) of a result limits how long you wait"
    elif close := get_close_matches(name, known, 1):
        text += f": did you mean {close[0]!r}?"
    raise TypeError(text)


def whole(name, value):
    """Return value as an int. Raises TypeError, as multiprocessing does, but says what is wrong."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, not {value!r}") from None


def one_prefetch(prefetch, buffersize):
    """Return prefetch, which multiprocessing calls buffersize."""
    if buffersize is None:
        return None if prefetch is None else whole("prefetch", prefetch)
    if prefetch is not None:
        raise TypeError("prefetch and buffersize are two names of one argument: give one of them")
    if not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
    return buffersize


def checked_limit(name, seconds):
    """Return a time limit in seconds as a float, None for none."""
    if seconds is None:
        return None
    try:
        positive = seconds > 0
    except TypeError:
        raise TypeError(f"{name} must be a number of seconds, not {seconds!r}") from None
    if not positive:
        raise ValueError(f"{name} must be above 0, not {seconds!r}")
    return float(seconds)
