"""What goproc tells in multiprocessing's log, and on standard error.

The log is silent unless the program asks for it (log_to_stderr(), get_logger()), or the environment variable GOPROC_LOG
does. The servers have no log of their own, since it would cost each process that they fork: they write lines that look
like those of the log.
"""

import os
import sys
from collections.abc import Callable

from . import disabled, stdlib

__all__ = ["start", "teller", "warn"]


def warn(text: str) -> None:
    """Log a text as WARNING: something has gone wrong that the program may want to know of, and that was dealt with."""
    logger = stdlib.logger()  # as util.debug() does: nothing is made for nobody
    if logger is not None:
        logger.warning(text)


def start(level: str) -> None:
    """Do what GOPROC_LOG says: log_to_stderr() with a level of package logging, in any case. Warn of anything else."""
    import logging
    from multiprocessing import util

    number = logging.getLevelName(level.upper())
    if isinstance(number, int):
        util.log_to_stderr(number)
        if disabled:
            util.info("GOPROC_DISABLE takes out: %s", ", ".join(sorted(disabled)))
    else:
        import warnings

        text = f"GOPROC_LOG={level!r} is ignored: it must be debug, info, warning or error"
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def teller(name: str) -> "Callable[..., None]":
    """Return a function that tells on standard error what a server does. It takes a text and its % arguments.

    name: of the server.
    """
    prefix = f"[DEBUG/{name} {os.getpid()} of {os.getppid()}] "
    stream = sys.__stderr__

    def tell(text, *arguments):
        try:
            if stream is not None:
                os.write(stream.fileno(), f"{prefix}{text % arguments}\n".encode(errors="replace"))
        except (OSError, ValueError):
            pass  # standard error is closed: there is nobody to tell

    return tell
