"""What the server process of a manager does first, so that it ends when the process that has started it is gone.

    BaseManager.start()  (managers.py)  ─▶  the server process: Beginning()  ─▶  the program's own initializer
                                                └─ parent gone ─▶ the server shuts down ─▶ after GRACE: SIGKILL

docs/design/managers.md.
"""

import os
import time
from multiprocessing import process, util

from .. import _native
from .._common import cooperative
from .._common.stdlib import forget_temp_dir, import_module, temp_dir
from .._common.threads import OwnThread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Beginning", "remove_socket"]

#: Seconds that a server has for its shutdown when its parent is gone. Then the kernel ends it, whatever it does.
GRACE = 0.5

_FOLDERS = "pymp-"  # how the names of multiprocessing's temporary folders begin


class Beginning:
    """The initializer that a manager's server gets in place of the program's own one, which may be None."""

    def __init__(self, initializer):
        self._initializer = initializer

    def __call__(self, *arguments):
        import_module("goproc.managers")  # before the server makes its listener
        # The folder of the socket is to be the server's own, not the program's: then it can be removed with the server.
        forget_temp_dir()
        parent = process.parent_process()
        if parent is not None:
            _end_with(parent.sentinel)
        if self._initializer is not None:
            self._initializer(*arguments)


def _end_with(sentinel):
    def shut_down():
        try:
            if cooperative.is_patched():  # then this thread is a greenlet
                cooperative.wait_readable(sentinel, None)
            else:
                _native.wait_readable(sentinel, None)
        except OSError:
            return  # the program has closed the descriptor
        util.info("manager's server ends: the process that has started it is gone")
        server: Any = None
        while not hasattr(server, "stop_event"):
            server = getattr(process.current_process(), "_manager_server", None)
            time.sleep(0.001)  # the server may not be made yet; if that takes long, the process is killed
        server.shutdown(_Nobody())

    try:
        _native.end_after_parent(sentinel, GRACE)
        OwnThread("goproc-manager-end", shut_down).start()
    except (OSError, RuntimeError) as error:
        util.info("manager's server lives on when the process that has started it is gone: %s", error)


class _Nobody:
    """Stands for the connection over which a server was told to shut down."""

    def send(self, message):
        pass


def remove_socket(process_obj, address):
    """Remove the socket that a manager's server has left behind, and its folder, if the server was killed."""
    if process_obj.is_alive() or not isinstance(address, str):
        return
    folder = os.path.dirname(address)
    if os.path.basename(folder).startswith(_FOLDERS) and folder != temp_dir():
        try:
            os.unlink(address)
            os.rmdir(folder)
        except OSError:
            pass  # nothing was left, or more than the socket
