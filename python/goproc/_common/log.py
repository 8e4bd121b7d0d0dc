"""Warnings in multiprocessing's log, which is silent unless the program asks for it (log_to_stderr(), get_logger())."""

from . import stdlib

__all__ = ["warn"]


def warn(text: str) -> None:
    """Log a text as WARNING: something has gone wrong that the program may want to know of, and that was dealt with."""
    logger = stdlib.logger()  # as util.debug() does: nothing is made for nobody
    if logger is not None:
        logger.warning(text)
