"""Writes to multiprocessing's log, and to standard error.

The log is silent unless the program enables it (log_to_stderr(), get_logger()), or the environment variable GOPROC_LOG
does. The servers do not use package logging, because importing it would cost each process that they fork. They write
lines in the log's format themselves.
"""

import os
import sys
from collections.abc import Callable

from . import disabled, stdlib

__all__ = ["start", "teller", "warn"]


def warn(text: str) -> None:
    """Log a text at level WARNING. For a fault that goproc has handled, and that the program may want to know of."""
    logger = stdlib.logger()  # as util.debug() does: make no logger if the program has not asked for one
    if logger is not None:
        logger.warning(text)


def start(level: str) -> None:
    """Apply the environment variable GOPROC_LOG: call log_to_stderr() with its level. Warn about an unknown level.

    level: a level's name of package logging, in upper or lower case.
    """
    import logging
    from multiprocessing import util

    number = logging.getLevelName(level.upper())
    if isinstance(number, int):
        util.log_to_stderr(number)
        if disabled:
            util.info("GOPROC_DISABLE switches off: %s", ", ".join(sorted(disabled)))
    else:
        import warnings

        text = f"GOPROC_LOG={level!r} is ignored: it must be debug, info, warning or error"
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def teller(name: str) -> "Callable[..., None]":
    """Return a function that logs to standard error, for a server. It takes a text and its % arguments.

    name: the server's name in each line.
    """
    prefix = f"[DEBUG/{name} {os.getpid()} of {os.getppid()}] "
    stream = sys.__stderr__

    def tell(text, *arguments):
        try:
            if stream is not None:
                os.write(stream.fileno(), f"{prefix}{text % arguments}\n".encode(errors="replace"))
        except (OSError, ValueError):
            pass  # standard error is closed

    return tell
