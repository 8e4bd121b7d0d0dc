"""The main function of a pool's worker: take tasks from the channel, call the user's function, send the results.

    channel.recv() ──▶ unpickle ──▶ func(*args, **kwds) ──▶ pickle ──▶ channel.send()

codec.py describes the form of a task. Whatever a task does becomes its result: the worker goes on, even if the task
raises SystemExit, or returns an object that cannot be pickled.

crew.py starts worker() as the target of a Process. A spawned worker imports this module, so it imports little. The
memory of a forked worker is copy-on-write, so it uses _signal: the functions of module signal make enum members, which
writes to memory.
"""

from _signal import SIG_UNBLOCK, SIGINT, default_int_handler, getsignal, pthread_sigmask, signal
from io import FileIO
from itertools import starmap
from multiprocessing import process, util
from multiprocessing.reduction import DupFd
from operator import length_hint
from os import getpid, sysconf
from pickle import PickleBuffer
from types import GeneratorType

from .. import _native
from .._common import own_pickler, picklers, start_methods
from . import blas_threads, failures  # noqa: F401  (blas_threads: so that a server has imported it before it forks)
from .codec import CALL, ITEM, MAP, OUT_OF_BAND, STREAM, decode, encode, function_named, outlined, sent, sent_by_me
from .failures import cannot_be_sent, packed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than all the rest of a worker

__all__ = ["ChannelEnd", "Plan", "by_name_or_value", "could_not_begin", "ignore_interrupt", "worker"]


#: The function that pickles results, if an initializer has set one (_cluster/arriving.py); None for codec.encode().
encode_result: "Any" = None

_PAGE_SIZE = sysconf("SC_PAGE_SIZE")


class ChannelEnd:
    """All that a worker needs to open its channel: the pool's memory and the worker's slot.

    memory_fd: the descriptor of the memory, in the sender; a spawned process receives a duplicate. slot: None in a
    worker that was forked ahead, and stands by. serial: the number of this worker in its pool. threads: its ThreadLimit
    (blas_threads.py), None for none.

    A spawned process is sent this object twice. The first time it comes before everything else, so that the worker can
    report an error in unpickling the rest. The second time it is one of the worker's arguments.
    """

    _arrived: "ChannelEnd | None" = None  # in a spawned process: the object that was sent first

    def __init__(self, memory_fd, slot, serial, threads=None):
        self.memory_fd, self.slot, self.serial, self.threads = memory_fd, slot, serial, threads
        self.interruptible = True  # whether the worker unblocks SIGINT once it can handle it
        self.sent = False
        self.started = 0.0  # when the worker was started, by _native.monotonic()
        self.clones = None  # in a clone: the _native.Nursery that it belongs to (nursery.py)

    def open(self):
        """Return the channel, which owns the descriptor from now on."""
        return _native.Channel(self.memory_fd, self.slot, self.serial)

    def limit_threads(self):
        """Apply the limit to the libraries of this process, once: in a spawned process before it imports any."""
        if self.threads is not None:
            self.threads.apply()
            self.threads = None

    def __reduce__(self):
        if self.sent:
            return _arrived, ()
        self.sent = True
        return _rebuild, (DupFd(self.memory_fd), self.slot, self.serial, self.interruptible, self.threads)


class Plan:
    """The arguments of worker() that are the same for all workers of a pool.

    initializer, initargs: called first. maxtasks: the number of tasks after which a worker exits; None for no limit.
    max_memory: the bytes of private resident memory above which a worker exits after a task; None for no limit.
    task_memory: how many bytes of memory a task may take, counted from what the worker has when it begins; None for no
    limit.
    threads: the ThreadLimit of each worker (blas_threads.py); None for none. wrap_exception: whether exceptions are
    sent with their tracebacks. nested: whether a task may start processes, which end with the worker. for_executor:
    whether the worker behaves like those of concurrent.futures: it may have children, it logs an error of the
    initializer, an error in pickling a result is sent as it is, and Ctrl-C is raised in a task. pickler: "pickle" or
    "cloudpickle".
    """

    __slots__ = ("maxtasks", "for_executor", "threads", "pickler", "task_memory", "arguments")

    def __init__(
        self,
        *,
        initializer,
        initargs,
        maxtasks,
        wrap_exception,
        pickler,
        max_memory=None,
        task_memory=None,
        threads=None,
        for_executor=False,
        nested=False,
    ):
        self.maxtasks = maxtasks
        self.threads = threads
        self.task_memory = task_memory
        self.for_executor = for_executor
        self.pickler = pickler
        flags = {"for_executor": for_executor, "nested": nested, "by_value": pickler == "cloudpickle"}
        flags["measured"] = task_memory is not None
        self.arguments = initializer, initargs, maxtasks, wrap_exception, max_memory, *flags.values()


def _rebuild(memory, slot, serial, interruptible, threads):
    end = ChannelEnd._arrived = ChannelEnd(memory.detach(), slot, serial, threads)
    end.interruptible = interruptible
    end.limit_threads()
    return end


def _arrived():
    return ChannelEnd._arrived


def ignore_interrupt(signum, frame):
    """Handle SIGINT by doing nothing. Ctrl-C reaches every process of the terminal; the main program decides about it.

    This is a handler, not SIG_IGN, because a program that a task executes would inherit SIG_IGN, but not a handler.
    """


class _InterruptTasks:
    """A handler of SIGINT that raises KeyboardInterrupt in tasks, and nowhere else. running: whether a task runs.

    sorts: whether it is called only for interrupts that this process sends itself, such as _thread.interrupt_main() of
    a timer, or that its parent sends it. Ctrl-C is then ignored, as by ignore_interrupt().
    """

    running = False

    def __init__(self, sorts):
        self.sorts = sorts

    def begin(self):
        """Handle SIGINT from now on."""
        signal(SIGINT, self)
        self._sort()

    def _sort(self):
        """Have only such signals handled. Return whether that was so already."""
        return not self.sorts or _native.sort_interrupts(getattr(process.parent_process(), "pid", 0))

    def __call__(self, signum, frame):
        if not self._sort():
            return  # a task has set another handler, and then this one again: nobody knows who has sent the signal
        if self.running:
            self.running = False
            raise KeyboardInterrupt


def could_not_begin(channel, error, wrap=True):
    """Send the pool the exception that keeps this worker from taking tasks, as the failure of NO_JOB.

    wrap: whether to send its traceback.
    """
    traceback = error.__traceback__
    try:
        stream, buffers = encode(packed(error, wrap))
    finally:
        error.__traceback__ = traceback  # the caller raises it again
    channel.send(True, stream, buffers)


def worker(
    end,
    initializer=None,
    initargs=(),
    maxtasks=None,
    wrap_exception=False,
    max_memory=None,
    for_executor=False,
    nested=False,
    by_value=False,
    measured=False,
):
    """Run tasks until the pool ends, maxtasks tasks have been run, or this process has more than max_memory bytes.

    end: the ChannelEnd. by_value: whether the pickler is "cloudpickle". measured: whether to tell the pool how much
    memory this process has when it begins a task. The other arguments are those of Plan. Source:
    multiprocessing.pool.worker.
    """
    if (maxtasks is not None) and not (isinstance(maxtasks, int) and maxtasks >= 1):
        raise AssertionError("Maxtasks {!r} is not valid".format(maxtasks))
    interrupts = _InterruptTasks(sorts=not for_executor)
    failures.by_value = by_value
    pickled = by_name_or_value if by_value else encode
    present = getsignal(SIGINT)
    if present is default_int_handler or present is ignore_interrupt:  # a fork server's child has the latter already
        interrupts.begin()
    if for_executor or nested:
        process.current_process().daemon = False  # so that it may have children; its end of the lifeline is a daemon's
    if nested:
        start_methods.bind_children()
    end.limit_threads()
    if end.slot is None:
        end.slot = end.clones.stand_by()
    if end.interruptible:
        pthread_sigmask(SIG_UNBLOCK, (SIGINT,))
    channel = end.open()
    if end.clones is not None:
        end.clones.pass_on()
    if initializer is not None:
        failures.import_ahead()
        try:
            initializer(*initargs)
        except BaseException as error:
            if for_executor:
                import logging

                logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
            could_not_begin(channel, error)
            raise SystemExit(1) from None  # the pool prints the error once, instead of each worker
    if encode_result is not None:
        pickled = encode_result
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
    note = None if start_methods.relay is None else start_methods.relay.note
    util.debug("worker %d takes tasks", getpid())
    completed, number = 0, -1
    func = args = kwds = items = together = task = payload = None
    while maxtasks is None or completed < maxtasks:
        if number < 0:
            if note is not None:
                note(None)
            try:
                task = recv()
            except KeyboardInterrupt:
                continue  # raised by the program's own SIGINT handler
            if task is None:
                util.debug("worker got sentinel -- exiting")
                break
            number, payload = task
        if measured:
            channel.base(own_memory())
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
                if note is not None:
                    note(func)
            interrupts.running = True
            if items is not None:
                args = items[number]
            if together:
                channel.time()
                value = outlined(_run_together(channel.more, func, items, number, map if how == MAP else starmap))
            elif how == CALL:
                value = func(*args, **kwds)
            elif how == ITEM:
                value = func(args)
            elif how == STREAM:
                value = _send_parts(channel.send_part, pickled, func, args)
            else:
                value = outlined(_each(map if how == MAP else starmap, func, args))
            if type(value) is bytes and len(value) >= OUT_OF_BAND and own_pickler.ANY.own() is None:
                value = PickleBuffer(value)
            interrupts.running = False
            failed = False
        except _ItemError as at:
            interrupts.running = False
            value, failed = packed(at.error, wrap_exception, at.offset), True
            at.error = None
        except BaseException as error:
            interrupts.running = False
            if for_executor and payload is not None:
                value, failed = packed(_unreadable(error), wrap_exception), True
            else:
                value, failed = packed(error, wrap_exception, None, payload is not None), True
        args = None
        try:
            stream, buffers = pickled(value)
        except BaseException as error:
            if not for_executor:
                error = cannot_be_sent(error, value)
            elif not by_value:
                picklers.explain(error)
            stream, buffers = encode(packed(error, for_executor))
            failed = True
        if sent:  # handles of shared objects: nobody else may hold them until they have arrived
            from .._common import sharing

            sharing.fly(sent_by_me())
        value = None
        last = max_memory is not None and own_memory() > max_memory
        try:
            number = send(failed, stream, buffers, last)
        except MemoryError as error:  # there is no shared memory for the result
            stream = buffers = None
            stream, buffers = encode(packed(error, wrap_exception))
            number = send(True, stream, buffers, last)
        if number < 0:
            func = kwds = items = together = task = payload = None
        stream = buffers = None
        completed += 1
        if last:
            break
    util.debug("worker exiting after %d tasks" % completed)


def by_name_or_value(value):
    """Do what encode() does. What cannot be pickled by name is pickled by value: only then cloudpickle is imported."""
    try:
        return encode(value)
    except Exception:
        from .forms import RESULTS

        return encode(value, RESULTS)


def _unreadable(error):
    """Return the exception of an executor's call that could not be unpickled: a BrokenProcessPool."""
    from concurrent.futures.process import BrokenProcessPool

    if getattr(error, "means_again", False):  # repeats.Refused: the call is submitted again
        return error
    broken = BrokenProcessPool(f"the worker could not unpickle the call: {type(error).__qualname__}: {error}")
    broken.__cause__ = error
    if isinstance(error, AttributeError) and not failures.by_value:
        picklers.advise(broken)
    return broken


def _send_parts(send_part, pickled, func, item):
    """Send each value of the iterable func(item) as a part. Close a generator that is not at its end afterwards."""
    made = func(item)
    try:
        values = iter(made)
    except TypeError:
        if hasattr(type(made), "__iter__"):
            raise
        name = getattr(func, "__qualname__", None) or type(func).__qualname__
        kind = type(made).__qualname__
        raise TypeError(
            f"stream() needs a function that yields values, or returns an iterable; {name}() has returned "
            f"an object of type {kind!r}"
        ) from None
    made = item = None
    try:
        for value in values:
            if type(value) is bytes and len(value) >= OUT_OF_BAND and own_pickler.ANY.own() is None:
                value = PickleBuffer(value)
            try:
                stream, buffers = pickled(value)
            except BaseException as error:
                raise cannot_be_sent(error, value) from None
            value = None
            send_part(stream, buffers)
            stream = buffers = None
    finally:
        if type(values) is GeneratorType:
            values.close()


class _ItemError(BaseException):
    """The exception of one of several calls, with the offset of the call's item."""

    def __init__(self, error, offset):
        self.error, self.offset = error, offset


def _each(apply, func, items):
    """Return the list of func's results for the items. apply: the builtin map, or starmap. Raises _ItemError."""
    left = iter(items)
    try:
        return list(apply(func, left))
    except BaseException as error:
        raise _ItemError(error, len(items) - length_hint(left) - 1) from None


def _run_together(more, func, items, number, apply):
    """Run tasks of a batch, from task `number` on, for about a millisecond; return the list of their results.

    more: Channel.more, which claims further tasks of the batch, and returns how many.
    """
    results: list[object] = []
    until = _native.monotonic() + 1e-3
    count = 1
    while count:
        try:
            results += _each(apply, func, items[number : number + count])
        except _ItemError as at:
            at.offset += len(results)
            raise
        number += count
        count = more(4 * len(results)) if _native.monotonic() < until else 0
    return results


def own_memory():
    """Return how many bytes of private resident memory this process has, without files and shared memory.

    Source: proc_pid_statm(5).
    """
    with FileIO("/proc/self/statm") as file:
        _, resident, shared, *_ = file.read(128).split()
    return (int(resident) - int(shared)) * _PAGE_SIZE
