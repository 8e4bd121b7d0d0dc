"""Which of the functions by which multiprocessing starts processes the program has replaced by its own.

Debuggers, profilers and the loaders of packed programs do this, to be in each child from its start. goproc's engine and
its servers do not call these functions. So goproc looks here before it starts a process. If one has been replaced, the
process is started without them, by that function, as with multiprocessing:

    os.fork                                   a child is forked by it
    multiprocessing.util.spawnv_passfds       an interpreter is executed by it, for forkserver, too
    _posixsubprocess.fork_exec                the same
    multiprocessing.spawn.get_command_line    the same for spawn, with that command line
    multiprocessing.spawn._main               in a child: it reads what the parent has sent

keeping_tracker is what surrounds a fork by goproc.

docs/design/starters.md. Used by popen_fork.py, popen_spawn_posix.py, popen_forkserver.py, spawn.py, _pool/nursery.py.
"""

import os
import sys
from multiprocessing import process, util
from types import BuiltinFunctionType, ModuleType

from . import stdlib
from .detached import loaded
from .monkeypatches import is_replaced

__all__ = ["command_line", "executor", "fork", "keeping_tracker", "main", "take_next_bootstrap"]

_told: "set[str]" = set()


def fork():
    """Return the program's os.fork, None if it has not replaced it. gevent's does not count: see cooperative.py."""
    function = os.fork
    if type(function) is BuiltinFunctionType or str(getattr(function, "__module__", "")).startswith("gevent"):
        return None
    _tell("os.fork")
    return function


def executor(method):
    """Return the name of the function by which the program executes interpreters, None if it has replaced none.

    method: the start method. multiprocessing's fork server has a command line of its own.
    """
    posix = sys.modules.get("_posixsubprocess")
    if is_replaced(util, "spawnv_passfds"):
        name = "multiprocessing.util.spawnv_passfds"
    elif posix is not None and type(posix.fork_exec) is not BuiltinFunctionType:
        name = "_posixsubprocess.fork_exec"
    elif method == "spawn" and command_line() is not None:
        name = "multiprocessing.spawn.get_command_line"
    else:
        return None
    _tell(name)
    return name


def command_line():
    """Return the program's multiprocessing.spawn.get_command_line, None if it has not replaced it."""
    return _replacement("get_command_line")


def main():
    """Return the program's main function of spawned children, None if it has not replaced multiprocessing's."""
    return _replacement(stdlib.MAIN_OF_SPAWN)


def _replacement(name):
    spawn = loaded("multiprocessing.spawn")  # it is not imported for forked processes
    return getattr(spawn, name) if spawn is not None and is_replaced(spawn, name) else None


def take_next_bootstrap(run):
    """Have the next BaseProcess._bootstrap() of this process call run(process_obj) in its place, once."""
    original = process.BaseProcess._bootstrap

    def bootstrap(process_obj, parent_sentinel=None):
        process.BaseProcess._bootstrap = original
        return run(process_obj)

    process.BaseProcess._bootstrap = bootstrap


def _tell(name):
    if name not in _told:
        _told.add(name)
        util.info("from now on processes are started by the program's own %s, without the engine and its servers", name)


class _KeepingTracker:
    """A context manager around a fork: the child uses the resource tracker of its parent, also one that starts later.

    Python 3.13.14, 3.14.5 and later versions close the tracker's pipe in a forked child. Then the child would start a
    tracker of its own, which unlinks resources at the child's end though the parent still uses them.
    Source: multiprocessing.popen_fork.Popen._launch.
    """

    def __enter__(self) -> None:
        self._set(True)

    def __exit__(self, *exception: object) -> None:
        self._set(False)

    @staticmethod
    def _set(keep: bool) -> None:
        # If the module has not been imported, or is deferred (deferred_imports.py), no fork handler closes the pipe.
        module = loaded("multiprocessing.resource_tracker")
        if keep and type(module) is ModuleType:
            try:
                stdlib.tracker_pipe()
            except OSError as error:
                util.info("a forked child is given no pipe of the resource tracker: %s", error)
        if module is not None and (intent := vars(module).get("_fork_intent")) is not None:
            intent.preserve_fd = keep


keeping_tracker: _KeepingTracker = _KeepingTracker()
