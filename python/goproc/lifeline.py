"""The child's end of the lifeline: a pipe that only the parent can write to, and never does.

    parent: write end ════════════════════▶ every child: read end, at its end exactly when the parent is gone

That makes it the sentinel of multiprocessing.parent_process(), and by F_SETSIG the end of a daemon whose parent was
killed. Called by popen_fork.py and spawn.py in a child, first of all.
"""

import os
import signal

from . import _transport

__all__ = ["open_lifeline"]


def open_lifeline(inherited: int, daemon: bool) -> int:
    """Return this process's own descriptor of its parent's lifeline; the inherited one is closed.

    A daemonic process is from now on killed when its parent is gone, by the kernel, whatever it is doing.
    """
    try:
        return _transport.lifeline(inherited, signal.SIGKILL if daemon else 0)
    except PermissionError:
        # The parent has changed its user since it made the lifeline: the pipe belongs to the old user and cannot be
        # opened anew. Watching needs only a duplicate; being killed would need a description of one's own.
        return os.dup(inherited)
    finally:
        os.close(inherited)
