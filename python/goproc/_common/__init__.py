"""Used by all private folders of goproc. This file holds which parts are switched off, and where the extensions are.

engine.py         loads the Go engine when it is first needed, and calls it
calls.py          the engine's functions, one Python function for each
stdlib.py         the standard library's modules, and its private names that goproc uses
start_methods.py  the contexts, by the names of their start methods
starters.py       the functions by which the program itself starts processes, if it has replaced multiprocessing's
monkeypatches.py  whether the program has replaced functions of the standard library
threads.py        threads of goproc's own
cooperative.py    waiting under gevent and eventlet
detached.py       what the interpreter keeps to its very end
queue_ends.py     the private parts of multiprocessing's queues
queue_types.py    the types of queues, which are multiprocessing's after install()
stand_ins.py      the locks, conditions and semaphores inside its queues and events
sharing.py        share(): objects in shared memory, and their handles
buffers.py        which buffers may be pickled out of band
nameless.py       memory without a name: making, opening and measuring it
named_locks.py    multiprocessing's own locks, if goproc's cannot be made
manager_connections.py  the connections between a manager's proxies and its server
picklers.py       which pickler a pool, an executor or a process uses
own_pickler.py    the pickler that the program has put in the place of multiprocessing's
by_value.py       pickles functions and classes by value, with cloudpickle
replaced.py       the modules that install() has replaced, for pickles of their objects
awaiting.py       awaiting in coroutines of asyncio
cpus.py           how many CPUs this process can use
counters.py       the line that --stats prints at the end
clusters.py       whether the pools of this program are on a cluster
switches.py       the parts that GOPROC_DISABLE switches off
log.py            messages to the log, and to standard error
installation.py   says why goproc cannot be used here
"""

import os
import sys
from _imp import extension_suffixes
from io import FileIO

# The functions of module posix, which os shows, too: tests replace those of os while the program that they test uses a
# pool (unittest.mock, pyfakefs). For the same reason this package does not read its files with open().
try:
    import posix
except ImportError:
    pass  # an operating system that is_supported() refuses

#: This program's first argument. In spawned children and servers it is --multiprocessing-fork or
#: --multiprocessing-forkserver.
role = (getattr(sys, "argv", [])[1:2] or [""])[0]

#: The parts that are switched off. switches.py fills it in, if the environment variable GOPROC_DISABLE is set.
#: engine.py adds "queues" where there are not enough addresses for an engine.
disabled: "set[str]" = set()

#: The folder of the package, in which the extensions lie.
folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def exists(path: str) -> bool:
    """Return whether there is a file or a folder of this name that this process can reach."""
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def extension_path(name: str) -> "str | None":
    """Return the path of the extension of this name for this interpreter, None if there is none."""
    for suffix in extension_suffixes():
        path = f"{folder}/{name}{suffix}"
        if exists(path):
            return path
    return None


def is_supported() -> bool:
    """Return whether this is CPython on Linux with the GIL, and _native is there for it.

    `import goproc` calls this. It looks for a file name only, and loads nothing.
    """
    if sys.platform != "linux" or sys.implementation.name != "cpython" or "t" in sys.abiflags:
        return False
    return extension_path("_native") is not None


def is_whole(path: str) -> bool:
    """Return whether a library has the length that its header states; True if that cannot be found out.

    A shorter library must not be loaded: the dynamic loader would map it nevertheless, and the process would die by
    SIGBUS.
    """
    try:
        with FileIO(path) as file:
            header = file.read(64)
            size = posix.fstat(file.fileno()).st_size
    except OSError:
        return True  # the loader will say why
    if len(header) < 64:
        return False
    # ELF for 64 bits: the table of sections is the last part of the file.
    table = int.from_bytes(header[40:48], "little")
    entry, count = int.from_bytes(header[58:60], "little"), int.from_bytes(header[60:62], "little")
    return header[:6] != b"\x7fELF\x02\x01" or table + entry * count <= size
