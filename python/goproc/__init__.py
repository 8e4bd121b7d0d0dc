"""Python's multiprocessing on a Go engine.

    import goproc as multiprocessing          or: python -m goproc program.py, with the program unchanged

Names, arguments, exceptions and behaviour are multiprocessing's, so its documentation holds for goproc, too.

The files here have the standard library's names, because programs import them:

    context.py              the contexts and Process classes: from a start method to the module that starts processes
    popen_fork.py           starting by fork; waiting, signals and exit status for all three start methods
    popen_spawn_posix.py    starting by spawn: a fork of the spawn server, or a new interpreter
    popen_forkserver.py     starting through the fork server
    forkserver.py           the fork server: its client, and its main function
    spawn.py                a child's command line, the data that it is sent, and its main function
    pool.py                 Pool, its results, and the other names of multiprocessing.pool
    synchronize.py          locks, semaphores, conditions, events, barriers
    queues.py               queues
    futures.py              ProcessPoolExecutor, and the other names of concurrent.futures
    joblib.py               a backend of joblib
    cluster.py              Pool on the machines of a Dask cluster
    logging.py              log records of children reach the main program's handlers
    errors.py               the exceptions that multiprocessing does not have
    install.py              makes `import multiprocessing` mean goproc
    cli.py, __main__.py     the command: python -m goproc

The private folders and the two compiled extensions:

    _start/                 how processes start: the servers, and the first steps of a child
    _pool/                  the implementation of Pool: tasks, workers, results
    _futures/               the implementation of ProcessPoolExecutor, on the parts of _pool
    _joblib/                the implementation of goproc.joblib
    _cluster/               the implementation of goproc.cluster
    _cluster_program/             --cluster, --ship, and the command `python -m goproc cluster`
    _relay/                 the implementation of goproc.logging
    _dump/                  the command `python -m goproc dump`
    _common/                used by the others: the engine's calls, waiting, the standard library's private names
    _engine, _native        the Go engine, and the part in C, which contains no Go
    __pyinstaller           PyInstaller's hook

The other modules (connection, dummy, heap, managers, process, reduction, resource_sharer, resource_tracker,
shared_memory, sharedctypes, util) are the standard library's own modules under goproc's name. In some of them single
classes or methods are replaced.

`import goproc` and starting a process by fork neither start a thread nor load the engine. The first Pool() loads the
engine, and so does the first process that is started by spawn or forkserver.
"""

import os
import sys

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
from ._common import detached
from ._common.stdlib import import_module, submodule_finder
from .errors import (
    AbandonedLockError,
    CancelledError,
    ConsumerLostError,
    EngineError,
    MemoryLimitError,
    ProducerLostError,
    TaskTimeoutError,
    WorkerLostError,
)
from .install import install

_submodule = submodule_finder("goproc")

detached.insert(detached.Kept(sys.modules["goproc"], sys.modules["multiprocessing"]))


def share(obj):
    """Put an object into shared memory, once; return its handle, a Shared. Functions receive the object itself.

    obj: anything that can be pickled. Its large buffers, such as those of arrays, are shared, and are read-only.
    Raises what pickling raises. Source: goproc.
    """
    from ._common.sharing import share

    return share(obj)


def __getattr__(name):
    if name == "Shared":
        from ._common.sharing import Shared

        return Shared
    if name in ("futures", "logging"):
        return import_module(f"goproc.{name}")
    if name == "usable_cpu_count":
        from ._common.cpus import usable_cpu_count

        return usable_cpu_count
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


# The version is stated only here. The build reads it without importing this file, so it must stay a literal.
__version__ = "0.1.0"

# The public functions are the default context's methods, as in multiprocessing.
__all__ = [name for name in dir(context._default_context) if not name.startswith("_")]
globals().update((name, getattr(context._default_context, name)) for name in __all__)
__all__ += ["AbandonedLockError", "CancelledError", "ConsumerLostError", "EngineError", "MemoryLimitError"]
__all__ += ["ProducerLostError", "TaskTimeoutError", "WorkerLostError"]
__all__ += ["Shared", "install", "share", "usable_cpu_count"]

if os.environ.get("GOPROC_LOG") and not _common.role.startswith("--multiprocessing-"):
    # Only in the main program: children receive the log level from their parent.
    from ._common import log

    log.start(os.environ["GOPROC_LOG"])

if os.environ.get("GOPROC_STATS"):
    from ._common import counters

    counters.print_if_wanted(os.environ["GOPROC_STATS"])
