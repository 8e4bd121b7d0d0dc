"""The environment variable GOPROC_DISABLE, which switches off parts of goproc.

    GOPROC_DISABLE=clones,placed-bytes python program.py

Most parts only make goproc faster: without such a part, the results are the same. If a program behaves better with a
part switched off, the part has a fault. Imported by __init__.py if the variable is set. Children and servers inherit
the variable.
"""

from . import disabled, role

__all__ = ["PARTS", "read"]

#: By part: what happens when it is switched off.
PARTS = {
    "batches": "each task of a map is pickled and sent by itself",
    "blas-threads": "workers of a pool have as many threads for BLAS and OpenMP as their libraries choose, unless the "
    "program gives threads=",
    "clones": "each worker is forked by itself from the main program, when it is needed",
    "cpu-quota": "a pool without a number of workers has as many as multiprocessing's, whatever the CPU quota is",
    "deferred-imports": "a spawned child imports at its start all that multiprocessing imports",
    "divided-chunks": "a chunk of a map is run by one worker",
    "dump": "no thread notes what it waits for, so `python -m goproc dump` shows stacks, but no locks and no circles",
    "late-conditions": "each future of an executor has its condition from the start, and a thread collects the results",
    "locks": "locks, semaphores, conditions, events and barriers are multiprocessing's: no killed holder is told of",
    "late-tracker": "the resource tracker is started with the first spawned process",
    "manager-connections": "the connections of managers are multiprocessing's",
    "openmp-pauses": "the threads of GCC's OpenMP are not ended before a fork",
    "placed-bytes": "large bytes objects that arrive are copied to private memory of the receiver",
    "plain-items": "queues pickle all items, also numbers, short strings and tuples of these",
    "preloaded-main": "each child of the fork server imports the main module, if each of multiprocessing's does",
    "process-titles": "ps and top show helper processes with the command line of the program",
    "queues": "queues are multiprocessing's, in pipes, with a thread for each process that puts",
    "repeats": "a large argument that comes again in each chunk of a map is sent with each chunk",
    "shares": "share() shares nothing: the object is pickled for each use",
    "spawn-server": "an interpreter is executed for each spawned process",
    "standby": "the servers fork a process only when a process is requested",
}


def read(value: str) -> None:
    """Switch off the parts named in value, separated by commas; "all" for all parts. Warn about unknown names."""
    names = {name.strip() for name in value.split(",")} - {""}
    if "all" in names:
        names = names - {"all"} | PARTS.keys()
    if (unknown := sorted(names - PARTS.keys())) and not role.startswith("--multiprocessing-"):
        import warnings

        text = f"GOPROC_DISABLE has {', '.join(map(repr, unknown))}, which goproc does not have: it knows "
        warnings.warn(text + ", ".join([*PARTS, "all"]), RuntimeWarning, stacklevel=3)
    disabled.update(names & PARTS.keys())
    if "placed-bytes" in disabled:
        from .. import _native

        _native.copy_bytes()
    if "process-titles" in disabled:
        from .. import _native

        _native.refuse_titles()
    if "plain-items" in disabled:
        from .. import _native

        _native.pickle_all_items()
    if "openmp-pauses" in disabled:
        from .. import _native

        _native.keep_openmp()
    if "dump" in disabled:
        from .. import _native

        _native.note_no_waits()
