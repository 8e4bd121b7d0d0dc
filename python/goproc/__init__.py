"""Python's multiprocessing on a Go engine.

    import goproc as multiprocessing          or: python -m goproc program.py, with the program unchanged

Names, arguments, exceptions and meanings are multiprocessing's own; its documentation is the manual.

The files here bear the standard library's names, for programs import them:

    context.py              the contexts and Process classes: from a start method's name to the module that starts it
    popen_fork.py           starting by fork; waiting, signals and exit status for all three start methods
    popen_spawn_posix.py    starting by spawn: a clone from the spawn server, or a fresh interpreter
    popen_forkserver.py     starting through the fork server
    forkserver.py           the fork server: its client, and its main function
    spawn.py                a child's command line, what it is given, and its main function
    pool.py                 Pool, its results, and the other names of multiprocessing.pool
    errors.py               the exceptions that multiprocessing does not have
    install.py              makes `import multiprocessing` mean goproc
    cli.py, __main__.py     the command: python -m goproc

Behind them are three rooms, and the two compiled extensions:

    _start/                 how processes start: the servers, what a child does first
    _pool/                  a pool's inside: tasks, workers, results
    _common/                what both use: the engine's calls, waiting, the standard library's inside
    _engine, _native     the Go engine, and the Go-free C half
    __pyinstaller           PyInstaller's hook

What is not replaced (connection, dummy, heap, managers, process, queues, reduction, resource_sharer, resource_tracker,
shared_memory, sharedctypes, synchronize, util) is the standard library's own module under goproc's name.

Neither importing goproc nor starting processes by fork starts a thread or loads the engine. The first Pool() does, or
the first process that is started by another method.
"""

import os

from . import _common

if not _common.is_supported():
    from ._common import installation

    installation.refuse_import()

if os.environ.get("GOPROC_DISABLE"):
    from ._common import switches

    switches.read(os.environ["GOPROC_DISABLE"])

if _common.role == "--multiprocessing-fork" and "deferred-imports" not in _common.disabled:
    # A spawned child.
    from ._start import deferred_imports  # noqa: F401  (before multiprocessing)

from multiprocessing import SUBDEBUG, SUBWARNING, process, reduction  # noqa: F401

from . import context
from ._common.stdlib import import_module, submodule_finder
from .errors import CancelledError, EngineError, TaskTimeoutError, WorkerLostError
from .install import install

_submodule = submodule_finder("goproc")


def __getattr__(name):
    if name != "_native":
        return _submodule(name)
    # The first `from . import _native`.
    try:
        path = _common.extension_path("_native")
        if path is not None and not _common.is_whole(path):
            raise ImportError("the file is too short")
        return import_module("goproc._native")
    except ImportError as error:
        from ._common import installation

        raise installation.explained("_native", error) from error


# The one place that states the version. The build reads it without importing this file, so it must stay a literal.
__version__ = "0.1.0"

# As multiprocessing does: the public functions are the default context's methods.
__all__ = [name for name in dir(context._default_context) if not name.startswith("_")]
globals().update((name, getattr(context._default_context, name)) for name in __all__)
__all__ += ["CancelledError", "EngineError", "TaskTimeoutError", "WorkerLostError", "install"]

if os.environ.get("GOPROC_LOG") and not _common.role.startswith("--multiprocessing-"):
    # Children are told by their parent.
    from ._common import log

    log.start(os.environ["GOPROC_LOG"])

if os.environ.get("GOPROC_STATS"):
    from ._common import counters

    counters.print_if_wanted(os.environ["GOPROC_STATS"])
