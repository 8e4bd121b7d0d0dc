"""The functions that the tests' pools run. In a module of its own, because spawned workers import it by its name."""

import _thread
import array
import copyreg
import ctypes
import enum
import faulthandler
import functools
import io
import json
import mmap
import multiprocessing.pool
import os
import pickle
import signal
import sys
import threading
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import goproc.pool
from goproc import _native

state = None  # what an initializer leaves for the tasks of its worker


def nothing():
    pass


def double(value):
    return 2 * value


def add(a, b=0, *, c=0):
    return a + b + c


def collect_arguments(*args, **kwds):
    return args, kwds


class OneAndTwo:
    """Arguments of a call that can be iterated over, and nothing else."""

    def __iter__(self):
        return iter((1, 2))


def identity(value):
    return value


def pid(*_):
    return os.getpid()


def signal_and_wait(started, release, value=None):
    """Say that this task runs, and go on when told to. started, release: the names of two files."""
    open(started, "w").close()
    return wait_for_file(release, value)


def wait_for_file(name, value=None):
    while not os.path.exists(name):
        time.sleep(0.002)
    return value


def wait_for_file_of(item):
    """Wait for the first file of a pair; if it is None, make the second one."""
    first, second = item
    return touch(second) if first is None else wait_for_file(first)


def touch(name):
    open(name, "w").close()


def sleep(seconds, value=None):
    time.sleep(seconds)
    return value


def sleep_as_told(item):
    return sleep(*item)


def spin(begun=None):
    """Compute in C, where no Python signal handler is run; first make the file begun."""
    if begun is not None:
        begun.touch()
    sum(range(10**12))


def catch_sigterm(started, how):
    """Wait for ever, and after SIGTERM too, unless it is to raise SystemExit."""

    def handler(signum, frame):
        if how == "exits":
            raise SystemExit(3)

    signal.signal(signal.SIGTERM, handler)
    Path(started).touch()
    while True:
        time.sleep(1)


def lose_worker(path, times, value=None):
    """Kill this worker, `times` times, counted in the file at path. Return the count, and the first item of value."""
    with open(path, "a+") as file:
        file.seek(0)
        count = len(file.read())
        if count < times:
            file.write("x")
            file.flush()
            if value is not None:
                value[:] = bytes(len(value)) if isinstance(value, bytearray) else 0
            os.kill(os.getpid(), signal.SIGKILL)
    return count, None if value is None else describe(value)[3]


def allocate(size):
    """Keep that many bytes for the life of the worker; return its pid."""
    global state
    state = bytearray(size)
    return os.getpid()


# --- initializers


INTERRUPTS = {
    "interrupt_main": _thread.interrupt_main,
    "kill": lambda: os.kill(os.getpid(), signal.SIGINT),
    "pthread_kill": lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT),
}


def interrupted_by_itself(how, before):
    """Have a thread interrupt this task; return whether it was interrupted. before: "handler set again", or ""."""
    if before == "handler set again":
        signal.signal(signal.SIGINT, signal.signal(signal.SIGINT, signal.SIG_IGN))
    timer = threading.Timer(0.05, INTERRUPTS[how])
    try:
        timer.start()
        for _ in range(100 if before == "" else 20):
            time.sleep(0.01)
        return "slept"
    except KeyboardInterrupt:
        return "interrupted"
    finally:
        timer.join()


def interrupt_while_held():
    """Return what happens to a task whose signals are held when it is interrupted."""
    seen = []
    try:
        with _native.held_signals:
            signal.raise_signal(signal.SIGINT)
            seen.append("held")
    except KeyboardInterrupt:
        seen.append("interrupted")
    return seen


def interrupt_a_child(how):
    """Interrupt a process that a task forks. Return its exit status: 1 if it was interrupted. how: by whom."""
    ready, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, b"r")
            if how == "itself":
                signal.raise_signal(signal.SIGINT)
            time.sleep(5)
            os._exit(0)
        except KeyboardInterrupt:
            os._exit(1)
    os.read(ready, 1)
    os.close(ready)
    os.close(write)
    if how == "parent":
        os.kill(pid, signal.SIGINT)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wait_for_interrupt():
    try:
        state[0].set()
        for _ in range(6000):  # a signal that comes just before time.sleep() does not end the sleep
            time.sleep(0.01)
    except KeyboardInterrupt:
        return "interrupted"


def set_state(*values):
    global state
    state = values


def get_state(*_):
    return state


def raise_in_initializer(text):
    raise ValueError(text)


def raise_if_exists(path):
    if path.exists():
        raise ValueError(path)


def leave(status=0):
    os._exit(status)


def ignore_sigterm(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return os.getpid()


# --- tasks that fail


class OwnError(Exception):
    pass


class OwnBaseError(BaseException):
    pass


class Unbuildable(Exception):
    """Pickles, but does not unpickle: exceptions are rebuilt by calling their class with args."""

    def __init__(self, one, two):
        super().__init__(one)


class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError("this exception cannot be pickled")


def raise_(error_type, *args):
    raise error_type(*args)


def raise_own(value):
    raise OwnError(value)


def raise_if(value, bad):
    if value == bad:
        raise OwnError(value)
    return value


def raise_at_three(value):
    return raise_if(value, 3)


def raise_own_base(value=None):
    raise OwnBaseError(value)


def raise_unbuildable(value=None):
    raise Unbuildable("one", "two")


def raise_unpicklable(value=None):
    raise Unpicklable()


def reciprocal(value):
    return 1 / value


def killed_at_50(value):
    if value == 50:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def release_or_wait(name):
    """Wait for the file; a task named "...releaser" first makes the file "...release"."""
    if name.endswith("releaser"):
        open(name[:-1], "w").close()
    wait_for_file(name[:-1] if name.endswith("releaser") else name)
    return name


def append_and_count(values):
    if isinstance(values, tuple):
        values = values[1]
    values.append(1)
    return len(values)


class CountsPickling:
    def __init__(self, number):
        self.number, self.pickled = number, 0

    def __reduce__(self):
        self.pickled += 1
        return CountsPickling, (self.number,)


class SlowToPickle(tuple):
    def __reduce__(self):
        time.sleep(0.5)
        return tuple, ()


def type_name(value):
    return type(value).__name__


def fill_and_sum(array):
    array[:] = 1
    return int(array.sum())


class OwnBytes(bytes):
    pass


class OwnInt(int):
    """A subclass of int, which pickling must not take for a plain int."""


def exit_normally(value=None):
    sys.exit(value)


def interrupt_self(value=None):
    raise KeyboardInterrupt(value)


def end_by_os_exit(value=None):
    os._exit(7)


def end_by_sigkill(value=None):
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def end_by_sigsegv(value=None):
    faulthandler.disable()  # pytest's: what it prints says nothing here
    ctypes.string_at(0)


def end_if(value, how, bad):
    if value == bad:
        how()
    return 2 * value


def return_lambda(value=None):
    return lambda: None


def return_generator(value=None):
    return (i for i in range(3))


def return_thread_lock(value=None):
    return threading.Lock()


def fail_to_build(error_type, *args):
    raise error_type(*args)


class Bomb:
    """An object whose pickle raises when it is loaded."""

    def __init__(self, error_type, *args):
        self.build = (error_type, *args)

    def __reduce__(self):
        return fail_to_build, self.build


def return_bomb(value=None):
    return Bomb(OwnError, "unpickled")


def return_base_bomb(value=None):
    return Bomb(OwnBaseError, "unpickled")


def return_exiting_bomb(value=None):
    return Bomb(SystemExit, "unpickled")


class Worn:
    """An object whose pickling raises."""

    def __reduce__(self):
        raise OwnError("this object cannot be pickled")


class BadRepr:
    """Can be neither pickled nor shown."""

    def __reduce__(self):
        raise OwnError("this object cannot be pickled")

    def __repr__(self):
        raise OwnError("this object cannot be shown")


def return_bad_repr(value=None):
    return BadRepr()


# --- large payloads


class Unshowable(Exception):
    """Both str() and repr() of it raise."""

    def __repr__(self):
        raise OwnError("cannot be shown")

    __str__ = __repr__


class NoException:
    def __init__(self, *_):
        pass

    def __repr__(self):
        raise OwnError("cannot be shown")


class RebuiltAs(Exception):
    """Rebuilding it calls the function that it was given."""

    def __init__(self, function, *args):
        super().__init__()
        self.call = function, args

    def __reduce__(self):
        return self.call


def return_unshowable_bomb(value=None):
    return RebuiltAs(raise_, Unshowable)


def raise_unshowable_bomb(value=None):
    raise RebuiltAs(raise_, Unshowable)


def raise_no_exception(value=None):
    raise RebuiltAs(NoException)


class Color(enum.Enum):
    RED = 1


def return_no_member(value=None):
    return RebuiltAs(Color, 99)


class Nameless:
    """A callable whose attributes raise when they are read; it ends its worker."""

    def __call__(self, *_):
        os._exit(3)

    def __getattr__(self, name):
        if name == "__qualname__":
            raise KeyError(name)
        raise AttributeError(name)


class OddlyNamed(Nameless):
    def __getattr__(self, name):
        if name == "__qualname__":
            return 5
        raise AttributeError(name)


def describe(buffer):
    """Return type, length, whether it can be written to, and the first and last item."""
    if hasattr(buffer, "flags"):
        return (
            type(buffer).__name__,
            buffer.nbytes,
            buffer.flags.writeable,
            buffer.flat[0].item(),
            buffer.flat[-1].item(),
        )
    view = memoryview(buffer)
    return type(buffer).__name__, view.nbytes, not view.readonly, view[0], view[-1]


def make_bytes(size, fill):
    return bytes([fill]) * size


def make_bytearray(size, fill):
    return bytearray([fill]) * size


def make_array(size, fill):
    import numpy

    return numpy.full(size // 8, fill, dtype=numpy.float64)


def fill_with(buffer, value):
    """Change the argument, and return what it then holds."""
    buffer[:] = value if hasattr(buffer, "flags") else bytes([value]) * len(buffer)
    return buffer


def several_arrays(count, size, fill):
    return {i: make_array(size, fill + i) for i in range(count)}


def total(*buffers):
    return sum(float(buffer.sum()) for buffer in buffers)


def keep_and_return(buffer):
    """Keep every argument for the life of the worker."""
    global state
    state = [*(state or ()), buffer]
    return [describe(kept)[3] for kept in state]


def double_array(values):
    return array.array(values.typecode, [2 * value for value in values])


# --- pools in children


def pool_in_child(connection, methods):
    """Start a child by the first method, which does the same with the rest; the last one runs a pool and answers."""
    import goproc

    if len(methods) > 1:
        child = goproc.get_context(methods[0]).Process(target=pool_in_child, args=(connection, methods[1:]))
        child.start()
        child.join(60)
        sys.exit(child.exitcode)
    with goproc.get_context(methods[0]).Pool(2) as pool:
        connection.send((pool.map(double, range(10)), goproc.get_start_method(), type(pool).__module__))


def pool_in_worker(_):
    import goproc

    try:
        goproc.Pool(1)
    except AssertionError as error:
        return str(error)


class OwnPool(multiprocessing.pool.Pool):
    """A class of pools that is not goproc's."""


class Handle:
    """An object that cannot be pickled as it is."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        raise TypeError("a handle cannot be pickled")


def reduce_handle(handle):
    return Handle, (handle.number,)


def put_with_handles(queue, task):
    """Send a task through a queue whose tasks may have handles in them."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer)
    pickler.dispatch_table = {**copyreg.dispatch_table, Handle: reduce_handle}
    pickler.dump(task)
    queue._writer.send_bytes(buffer.getvalue())


class PoolWithQueues(goproc.pool.Pool):
    """Brings queues of its own, as joblib's pools do."""

    def _setup_queues(self):
        self._inqueue, self._outqueue = self._ctx.SimpleQueue(), self._ctx.SimpleQueue()
        self._quick_put = functools.partial(put_with_handles, self._inqueue)
        self._quick_get = self._outqueue._reader.recv


class PoolDerivedFromIt(PoolWithQueues):
    def apply(self, func, *rest):
        return "derived", super().apply(func, *rest)


def number_of(handle):
    return handle.number


def lies_in_pools_memory(value):
    """Whether the middle of a bytes object is in memory that a pool shares with its workers."""
    middle = id(value) + len(value) // 2
    with open("/proc/self/maps") as maps:
        for line in maps:
            begin, end = (int(address, 16) for address in line.split(maxsplit=1)[0].split("-"))
            if begin <= middle < end:
                return "/memfd:" in line
    raise AssertionError("it lies nowhere")


def where_all_lie(*values):
    return [lies_in_pools_memory(value) for value in values]


def fork_and_look(value):
    """Fork; return what the child and this process see of the value, as sums."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(send, str(sum(value)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    with open(receive, "rb", buffering=0) as file:
        seen = int(file.read(32))
    os.close(send)
    return seen, sum(value)


def lose_worker_once(path, value):
    lose_worker(path, 1)
    return value


class Plain:
    """An object that has a reducer only in processes that register one; see register()."""

    def __init__(self, value):
        self.value = value


def reduced(value):
    return "reduced", value


def again(value):
    return "again", value


def register(rebuild=reduced):
    ForkingPickler.register(Plain, lambda plain: (rebuild, (plain.value,)))


def pickled_as(value):
    """Return how the argument of a task has arrived."""
    return "Plain" if type(value) is Plain else value


def make_connection():
    global state
    ours, state = multiprocessing.Pipe()
    state.send("hello")
    return ours


def spin_regardless(begun):
    ignore_sigterm()
    spin(begun)


# Where words lie in a worker's page of the pool's memory, and what they become. core/ring/layout.go says what they are.
SCRIBBLES = {
    "tasks end here": (0, 0, 8),
    "tasks end far beyond": (0, 1 << 40, 8),
    "no result has been taken": (8, 0, 8),
    "results have been taken that are not there": (8, 1 << 40, 8),
    "stop": (16, 1, 4),
    "no task has been taken": (64, 0, 8),
    "tasks have been taken that are not there": (64, 1 << 40, 8),
    "no result is there": (72, 0, 8),
    "results are there that are not": (72, 1 << 20, 8),
    "the worker is awake": (128, 0, 4),
    "the worker sleeps for a task": (128, 1, 4),
    "the worker sleeps for room": (128, 2, 4),
    "another job": (192, 1 << 40, 8),
    "no task runs": (208, 0, 8),
}
_PAGE, _RING = 4096, 64 << 10


def scribble(what):
    """Overwrite a word of this worker's page: of each worker's, when the pool has one."""
    offset, value, size = SCRIBBLES[what]
    for page in _pages():
        page[offset : offset + size] = value.to_bytes(size, "little")


def scribble_when_idle(what):
    """Overwrite the word once this worker, which is the pool's only one, sleeps."""
    pages = _pages()

    def wait():
        while not any(page[128] for page in pages):
            time.sleep(0.0005)
        scribble(what)

    threading.Thread(target=wait, daemon=True).start()


def scribble_into_tasks(kind, size):
    """Overwrite the head of each frame in the task ring: its size, and its kind."""
    for slot in range(2):
        ring = _map(_PAGE + slot * (_PAGE + 2 * _RING) + _PAGE, _RING)
        for at in range(0, _RING, 8):
            ring[at : at + 8] = size.to_bytes(4, "little") + kind.to_bytes(4, "little")


def _pages():
    return [_map(_PAGE + slot * (_PAGE + 2 * _RING), _PAGE) for slot in range(2)]


def _map(offset, size):
    for name in os.listdir("/proc/self/fd"):
        try:
            if "goproc-pool" in os.readlink("/proc/self/fd/" + name):
                return mmap.mmap(int(name), size, offset=offset)
        except OSError:
            pass
    raise LookupError("the pool's memory is not open here")


def begin_after(births, count, how):
    """Fail in the first `count` workers. births: a file that counts the workers."""
    if _born(births) <= count:
        if how == "raises":
            raise ConnectionError("it is coming up")
        if how == "finds nonsense":
            json.loads("<html>come back later</html>")
        if how == "finds nothing":
            return os.environ.get("NOT_YET") + "address"
        os._exit(3)


def begin_when_there_is(births, allowed):
    _born(births)
    os.stat(allowed)


def begin_first(births):
    """Fail all but the first worker."""
    if _born(births) > 1:
        raise ConnectionError("there was room for one")


def _born(births):
    with open(births, "a") as file:
        file.write("x")
    return os.stat(births).st_size


def hold(connection):
    """Run for ever, and keep the end of a pipe open meanwhile."""
    time.sleep(3600)
