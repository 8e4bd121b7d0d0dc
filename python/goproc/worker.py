"""What runs in a pool's worker process: it takes tasks from its channel, calls the user's function, sends the results.

    channel.recv() ──▶ unpickle ──▶ func(*args, **kwds) ──▶ pickle ──▶ channel.send()

A task is a tuple (func, args, kwds). Short ones travel in batches, (func, items, kwds, together): the args of task
number n are items[n]. If together is False, each task is begun and answered by itself. If it is True, the batch is a
chunk of a map that was given no chunksize: as many tasks as take about a millisecond are begun and answered together.

Started by pool.py as the target of a Process. A spawned worker imports this module, so it imports little. The memory of
a forked one is copy-on-write, so it uses _signal: the functions of module signal make enumerations. Whatever a task
does becomes its result, even if it raises SystemExit or returns what cannot be pickled: the worker goes on.
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

#: Buffers of fewer bytes are copied into the pickle: a place of their own would cost more.
_OUT_OF_BAND = 32 << 10

#: A pickler is not kept after a pickle of more bytes: its memo may have grown, and is cleared in full each time.
_KEPT = 4096

_PAGE_SIZE = sysconf("SC_PAGE_SIZE")

_loads = ForkingPickler.loads


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
    """Do nothing: Ctrl-C reaches every process of the terminal, and the main program decides what it means.

    It is a handler, not SIG_IGN, so that programs that tasks start are interrupted as ever.
    """


def could_not_begin(channel, error, wrap=True):
    """Tell the pool what keeps this worker from taking tasks: the failure of no task. wrap: with its traceback."""
    traceback = error.__traceback__
    try:
        stream, buffers = encode(_failure(error, wrap))
    finally:
        error.__traceback__ = traceback  # the caller raises it again
    channel.send(True, stream, buffers)


class _Pickler(ForkingPickler):
    """A pickler that keeps what it writes, and the buffers that it leaves out.

    It can be used again once these have been taken out of it and reset() has been called.
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
    """A pickler's table of reducers until an object needs one: only then the registered ones are copied.

    Simple objects need none, and are pickled in less time than the copy takes. A kept pickler copies for each pickle.
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


#: numpy's type characters of booleans and numbers: these describe the type completely.
_NUMBERS = frozenset("?bBhHiIlLqQefdgFDG")


def _reduced_array(array):
    """Reduce an array of numpy's so that it arrives as with multiprocessing, which pickles by the default protocol.

    Below protocol 5 that means: it is writable, even if it is read-only here; in C order, unless it is contiguous in
    Fortran order; in this machine's byte order; and a small one owns its data. Protocol 5 is still used, so that large
    data is left out of the stream. Where 5 is the default, a read-only array stays read-only with multiprocessing, too.
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

    Up to 1,000 bytes, content is bytes, and the array owns its data, as with numpy.
    """
    import numpy

    array: Any = numpy.ndarray(shape, char, content, order=order)
    return array.copy(order) if type(content) is bytes else array


class _Sink:
    """A file to write to: the pickler writes a small pickle in one piece."""

    __slots__ = ("write",)

    def __init__(self, write):
        self.write = write


#: The picklers that are not in use: one, unless several threads pickle, or pickling runs code that pickles. The first
#: is made before workers are forked, so that they need not make their own.
_idle = [_Pickler()]


def encode(obj):
    """Pickle a call or a result, with large buffers left out of the stream (PEP 574).

    Returns (stream, buffers). stream: bytes, or a list of bytes to be joined. buffers: None, or a list. It is faster
    than ForkingPickler.dumps because it keeps its pickler.
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
        # Only now that it is empty, as a signal handler may raise anywhere here. reset() does not shrink its memo.
        _idle.append(pickler if len(stream) <= _KEPT else _Pickler())
        return stream, None
    buffers = pickler.buffers
    pickler.written, pickler.buffers = [], []  # the pickler is part of a cycle, which may live for long
    _idle.append(_Pickler())  # it may have grown large
    return written, buffers


def outlined(values):
    """Return the tuple or list values, with its large bytes objects wrapped so that they are left out of the stream.

    Copying such an object through the stream costs more than unpickling it from a buffer. Only short values are
    searched, for that costs time, too. Anything else is returned as it is.
    """
    kind = type(values)
    if kind is tuple and len(values) == 1 and type(values[0]) is not bytes:
        return values  # the most common case
    if _context.reduction is not _reduction:
        return values
    if (kind is tuple or kind is list) and len(values) <= 64 and bytes in map(type, values):
        return [PickleBuffer(v) if type(v) is bytes and len(v) >= _OUT_OF_BAND else v for v in values]
    return values


#: Not a job's number: under it a worker tells why it cannot take tasks (core/ring/layout.go, capi/transport/layout.h).
NO_JOB = (1 << 64) - 1

#: The text of a function begins with this if its exceptions are to be returned. No module's name does.
_RETURNING = "\1"

#: In the place of kwds: call func(item) for each item of args; func(*item) for each item of args; or func(args).
MAP, STARMAP, ITEM = None, False, True


def by_name(func):
    """Return func; or, if it is a function that is pickled by its name, the text by which function_named finds it.

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

    Any other text is returned as it is: somebody has submitted it as a function, and calling it raises TypeError.
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
    """Return func(*args, **kwds). For kwds that are no dict, and would mean something else in a task."""
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
                continue  # from a SIGINT handler of the program's own
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


def _cannot_be_sent(error, value):
    """Return what to send for a value that could not be pickled because of error."""
    from multiprocessing.pool import MaybeEncodingError

    try:
        return MaybeEncodingError(error, value)
    except BaseException:  # one of the two cannot even be shown
        return MaybeEncodingError(type(error).__name__, f"<{type(value).__qualname__} object>")


def _failure(error, wrap, offset=None, unread=False):
    """Return what to send for an exception; dispatch.rebuilt() makes it an exception again. A tuple of

    offset      which item of a chunk raised it, None if that is not known
    unread      whether the task itself could not be unpickled
    shown       its repr, in case it cannot be unpickled
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
