"""What runs in a pool's worker process: it takes tasks from its channel, calls the user's function, sends the results.

    channel.recv() ──▶ unpickle ──▶ func(*args, **kwds) ──▶ pickle ──▶ channel.send()

A task is a tuple (func, args, kwds). Short ones travel in batches, of which each task is begun and answered by itself:
(func, items, kwds, False), where the args of task number n are items[n]. When its last element is True, a batch is a
chunk of a map whose size nobody asked for: as many of its tasks as take about a millisecond are begun, and answered,
together.

Started by pool.py as the target of a Process. A spawned worker imports this module, so it imports little; and what a
forked one writes to must be copied, so it uses _signal: the functions of module signal make enumerations. Whatever
a task does, raise SystemExit, return what cannot be pickled, becomes that task's result: the worker goes on.
"""

import sys
from _signal import SIG_UNBLOCK, SIGINT, default_int_handler, getsignal, pthread_sigmask, signal
from itertools import starmap
from multiprocessing import context as _context
from multiprocessing import reduction as _reduction
from multiprocessing import util
from multiprocessing.reduction import DupFd, ForkingPickler
from operator import length_hint
from os import sysconf
from pickle import DEFAULT_PROTOCOL, PickleBuffer
from time import perf_counter
from types import FunctionType

from . import _transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than all the rest of a worker

__all__ = ["ChannelEnd", "decode", "encode", "worker"]

#: Buffers below this many bytes are copied into the pickle: a place of their own would cost more.
_OUT_OF_BAND = 32 << 10

#: A pickler whose pickle was longer, in bytes, is not kept: its memo may have grown, and is cleared in full each time.
_KEPT = 4096

_PAGE_SIZE = sysconf("SC_PAGE_SIZE")

_loads = ForkingPickler.loads


class ChannelEnd:
    """The worker's end of a channel on its way to the worker: what to open, and in which slot.

    memory_fd is a descriptor of the sender; sent to a spawned process it arrives as its own. The end is sent
    twice: ahead of everything else, so that what goes wrong with that can be told, and with the worker's arguments. The
    slot is None in a worker that was forked ahead, and stands by for one.
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
        return _transport.Channel(self.memory_fd, self.slot, self.serial)

    def __reduce__(self):
        if self.sent:
            return _arrived, ()
        self.sent = True
        return _rebuild, (DupFd(self.memory_fd), self.slot, self.serial, self.interruptible)


def _rebuild(memory, slot, serial, interruptible):
    end = ChannelEnd._arrived = ChannelEnd(memory.detach(), slot, serial)
    end.interruptible = interruptible
    return end


def _arrived():
    return ChannelEnd._arrived


def leave_interrupts(signum, frame):
    """Do nothing: Ctrl-C reaches every process of the terminal, and it is the main program that decides what it means.

    It is a handler, not SIG_IGN, so that programs that tasks start are interrupted as ever.
    """


def could_not_begin(channel, error, wrap=True):
    """Tell the pool what keeps this worker from taking tasks: the failure of no task. wrap: with its traceback."""
    traceback = error.__traceback__
    try:
        stream, buffers = encode(_failure(error, wrap))
    finally:
        error.__traceback__ = traceback  # it goes on
    channel.send(True, stream, buffers)


class _Pickler(ForkingPickler):
    """A pickler that keeps what it writes, and the buffers that it leaves out.

    It can be used again, when these have been taken out of it, and reset() has been called.
    """

    def __init__(self):
        self.written: list[bytes] = []
        self.buffers: list[PickleBuffer] = []
        super().__init__(_Sink(self.written.append), 5, True, self._keep)
        self.undecided = self.dispatch_table = _Undecided(self)

    def reset(self):
        self.clear_memo()
        self.dispatch_table = self.undecided

    def _keep(self, buffer):
        if memoryview(buffer).nbytes < _OUT_OF_BAND:
            return True  # in the stream
        self.buffers.append(buffer)
        return False


class _Undecided(dict):
    """A pickler's table of reducers until an object is pickled that may have one: then those registered are copied.

    What is simple needs none, and is pickled in less time than that takes. A pickler that is kept must do it each time.
    """

    def __init__(self, pickler):
        self._pickler = pickler

    def __missing__(self, kind):
        pickler = self._pickler
        pickler.dispatch_table = reducers = pickler._copyreg_dispatch_table | pickler._extra_reducers
        array = getattr(sys.modules.get("numpy"), "ndarray", None)
        if array is not None and DEFAULT_PROTOCOL < 5:
            reducers.setdefault(array, _reduced_array)
        return reducers[kind]


#: numpy's type characters of booleans and numbers: these say all about the type.
_NUMBERS = frozenset("?bBhHiIlLqQefdgFDG")


def _reduced_array(array):
    """Reduce an array of numpy's so that it arrives as with multiprocessing, which pickles by the default protocol.

    Below protocol 5 that means: it is writable, even if it is read-only here; in C order, unless it is contiguous in
    Fortran order; in this machine's byte order; and a small one owns its data. Protocol 5 is used all the same, so that
    large data is left out of the stream. Where 5 is the default, a read-only array arrives read-only with
    multiprocessing, too.
    """
    kind = array.dtype
    if array.nbytes < _OUT_OF_BAND and kind.char in _NUMBERS and kind.isnative and kind.metadata is None:
        order = "F" if array.flags.fnc else "C"
        content = array.tobytes(order)
        return _small_array, (array.shape, kind.char, order, content if len(content) <= 1000 else bytearray(content))
    if array.nbytes < _OUT_OF_BAND or kind.hasobject or kind.byteorder in "<>":  # as numpy writes the other order
        return array.__reduce__()
    flags = array.flags
    if not flags.forc:
        array = array.copy()
        flags = array.flags
    reduced = array.__reduce_ex__(5)
    if not flags.writeable and type(reduced[1][0]) is PickleBuffer:  # numpy cannot export buffers of some types
        function, (buffer, *others) = reduced
        reduced = function, (PickleBuffer(_transport.Writable(buffer)), *others)
    return reduced


def _small_array(shape, char, order, content):
    """Return the array that _reduced_array took apart. numpy's own way takes twice as long.

    Up to 1,000 bytes it owns its data, as numpy has it: then content is bytes.
    """
    import numpy

    array: Any = numpy.ndarray(shape, char, content, order=order)
    return array.copy(order) if type(content) is bytes else array


class _Sink:
    """A file to write to: the pickler writes a small pickle in one piece."""

    __slots__ = ("write",)

    def __init__(self, write):
        self.write = write


#: The picklers that are not in use: one, unless several threads pickle, or pickling runs code that pickles. It is made
#: before a worker is forked, which need not make its own then.
_idle = [_Pickler()]


def encode(obj):
    """Pickle a call or a result, with large buffers left out of the stream (PEP 574).

    Returns (stream, buffers): bytes, or a list of several whose sum it is, and None or a list of the buffers. It is
    faster than ForkingPickler.dumps because it keeps its pickler.
    """
    if _context.reduction is not _reduction:  # a program's own, set by `context.reducer = ...`
        return bytes(_context.reduction.ForkingPickler.dumps(obj)), None
    try:
        pickler = _idle.pop()
    except IndexError:
        pickler = _Pickler()
    pickler.dump(obj)  # one that raises is not used again
    pickler.reset()
    written = pickler.written
    if len(written) == 1 and not pickler.buffers:
        stream = written.pop()
        # Now that it is empty: a signal handler may raise anywhere in here. reset() does not make its memo small.
        _idle.append(pickler if len(stream) <= _KEPT else _Pickler())
        return stream, None
    buffers = pickler.buffers
    pickler.written, pickler.buffers = [], []  # it is part of a cycle, which may live on for long
    _idle.append(_Pickler())  # it may have grown large
    return written, buffers


def outlined(values):
    """Return the tuple or list values so that the large bytes objects in it are left out of the stream.

    Copying such an object through the stream costs more than unpickling one from a buffer. Only a few values are looked
    at, for looking costs time, too. Anything else is returned as it is.
    """
    kind = type(values)
    if kind is tuple and len(values) == 1 and type(values[0]) is not bytes:
        return values  # the commonest, found faster
    if _context.reduction is not _reduction:
        return values
    if (kind is tuple or kind is list) and len(values) <= 64 and bytes in map(type, values):
        return [PickleBuffer(v) if type(v) is bytes and len(v) >= _OUT_OF_BAND else v for v in values]
    return values


#: No job's number: under it a worker tells why it cannot take tasks (core/ring/layout.go, capi/transport/layout.h).
NO_JOB = (1 << 64) - 1

#: What a function's text begins with if its exceptions are to be returned. No module's name does.
_RETURNING = "\1"

#: What stands in the place of kwds for a call of func on each item of args, on the arguments that each item holds, or
#: on args itself.
MAP, STARMAP, ITEM = None, False, True


def by_name(func):
    """Return func, or the text by which function_named finds it, if it is a function that is pickled by its name.

    A text costs a tenth of what pickling the name costs. What the pickler would refuse is left to it.
    """
    if type(func) is FunctionType and _context.reduction is _reduction:
        module, name = func.__module__, func.__qualname__
        if getattr(sys.modules.get(module), name, None) is func:
            return f"{module}\0{name}"
    return func


def returning(func):
    """Return what stands for func in a map that returns exceptions: by_name's text, marked, or a Returning."""
    name = by_name(func)
    return _RETURNING + name if name is not func else Returning(func)


def function_named(text):
    """Return the function that by_name gave the text for. Raises what unpickling its name would.

    Any other text is returned as it is: somebody has handed it in as a function, and calling it raises what it should.
    """
    module, separator, name = text.partition("\0")
    if not separator:
        return text
    if module.startswith(_RETURNING):
        return Returning(function_named(text[len(_RETURNING) :]))
    if module not in sys.modules:
        __import__(module)
    try:
        return getattr(sys.modules[module], name)
    except AttributeError:
        raise AttributeError(f"Can't get attribute {name!r} on {sys.modules[module]!r}") from None


class Returning:
    """A function that returns what func raises, in a form that is unpickled as the exception."""

    def __init__(self, func):
        self.func = func

    def __call__(self, *args):
        try:
            return self.func(*args)
        except BaseException as error:
            return Returned(_failure(error, True))


class Returned:
    """An exception on its way to the main program, as a result."""

    def __init__(self, failure):
        self.failure = failure

    def __reduce__(self):
        return _rebuilt, (self.failure,)


def _rebuilt(failure):
    from .dispatch import rebuilt

    return rebuilt(failure)


def called(func, args, kwds):
    """Return func(*args, **kwds): for kwds that mean something else in a task."""
    return func(*args, **kwds)


def decode(payload):
    """Return the object of a payload: bytes, or (stream, buffers) as a channel delivers it."""
    if _context.reduction is not _reduction:
        stream = payload[0] if type(payload) is tuple else payload
        return _context.reduction.ForkingPickler.loads(stream)
    if type(payload) is tuple:
        return _loads(payload[0], buffers=payload[1])
    return _loads(payload)


def worker(end, initializer=None, initargs=(), maxtasks=None, wrap_exception=False, max_memory=None):
    """Run tasks until the pool says that there are no more, maxtasks have been run, or this process is too large.

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
            raise SystemExit(1) from None  # the pool says what it was: once, and not for each worker
    value: Any
    func: Any
    args: Any
    kwds: Any
    items: Any
    together: Any
    task: Any
    payload: Any
    recv, send = channel.recv, channel.send
    completed, number = 0, -1
    func = args = kwds = items = together = task = payload = None
    while maxtasks is None or completed < maxtasks:
        if number < 0:
            try:
                task = recv()
            except KeyboardInterrupt:
                continue  # by a handler of the program's own; it is the same with Ctrl-C
            if task is None:
                util.debug("worker got sentinel -- exiting")
                break
            number, payload = task
        try:
            if payload is not None:
                task = decode(payload)
                if len(task) == 3:
                    func, args, kwds = task
                else:
                    func, items, kwds, together = task
                if type(func) is str:
                    func = function_named(func)
                task = payload = None
            if items is not None:
                args = items[number]
            if together:
                value = outlined(_together(channel.more, func, items, number, map if kwds is MAP else starmap))
            elif kwds is ITEM:
                value = func(args)
            elif kwds is MAP:
                value = outlined(_each(map, func, args))
            elif kwds is STARMAP:
                value = outlined(_each(starmap, func, args))
            else:
                value = func(*args, **kwds)
            if type(value) is bytes and len(value) >= _OUT_OF_BAND and _context.reduction is _reduction:
                value = PickleBuffer(value)
            failed = False
        except _AtItem as at:
            value, failed = _failure(at.error, wrap_exception, at.offset), True
            at.error = None
        except BaseException as error:
            value, failed = _failure(error, wrap_exception, None, payload is not None), True
        args = None
        try:
            stream, buffers = encode(value)
        except BaseException as error:
            stream, buffers = encode(_failure(_cannot_be_sent(error, value), False))
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
    """What a call of several together has raised, and which of them it was."""

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
    """Run tasks of a batch from the given number on, until a millisecond is over; return their results as a list."""
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
    """Return how many bytes of memory this process has that are not of a file, or shared with others as such.

    Source: proc_pid_statm(5).
    """
    with open("/proc/self/statm", "rb", buffering=0) as file:
        _, resident, shared, *_ = file.read(128).split()
    return (int(resident) - int(shared)) * _PAGE_SIZE


def _cannot_be_sent(error, value):
    """Return what to send for a value that could not be pickled because of error."""
    from multiprocessing.pool import MaybeEncodingError

    try:
        return MaybeEncodingError(error, value)
    except BaseException:  # one of the two cannot even be shown
        return MaybeEncodingError(type(error).__name__, f"<{type(value).__qualname__} object>")


def _failure(error, wrap, offset=None, unread=False):
    """Return what to send for an exception, which dispatch.rebuilt() makes an exception again: a tuple of

    offset      which item of a chunk raised it, None if that is not known
    unread      whether it is the task itself that could not be unpickled
    shown       what it looks like, for when it cannot be unpickled
    traceback   the text that is its cause in the main program, None if wrap is false
    pickled     the exception, or None
    reason      why it could not be pickled
    """
    text = pickled = reason = None
    if wrap:
        from multiprocessing.pool import ExceptionWithTraceback

        try:
            text = ExceptionWithTraceback(error, error.__traceback__).tb
        except BaseException:
            pass  # it cannot even be shown
    error.__traceback__ = None
    try:
        pickled = bytes(ForkingPickler.dumps(error, 5))
    except BaseException as why:
        reason = _shown(why)
    return offset, unread, _shown(error), text, pickled, reason


def _shown(value):
    try:
        return repr(value)
    except BaseException:
        return f"<{type(value).__qualname__} object>"
