"""The context of the backend's workers by default: spawn, without the program's main module.

Functions of the main module travel by value (payload.py), so a worker needs no main module. Therefore a program needs
no `if __name__ == "__main__"` for this backend, as it needs none for loky. A spawned worker imports this module, so it
imports little.
"""

from ..context import SpawnContext, SpawnProcess

__all__ = ["WITHOUT_MAIN"]


class WorkerProcess(SpawnProcess):
    """A spawned process that does not import the program's main module."""

    _without_main = True  # spawn.py looks for this


class WithoutMain(SpawnContext):
    """The context whose start method is spawn, and whose processes do not import the program's main module."""

    Process = WorkerProcess


WITHOUT_MAIN = WithoutMain()
