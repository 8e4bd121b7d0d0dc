"""Log records of child processes reach the main program's handlers.

    if __name__ == "__main__":
        logging.basicConfig(format="%(processName)s %(taskFunction)s: %(message)s")
        goproc.logging.relay()

From then on, each process that goproc starts sends its log records, warnings and uncaught tracebacks to this program,
whose loggers handle them. `Pool(log=True)` does the same for one pool. This module does not replace the standard
library's logging. docs/guide/logging.md is the manual, docs/design/relay.md has the reasons.
"""

from ._relay import state as _state

__all__ = ["Relay", "flush", "relay"]


class Relay:
    """What relay() returns. As a context manager, it stops at the end of the block."""

    def flush(self, timeout: "float | None" = None) -> bool:
        """Wait until all records that were sent so far have been handled; see goproc.logging.flush()."""
        return flush(timeout)

    def stop(self) -> None:
        """Wait until all records that were sent so far have been handled, and relay no more.

        Processes that were started since relay() and still run print further records of level WARNING and above to
        standard error, as processes without handlers do. A second call does nothing.
        """
        _state.relay_none()

    def __enter__(self) -> "Relay":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


_relay = Relay()


def relay() -> Relay:
    """Have the loggers of this program handle the log records of the processes that are started from now on.

    It applies to all processes that goproc starts, by each start method, to their children, and to the workers of pools
    on a cluster that are made from now on. Call it once, in the main program; another call changes nothing. In a
    process that sends its records already, it does nothing.

    Returns the Relay, whose stop() ends it. At the end of the program, the records of all children that
    multiprocessing joins are handled before logging is shut down. Raises OSError if there are no descriptors left,
    RuntimeError if no thread can be started.
    """
    _state.relay_all()
    return _relay


def flush(timeout: "float | None" = None) -> bool:
    """Wait until all records that child processes have sent so far have been handled.

    timeout: the most seconds to wait; None for no limit. Returns whether they have been handled: False after timeout,
    and at once in a handler that is handling such a record.
    """
    return _state.flush(timeout)
