"""The engine's functions (pybind/*.go): one typed Python function for each. engine.py loads the engine, and calls it.

Each function raises what engine.call() raises. `entry` is the id of a process in the engine's process table. `pool` is
the number of one of the engine's pools. Lists and environments are passed as JSON, since gopy passes only numbers and
texts.
"""

import os
from collections.abc import Iterable

from .. import _native
from . import cooperative
from .engine import PoolGoneError, call, is_loaded

__all__ = ["PoolGoneError", "RUNNING"]  # and all functions

#: What the engine's ExitCode returns while the process runs.
RUNNING = 1 << 20

_REPLY_SLICE_MS = 50  # how long one call waits; signal handlers run between calls


# ---- processes


def fork_prepare() -> int:
    """Return the entry of a child that is about to be forked. fork_commit() or fork_abort() must follow."""
    return call("ForkPrepare")


def fork_commit(entry: int, pid: int) -> int:
    """Give the entry its forked child; return the sentinel. If this raises, the engine has ended the child."""
    return call("ForkCommit", entry, pid)


def fork_abort(entry: int) -> None:
    """Give up an entry whose fork failed."""
    call("ForkAbort", entry)


def spawn(command: "list[str | bytes]", fds: Iterable[int]) -> int:
    """Execute a program, which inherits the descriptors fds under the same numbers; return its entry."""
    return call("Spawn", _texts(command), _environment(), _numbers(fds))


def pid(entry: int) -> int:
    """Return the process id of the entry's process."""
    return call("Pid", entry)


def sentinel(entry: int) -> int:
    """Return the descriptor that is readable once the entry's process has ended."""
    return call("Sentinel", entry)


def exit_code(entry: int) -> "int | None":
    """Return the exit code of the entry's process; if a signal ended it, minus its number. None while it runs."""
    code = call("ExitCode", entry)
    return None if code == RUNNING else code


def signal(entry: int, number: int) -> None:
    """Send a signal to the entry's process. Do nothing if the process has ended."""
    call("Signal", entry, number)


def forget(entry: int) -> None:
    """Release an entry that will not be used any more."""
    call("Forget", entry)


def split_command(line: str) -> "list[str]":
    """Split a command line as a shell does. Raises ValueError if it cannot be split, or has shell operators."""
    import json

    return json.loads(call("SplitCommand", line))


# ---- servers: method is "forkserver" or "spawn"


def start_forkserver(command: "list[str | bytes]", fds: Iterable[int]) -> None:
    """Start the fork server, unless it runs. It inherits the descriptors fds under the same numbers."""
    call("ForkserverEnsure", _texts(command), _environment(), _numbers(fds))


def ask_forkserver(fds: Iterable[int]) -> int:
    """Let the fork server fork a process that receives duplicates of the descriptors fds; return its entry.

    Signal handlers run meanwhile. Raises ProcessLookupError if the server has ended before there was a process, OSError
    if it could not fork.
    """
    return _answer("forkserver", call("ForkserverRequest", _numbers(fds)))


def ask_spawn_server(command: "list[str | bytes]", fds: Iterable[int]) -> int:
    """Let the spawn server fork a process that inherits the descriptors fds; return its entry.

    command: the command line of the server. Raises what ask_forkserver() raises.
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
    """Return the server's process id, None if no server runs."""
    return (call("ServerPid", method) or None) if is_loaded() else None


def stop_server(method: str) -> None:
    """Stop the server, if it runs, and wait for its end."""
    if is_loaded():
        call("ServerStop", method)


# ---- pools


def pool_new(retries: int) -> int:
    """Make a pool without workers; return its number. retries: how often a task whose worker was lost is run again."""
    return call("PoolNew", retries)


def pool_memory_fd(pool: int) -> int:
    """Return the descriptor of the memory that the pool shares with its workers. The engine owns it."""
    return call("PoolMemoryFD", pool)


def pool_slots(pool: int, count: int) -> "list[int]":
    """Reserve slots for workers; return their numbers. pool_add() or pool_drop() must follow for each slot."""
    return [int(slot) for slot in call("PoolSlots", pool, count).split()]


def pool_add(pool: int, slot: int, entry: int, maxtasks: "int | None") -> None:
    """Give tasks to the worker in the slot. maxtasks: the number of tasks after which it exits; None for no limit."""
    call("PoolAdd", pool, slot, entry, maxtasks or 0)


def pool_drop(pool: int, slot: int) -> None:
    """Release a slot whose worker could not be started."""
    call("PoolDrop", pool, slot)


def pool_limit(pool: int, job: int, index: int, microseconds: int) -> None:
    """Limit how long a task that is about to be submitted may run; 0 microseconds removes the limit."""
    call("PoolLimit", pool, job, index, microseconds)


def pool_limit_memory(pool: int, size: int) -> None:
    """Limit how many bytes of private resident memory each task may take; 0 removes the limit."""
    call("PoolLimitMemory", pool, size)


def pool_cancel(pool: int, job: int) -> int:
    """Withdraw a job's tasks, and end the workers that run one.

    Returns how many of the tasks are not done: no worker will complete them.
    """
    return call("PoolCancel", pool, job)


def pool_cancel_all(pool: int) -> None:
    """Withdraw all tasks that have been submitted so far."""
    call("PoolCancelAll", pool)


def pool_withdraw(pool: int, job: int) -> int:
    """Withdraw a job's tasks that have not begun: they complete as cancelled. Return how many there were."""
    return call("PoolWithdraw", pool, job)


def pool_withdraw_all(pool: int) -> int:
    """Withdraw all tasks that have not begun: they complete as cancelled. Return how many there were."""
    return call("PoolWithdrawAll", pool)


def pool_begun(pool: int, job: int) -> bool:
    """Return whether a worker runs a task of a job, or has run one whose result has not come."""
    return bool(call("PoolBegun", pool, job))


def pool_retry(pool: int, job: int, index: int, retries: int) -> None:
    """Set how often a task that is about to be submitted is run again if its worker is lost.

    0 removes that. With a negative number, the task is not run again, whatever holds for the pool.
    """
    call("PoolRetry", pool, job, index, retries)


def pool_taken(pool: int, job: int, index: int, part: int) -> None:
    """Tell the worker that the program has taken a part of a task, and all before it. part: the part's number."""
    call("PoolTaken", pool, job, index, part)


def pool_up(pool: int) -> int:
    """Return how many workers can take tasks: they have waited for a task, or taken one."""
    return call("PoolUp", pool)


def pool_idle(pool: int) -> "set[int]":
    """Return the process ids of the workers without a task: pool_terminate() tells these to exit by themselves."""
    return {int(pid) for pid in call("PoolIdle", pool).split()}


def pool_close(pool: int) -> None:
    """Refuse further tasks. The workers exit when all tasks are done."""
    call("PoolClose", pool)


def pool_terminate(pool: int) -> None:
    """Complete all tasks that are not done as cancelled."""
    call("PoolTerminate", pool)


def pool_backlog(pool: int, since: int, most: int) -> "tuple[int, int]":
    """Return (queued, submitted): how many tasks are left for workers yet to be added, and how many were submitted.

    queued is at most `most`. It counts only the first `since` submitted tasks, unless since is negative.
    """
    queued, submitted = call("PoolBacklog", pool, since, most).split()
    return int(queued), int(submitted)


def pool_pending(pool: int) -> int:
    """Return how many tasks are queued, or in the rings of workers, or running."""
    return call("PoolPending", pool)


def pool_destroy(pool: int) -> None:
    """Release everything that the pool holds. Does nothing if the pool has been destroyed."""
    call("PoolDestroy", pool)


# ---- the engine


def stats() -> "dict[str, object]":
    """Return the counters: started (by start method), tasks, lost, timeouts, retries, running. Loads no engine."""
    if is_loaded():
        import json

        counters = json.loads(call("Stats"))
    else:
        forked, running = _native.counts()
        started = {"fork": forked, "spawn": 0, "forkserver": 0}
        counters = {"started": started, "tasks": 0, "lost": 0, "running": running}
    for (pid, method), count in _executed.items():
        if pid == os.getpid():  # else a forked child has inherited it
            counters["started"]["fork"] -= count
            counters["started"][method] += count
    return counters


#: How many processes each process has executed without the engine, by its pid and the start method. These have seats,
#: as forked ones have.
_executed: "dict[tuple[int, str], int]" = {}


def count_executed(method: str) -> None:
    """Count a process that was executed without the engine. method: the start method."""
    key = os.getpid(), method
    _executed[key] = _executed.get(key, 0) + 1


def _texts(texts) -> str:
    """Return a JSON array of texts (str, bytes or path), in which each byte of a text is one character.

    The bindings accept only UTF-8, but arguments, paths and the environment may have any bytes.
    """
    try:
        from _json import encode_basestring_ascii as quoted  # json's own encoder, without importing package json
    except ImportError:
        from json.encoder import py_encode_basestring_ascii as quoted

    return "[" + ",".join([quoted(os.fsencode(text).decode("latin-1")) for text in texts]) + "]"


def _environment() -> str:
    """Return the environment that an executed program would inherit now, as a JSON array.

    It is the C library's environment, not os.environ. They differ when the program has called os.putenv(), or when one
    of its libraries has called setenv().
    """
    return _texts(_native.environment())


def _numbers(numbers) -> str:
    """Return a JSON array of ints. Raises TypeError or ValueError for an element that is not an int."""
    return "[" + ",".join([str(int(number)) for number in numbers]) + "]"
