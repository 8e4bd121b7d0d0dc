"""The environment variable GOPROC_DISABLE: parts that make goproc fast, and that a program can do without.

    GOPROC_DISABLE=clones,placed-bytes python program.py

Each part has a plain way in its place, with the same results. A program that behaves better with a part disabled has
found a fault of that part. Imported by __init__.py if the variable is set. Children inherit the variable, and so do the
servers.
"""

from . import disabled, role

__all__ = ["PARTS", "read"]

#: Each part, and what is done without it.
PARTS = {
    "batches": "each task of a map is pickled and sent by itself",
    "clones": "each worker is forked by itself from the main program, when it is needed",
    "deferred-imports": "a spawned child imports all that multiprocessing imports at once",
    "divided-chunks": "a chunk of a map is run by one worker",
    "placed-bytes": "bytes that arrive are copied to memory of the receiver's own",
    "spawn-server": "an interpreter is executed for each spawned process",
    "process-titles": "ps and top show helper processes with the command line of the program",
    "standby": "the servers fork a process only when one is asked for",
}


def read(value: str) -> None:
    """Disable the parts that are named in value, with commas between them; all for "all". Warn of unknown names."""
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
