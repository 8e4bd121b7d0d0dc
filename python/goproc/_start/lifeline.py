"""The child's end of the lifeline: a pipe that only the parent can write to, and never does.

    parent: write end ════════════════════▶ every child: read end, at its end exactly when the parent is gone

That makes it the sentinel of multiprocessing.parent_process(), and by F_SETSIG the end of a daemon whose parent was
killed. Called by popen_fork.py and spawn.py in a child, first of all.
"""

import os

from .. import _native

__all__ = ["open_lifeline"]


def open_lifeline(inherited: int, daemon: bool) -> int:
    """Return this process's own descriptor of its parent's lifeline; the inherited one is closed.

    A daemonic process is from now on killed when its parent is gone, whatever it is doing: by the kernel, or, where
    that cannot be (there is no /proc, say), by a thread.
    """
    try:
        return _native.lifeline(inherited, daemon)
    finally:
        os.close(inherited)
