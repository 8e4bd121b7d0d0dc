"""Log records as bytes. Used by child.py, which encodes, and reader.py, which decodes.

A record that cannot be decoded would be lost. So each attribute that is not a plain one is pickled by itself. If it
cannot be pickled, its text takes its place. If it cannot be unpickled, the error takes its place.
"""

import logging
import pickle

__all__ = ["decode", "encode", "function_name", "in_short"]

_PLAIN = {str, int, float, bool, bytes, type(None)}

#: The most characters of each text, in the short form of a record.
_SHORT = 2000


def encode(record: logging.LogRecord) -> bytes:
    """Return the record as bytes. Its args and exc_info must be None, as after QueueHandler.prepare()."""
    plain, pickled = {}, {}
    for name, value in vars(record).items():
        if type(value) in _PLAIN:
            plain[name] = value
            continue
        try:
            pickled[name] = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        except Exception:
            plain[name] = _text(value)
    return pickle.dumps((plain, pickled), pickle.HIGHEST_PROTOCOL)


def in_short(record: logging.LogRecord) -> bytes:
    """Return the record as few bytes: its plain attributes, with long texts cut."""
    plain = {name: value for name, value in vars(record).items() if type(value) in _PLAIN}
    short = {}
    for name in ("name", "levelno", "levelname", "pathname", "filename", "module", "lineno", "funcName", "created"):
        short[name] = plain.get(name)
    for name in ("msecs", "relativeCreated", "thread", "threadName", "processName", "process", "taskName"):
        short[name] = plain.get(name)
    for name in ("taskFunction", "machineName", "msg", "message", "exc_text", "stack_info"):
        value = plain.get(name)
        short[name] = f"{value[:_SHORT]} [...]" if type(value) is str and len(value) > _SHORT else value
    short.update(args=None, exc_info=None)
    return pickle.dumps((short, {}), pickle.HIGHEST_PROTOCOL)


def decode(encoded: bytes) -> logging.LogRecord:
    """Return the record that was encoded."""
    plain, pickled = pickle.loads(encoded)
    for name, value in pickled.items():
        try:
            plain[name] = pickle.loads(value)
        except Exception as error:
            plain[name] = f"<cannot be unpickled here: {error!r}>"
    if plain["levelname"] == f"Level {plain['levelno']}":  # a spawned child may not know the program's own levels
        plain["levelname"] = logging.getLevelName(plain["levelno"])
    return logging.makeLogRecord(plain)


def function_name(function: object) -> str:
    """Return the name of a function, as tracebacks have it; of another callable, the name of its type."""
    while (wrapped := getattr(function, "func", None)) is not None and _wraps(function):
        arguments: tuple[object, ...] = getattr(function, "args", ())
        is_chunk = arguments and getattr(wrapped, "__module__", None) == "concurrent.futures.process"
        function = arguments[0] if is_chunk else wrapped
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__


def _wraps(function):
    """Whether it is a functools.partial, or codec.Returning, which is what a map with return_exceptions runs."""
    return hasattr(function, "keywords") or type(function).__module__ == "goproc._pool.codec"


def _text(value):
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__qualname__} object>"
