"""Python's multiprocessing on a Go engine.

    import goproc as multiprocessing          or: python -m goproc program.py, with the program unchanged

Names, arguments, exceptions and meanings are multiprocessing's own; its documentation is the manual.

The files, most of which bear the standard library's names:

    context.py              the contexts and Process classes: from a start method's name to the module that starts it
    popen_fork.py           starting by fork; waiting, signals and exit status for all three start methods
    popen_spawn_posix.py    starting by spawn: a clone from the spawn server, or a fresh interpreter
    popen_forkserver.py     starting through the fork server
    server.py               the main loop of the two servers that fork
    spawnserver.py          the spawn server: the interpreter that spawned children are cloned from
    forkserver.py           the fork server: its client, and its main function
    spawn.py                a child's command line, what it is given, and its main function
    deferred_imports.py     keeps a spawned child from importing what it does not need
    stand_in.py             a module that is imported only when it is used
    lifeline.py             how a child notices that its parent is gone
    pool.py                 Pool and its results
    dispatch.py             who waits for a pool's results, and how they reach the objects the user holds
    crew.py                 a pool's workers: started, replaced, ended
    nursery.py              many of a pool's workers from one fork
    iteration.py            imap: reads the input as results are taken
    worker.py               what runs in a worker
    describe.py             how a lost task is named in exceptions and in the log
    log.py                  warnings in multiprocessing's log
    queue_pool.py           multiprocessing's own Pool, for classes that bring a part of it, and ThreadPool
    inside.py               what programs find inside a pool that the engine drives
    cooperative.py          waiting under gevent and eventlet
    engine.py               loads the Go engine when it is first needed, and calls it
    errors.py               the exceptions that multiprocessing does not have
    install.py              makes `import multiprocessing` mean goproc
    cli.py, __main__.py     the command: python -m goproc
    __pyinstaller           PyInstaller's hook
    counters.py             the line that --stats prints at the end
    _engine, _transport     the two compiled extensions: the Go engine, and the Go-free C half

What is not replaced (connection, dummy, heap, managers, process, queues, reduction, resource_sharer, resource_tracker,
shared_memory, sharedctypes, synchronize, util) is the standard library's own module under goproc's name.

Neither importing goproc nor starting processes by fork starts a thread or loads the engine. The first Pool() does, or
the first process that is started by another method.
"""

import os
import sys

if "t" in getattr(sys, "abiflags", ""):
    raise ImportError(
        "goproc does not run on free-threaded builds of CPython: its C code relies on the GIL, and would give wrong "
        f"results without it. Use the ordinary build, python{sys.version_info.major}.{sys.version_info.minor}",
        name="goproc",
    )

if getattr(sys, "argv", [])[1:2] == ["--multiprocessing-fork"]:  # a spawned child
    from . import deferred_imports  # noqa: F401  (before multiprocessing)

from multiprocessing import SUBDEBUG, SUBWARNING, process, reduction  # noqa: F401

from . import context
from .errors import CancelledError, EngineError, TaskTimeoutError, WorkerLostError
from .install import install, submodule_finder

__getattr__ = submodule_finder("goproc")

__version__ = "0.1.0"

# As multiprocessing does: the public functions are the default context's methods.
__all__ = [name for name in dir(context._default_context) if not name.startswith("_")]
globals().update((name, getattr(context._default_context, name)) for name in __all__)
__all__ += ["CancelledError", "EngineError", "TaskTimeoutError", "WorkerLostError", "install"]

if os.environ.get("GOPROC_STATS"):
    from . import counters

    counters.print_if_wanted(os.environ["GOPROC_STATS"])
