"""The engine's functions (pybind/*.go): one for each, with its types. engine.py loads the engine, and calls it.

Each raises what engine.call() raises. An entry is the number of a process in the engine's table; a pool is the number
of one of the engine's pools. Lists and environments travel as JSON, since gopy has numbers and texts only.
"""

import os
from collections.abc import Iterable

from .. import _native
from . import cooperative
from .engine import PoolGoneError, call, is_loaded

__all__ = ["PoolGoneError", "RUNNING"]  # and all functions

#: What ExitCode answers while the process runs.
RUNNING = 1 << 20

_REPLY_SLICE_MS = 50  # how long one call waits; signal handlers run between calls


# ---- processes


def fork_prepare() -> int:
    """Return the entry of a child that is about to be forked. fork_commit() or fork_abort() must follow."""
    return call("ForkPrepare")


def fork_commit(entry: int, pid: int) -> int:
    """Give the entry its forked child; return the sentinel. After an error there is no child: it has been ended."""
    return call("ForkCommit", entry, pid)


def fork_abort(entry: int) -> None:
    """Give up an entry, as the fork failed."""
    call("ForkAbort", entry)


def spawn(command: "list[str | bytes]", fds: Iterable[int]) -> int:
    """Execute a program, which inherits the descriptors under their numbers; return its entry."""
    return call("Spawn", _texts(command), _environment(), _numbers(fds))


def pid(entry: int) -> int:
    """Return the number of the entry's process."""
    return call("Pid", entry)


def sentinel(entry: int) -> int:
    """Return the descriptor that is readable once the entry's process has ended."""
    return call("Sentinel", entry)


def exit_code(entry: int) -> "int | None":
    """Return the exit code of the entry's process, minus a signal's number if that ended it; None while it runs."""
    code = call("ExitCode", entry)
    return None if code == RUNNING else code


def signal(entry: int, number: int) -> None:
    """Send the entry's process a signal. One that has ended is no error."""
    call("Signal", entry, number)


def forget(entry: int) -> None:
    """Give back an entry about which nobody will ask any more."""
    call("Forget", entry)


def split_command(line: str) -> "list[str]":
    """Split a command line as a shell would. Raises ValueError for one that cannot be split, or has operators."""
    import json

    return json.loads(call("SplitCommand", line))


# ---- servers: method is "forkserver" or "spawn"


def start_forkserver(command: "list[str | bytes]", fds: Iterable[int]) -> None:
    """Start the fork server, unless it runs: a program that inherits the descriptors under their numbers."""
    call("ForkserverEnsure", _texts(command), _environment(), _numbers(fds))


def ask_forkserver(fds: Iterable[int]) -> int:
    """Have the fork server fork a process that is given duplicates of the descriptors; return its entry.

    Signal handlers run meanwhile. Raises ProcessLookupError if the server has ended before there was a process, OSError
    if it could not fork.
    """
    return _answer("forkserver", call("ForkserverRequest", _numbers(fds)))


def ask_spawn_server(command: "list[str | bytes]", fds: Iterable[int]) -> int:
    """Have the spawn server, whose command line is given, fork a process that inherits the descriptors.

    Returns and raises as ask_forkserver().
    """
    return _answer("spawn", call("SpawnRequest", _texts(command), _environment(), _numbers(fds)))


def _answer(method: str, request: int) -> int:
    try:
        if cooperative.is_patched():
            pauses = cooperative.Pauses()
            while not (entry := call("ServerReply", method, request, 0)):
                _native.held_signals.check()
                pauses.pause()
            return entry
        while not (entry := call("ServerReply", method, request, _REPLY_SLICE_MS)):
            _native.held_signals.check()
        return entry
    except BaseException:
        call("ServerAbandon", method, request)
        raise


def server_pid(method: str) -> "int | None":
    """Return the server's process id, None if none runs."""
    return (call("ServerPid", method) or None) if is_loaded() else None


def stop_server(method: str) -> None:
    """Stop the server, if one runs, and wait for its end."""
    if is_loaded():
        call("ServerStop", method)


# ---- pools


def pool_new(retries: int) -> int:
    """Make a pool without workers. retries: how often a task is run again that is lost with its worker."""
    return call("PoolNew", retries)


def pool_memory_fd(pool: int) -> int:
    """Return the descriptor of the memory that the pool shares with its workers. It stays the engine's."""
    return call("PoolMemoryFD", pool)


def pool_slots(pool: int, count: int) -> "list[int]":
    """Prepare slots for workers about to be started. pool_add() or pool_drop() must follow for each."""
    return [int(slot) for slot in call("PoolSlots", pool, count).split()]


def pool_add(pool: int, slot: int, entry: int, maxtasks: "int | None") -> None:
    """Put the worker in the slot to work; it ends by itself after maxtasks tasks."""
    call("PoolAdd", pool, slot, entry, maxtasks or 0)


def pool_drop(pool: int, slot: int) -> None:
    """Give back a slot whose worker could not be started."""
    call("PoolDrop", pool, slot)


def pool_limit(pool: int, job: int, index: int, microseconds: int) -> None:
    """Limit how long a task that is about to be submitted may run; 0 takes the limit back."""
    call("PoolLimit", pool, job, index, microseconds)


def pool_cancel(pool: int, job: int) -> int:
    """Withdraw a job's tasks, and end the workers that run one. Return how many will not complete by themselves."""
    return call("PoolCancel", pool, job)


def pool_cancel_all(pool: int) -> None:
    """Withdraw all tasks that have been submitted so far."""
    call("PoolCancelAll", pool)


def pool_up(pool: int) -> int:
    """Return how many workers have come up: have waited for a task, or taken one."""
    return call("PoolUp", pool)


def pool_idle(pool: int) -> "set[int]":
    """Return the process ids of the workers without a task: pool_terminate() tells these to end by themselves."""
    return {int(pid) for pid in call("PoolIdle", pool).split()}


def pool_close(pool: int) -> None:
    """Take no further tasks. Workers end when all has been done."""
    call("PoolClose", pool)


def pool_terminate(pool: int) -> None:
    """Complete all tasks that are not done as cancelled."""
    call("PoolTerminate", pool)


def pool_backlog(pool: int, since: int, most: int) -> "tuple[int, int]":
    """Return how many tasks workers yet to be added will take, at most most, and how many have been submitted so far.

    Of these only the first since count, unless that is negative.
    """
    queued, submitted = call("PoolBacklog", pool, since, most).split()
    return int(queued), int(submitted)


def pool_pending(pool: int) -> int:
    """Return how many tasks are queued, or with workers."""
    return call("PoolPending", pool)


def pool_destroy(pool: int) -> None:
    """Give back all that the pool holds. Destroying again does nothing."""
    call("PoolDestroy", pool)


# ---- the engine


def stats() -> "dict[str, object]":
    """Return the counters: started (by start method), tasks, lost, timeouts, retries, running. They need no engine."""
    if is_loaded():
        import json

        return json.loads(call("Stats"))
    forked, running = _native.counts()
    return {"started": {"fork": forked, "spawn": 0, "forkserver": 0}, "tasks": 0, "lost": 0, "running": running}


def _texts(texts) -> str:
    """Return a JSON array of texts (str, bytes or path) that may hold any bytes: each byte becomes one character.

    The bindings take UTF-8 only, while arguments, paths and the environment are bytes.
    """
    try:
        from _json import encode_basestring_ascii as quoted  # what package json uses, without importing all of it
    except ImportError:
        from json.encoder import py_encode_basestring_ascii as quoted

    return "[" + ",".join([quoted(os.fsencode(text).decode("latin-1")) for text in texts]) + "]"


def _environment() -> str:
    """Return the environment that a program would inherit now, as _texts() does: the C library's, not os.environ.

    They differ when the program has called os.putenv(), or one of its libraries setenv().
    """
    return _texts(_native.environment())


def _numbers(numbers) -> str:
    """Return a JSON array of ints. Raises TypeError or ValueError for what is no int."""
    return "[" + ",".join([str(int(number)) for number in numbers]) + "]"
