"""What runs in a pool's worker process: it takes tasks from its channel, calls the user's function, sends the results.

    channel.recv() ──▶ unpickle ──▶ func(*args, **kwds) ──▶ pickle ──▶ channel.send()

What a task looks like is in codec.py.

Started by crew.py as the target of a Process. A spawned worker imports this module, so it imports little. The memory of
a forked one is copy-on-write, so it uses _signal: the functions of module signal make enumerations. Whatever a task
does becomes its result, even if it raises SystemExit or returns what cannot be pickled: the worker goes on.
"""

from _signal import SIG_UNBLOCK, SIGINT, default_int_handler, getsignal, pthread_sigmask, signal
from itertools import starmap
from multiprocessing import context as _context
from multiprocessing import reduction as _reduction
from multiprocessing import util
from multiprocessing.reduction import DupFd
from operator import length_hint
from os import getpid, sysconf
from pickle import PickleBuffer
from time import perf_counter

from .. import _native
from .codec import CALL, ITEM, MAP, OUT_OF_BAND, decode, encode, function_named, outlined
from .failures import cannot_be_sent, packed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than all the rest of a worker

__all__ = ["ChannelEnd", "Plan", "could_not_begin", "leave_interrupts", "worker"]


_PAGE_SIZE = sysconf("SC_PAGE_SIZE")


class ChannelEnd:
    """The worker's end of a channel on its way to the worker: what to open, and in which slot.

    memory_fd is a descriptor of the sender; a spawned process receives its own. The end is sent twice: first ahead of
    everything else, so that the worker can report what goes wrong with the rest, then with the worker's arguments. slot
    is None in a worker that was forked ahead, and stands by for one.
    """

    _arrived: "ChannelEnd | None" = None  # in a spawned process: the one that was sent first

    def __init__(self, memory_fd, slot, serial):
        self.memory_fd, self.slot, self.serial = memory_fd, slot, serial
        self.interruptible = True  # whether SIGINT is blocked only until the worker has come up
        self.sent = False
        self.started = 0.0  # when it was sent, by time.monotonic()
        self.clones = None  # in a clone, what it was cloned from (nursery.py)

    def open(self):
        """Return the channel; the descriptor is its own from now on."""
        return _native.Channel(self.memory_fd, self.slot, self.serial)

    def __reduce__(self):
        if self.sent:
            return _arrived, ()
        self.sent = True
        return _rebuild, (DupFd(self.memory_fd), self.slot, self.serial, self.interruptible)


class Plan:
    """What each worker of a pool is to be: the arguments of worker() that are the same for all.

    initializer, initargs: called first. maxtasks, max_memory: after how many tasks, or with how many bytes of its own,
    a worker ends; None for never. wrap_exception: whether exceptions bring their tracebacks.
    """

    __slots__ = ("maxtasks", "arguments")

    def __init__(self, *, initializer, initargs, maxtasks, wrap_exception, max_memory):
        self.maxtasks = maxtasks
        self.arguments = initializer, initargs, maxtasks, wrap_exception, max_memory


def _rebuild(memory, slot, serial, interruptible):
    end = ChannelEnd._arrived = ChannelEnd(memory.detach(), slot, serial)
    end.interruptible = interruptible
    return end


def _arrived():
    return ChannelEnd._arrived


def leave_interrupts(signum, frame):
    """Do nothing: Ctrl-C reaches every process of the terminal, and the main program decides what it means.

    It is a handler, not SIG_IGN, so that programs that tasks start are interrupted as ever.
    """


def could_not_begin(channel, error, wrap=True):
    """Tell the pool what keeps this worker from taking tasks: the failure of no task. wrap: with its traceback."""
    traceback = error.__traceback__
    try:
        stream, buffers = encode(packed(error, wrap))
    finally:
        error.__traceback__ = traceback  # the caller raises it again
    channel.send(True, stream, buffers)


def worker(end, initializer=None, initargs=(), maxtasks=None, wrap_exception=False, max_memory=None):
    """Run tasks until the pool has no more, maxtasks have been run, or this process is too large.

    end is the ChannelEnd. max_memory: how many bytes of its own this process may have after a task. Source:
    multiprocessing.pool.worker.
    """
    if (maxtasks is not None) and not (isinstance(maxtasks, int) and maxtasks >= 1):
        raise AssertionError("Maxtasks {!r} is not valid".format(maxtasks))
    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, leave_interrupts)
    if end.slot is None:
        end.slot = end.clones.stand_by()
    if end.interruptible:
        pthread_sigmask(SIG_UNBLOCK, (SIGINT,))
    channel = end.open()
    if end.clones is not None:
        end.clones.pass_on()
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException as error:
            could_not_begin(channel, error)
            raise SystemExit(1) from None  # the pool prints the error: once, not for each worker
    value: Any
    func: Any
    args: Any
    kwds: Any
    how: Any
    items: Any
    together: Any
    task: Any
    payload: Any
    recv, send = channel.recv, channel.send
    util.debug("worker %d takes tasks", getpid())
    completed, number = 0, -1
    func = args = kwds = items = together = task = payload = None
    while maxtasks is None or completed < maxtasks:
        if number < 0:
            try:
                task = recv()
            except KeyboardInterrupt:
                continue  # from a SIGINT handler of the program's own
            if task is None:
                util.debug("worker got sentinel -- exiting")
                break
            number, payload = task
        try:
            if payload is not None:
                task = decode(payload)
                if len(task) == 3:
                    how, func, args = task
                elif task[0] == CALL:
                    how, func, args, kwds = task
                else:
                    how, func, items, together = task
                if type(func) is str:
                    func = function_named(func)
                task = payload = None
            if items is not None:
                args = items[number]
            if together:
                value = outlined(_together(channel.more, func, items, number, map if how == MAP else starmap))
            elif how == CALL:
                value = func(*args, **kwds)
            elif how == ITEM:
                value = func(args)
            else:
                value = outlined(_each(map if how == MAP else starmap, func, args))
            if type(value) is bytes and len(value) >= OUT_OF_BAND and _context.reduction is _reduction:
                value = PickleBuffer(value)
            failed = False
        except _AtItem as at:
            value, failed = packed(at.error, wrap_exception, at.offset), True
            at.error = None
        except BaseException as error:
            value, failed = packed(error, wrap_exception, None, payload is not None), True
        args = None
        try:
            stream, buffers = encode(value)
        except BaseException as error:
            stream, buffers = encode(packed(cannot_be_sent(error, value), False))
            failed = True
        value = None
        last = max_memory is not None and own_memory() > max_memory
        number = send(failed, stream, buffers, last)
        if number < 0:
            func = kwds = items = together = task = payload = None
        stream = buffers = None
        completed += 1
        if last:
            break
    util.debug("worker exiting after %d tasks" % completed)


class _AtItem(BaseException):
    """What one of several calls has raised, and which one it was."""

    def __init__(self, error, offset):
        self.error, self.offset = error, offset


def _each(apply, func, items):
    """Return the results of func for each of the items as a list. apply: map or starmap. Raises _AtItem."""
    left = iter(items)
    try:
        return list(apply(func, left))
    except BaseException as error:
        raise _AtItem(error, len(items) - length_hint(left) - 1) from None


def _together(more, func, items, number, apply):
    """Run tasks of a batch from the given number on, for a millisecond; return their results as a list."""
    results: list[object] = []
    until = perf_counter() + 1e-3
    count = 1
    while count:
        try:
            results += _each(apply, func, items[number : number + count])
        except _AtItem as at:
            at.offset += len(results)
            raise
        number += count
        count = more(4 * len(results)) if perf_counter() < until else 0
    return results


def own_memory():
    """Return how many bytes of resident memory this process has, without files and shared memory.

    Source: proc_pid_statm(5).
    """
    with open("/proc/self/statm", "rb", buffering=0) as file:
        _, resident, shared, *_ = file.read(128).split()
    return (int(resident) - int(shared)) * _PAGE_SIZE
