"""Measures Pipe, SimpleQueue and Queue between goproc's processes, and the steps of sending an object through a pipe.

Pipe is the standard library's; the queues are goproc's, in shared memory: python -m benchmarks parts --only channels
"""

import fcntl
import io
import multiprocessing
import os
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.reduction import ForkingPickler

import goproc

CONTEXT = goproc.get_context("fork")
OBJECT = ("a task", 12345)
COUNT = 2000
LARGE = bytes(1 << 20)
LARGE_COUNT = 50


def loop(work: Callable[[], object], count: int = COUNT) -> float:
    """Return the mean of the seconds of one call, over count calls."""
    began = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - began) / count


# --- The three, between two processes


def _answer(receive, send):
    while (item := receive()) is not None:
        send(item)


def _drain(receive, count, send):
    """Send None once; then, again and again, send None after count objects have come. End at a None that comes."""
    send(None)
    while True:
        for _ in range(count):
            if receive() is None:
                return
        send(None)


def _ends(kind: str):
    """Return the functions to send to, and to receive from, a new channel."""
    if kind == "Pipe":
        reader, writer = CONTEXT.Pipe(False)
        return writer.send, reader.recv
    queue = getattr(CONTEXT, kind)()
    return queue.put, queue.get


def round_trip(kind: str) -> float:
    """Return the seconds that one object takes to another process and back."""
    send, answer_receive = _ends(kind)
    answer_send, receive = _ends(kind)
    process = CONTEXT.Process(target=_answer, args=(answer_receive, answer_send))
    process.start()

    def once():
        send(OBJECT)
        receive()

    loop(once, 100)
    seconds = loop(once)
    send(None)
    process.join()
    return seconds


def stream(kind: str, item: object, count: int) -> float:
    """Return the seconds for each of count objects that are sent to another process, until the last has arrived."""
    send, drain_receive = _ends(kind)
    arrived, tell = CONTEXT.Pipe(False)
    process = CONTEXT.Process(target=_drain, args=(drain_receive, count, tell.send))
    process.start()
    arrived.recv()
    for _ in range(2):  # the first time does not count
        began = time.perf_counter()
        for _ in range(count):
            send(item)
        arrived.recv()
        seconds = (time.perf_counter() - began) / count
    send(None)
    process.join()
    return seconds


# --- The steps, in one process


def pickling() -> float:
    """ForkingPickler.dumps, by which a pipe pickles."""
    return loop(lambda: ForkingPickler.dumps(OBJECT))


def kept_pickler() -> float:
    """Pickling with a pickler that is used again, as in goproc's pools."""
    from goproc._pool.codec import encode

    return loop(lambda: encode(OBJECT))


def unpickling() -> float:
    """Unpickling."""
    data = bytes(ForkingPickler.dumps(OBJECT))
    return loop(lambda: ForkingPickler.loads(data))


def locking() -> float:
    """Acquiring and releasing a lock between processes."""
    lock = CONTEXT.Lock()

    def once():
        with lock:
            pass

    return loop(once)


def system_calls() -> float:
    """One write and two reads: only the system calls for one object through a pipe."""
    reader, writer = os.pipe()
    data = bytes(4) + bytes(ForkingPickler.dumps(OBJECT))
    size = len(data) - 4

    def once():
        os.write(writer, data)
        os.read(reader, 4)
        os.read(reader, size)

    try:
        return loop(once)
    finally:
        os.close(reader)
        os.close(writer)


def connection() -> float:
    """send_bytes and recv_bytes of a Connection: the same system calls, and the Python code around them."""
    reader, writer = CONTEXT.Pipe(False)
    data = bytes(ForkingPickler.dumps(OBJECT))

    def once():
        writer.send_bytes(data)
        reader.recv_bytes()

    return loop(once)


def simple_queue() -> float:
    """put and get of a SimpleQueue in one process, without a wait."""
    queue = CONTEXT.SimpleQueue()

    def once():
        queue.put(OBJECT)
        queue.get()

    return loop(once)


def queue_feeder() -> float:
    """put and get of a Queue in one process, without a wait."""
    queue = CONTEXT.Queue()

    def once():
        queue.put(OBJECT)
        queue.get()

    once()
    try:
        return loop(once)
    finally:
        queue.close()
        queue.join_thread()


def raw_round_trip() -> float:
    """One byte to another process and back through two pipes: two wake-ups, without any code of multiprocessing."""
    there_reader, there_writer = os.pipe()
    back_reader, back_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(there_writer)
        while byte := os.read(there_reader, 1):
            os.write(back_writer, byte)
        os._exit(0)
    os.close(there_reader)

    def once():
        os.write(there_writer, b"x")
        os.read(back_reader, 1)

    loop(once, 100)
    seconds = loop(once)
    for descriptor in (there_writer, back_reader, back_writer):
        os.close(descriptor)
    os.waitpid(pid, 0)
    return seconds


# --- Possible improvements


def polling_round_trip() -> float:
    """The round trip through Pipe when both ends poll for 50 us before they sleep."""
    there_reader, there_writer = CONTEXT.Pipe(False)
    back_reader, back_writer = CONTEXT.Pipe(False)

    def receive(reader):
        patience = time.perf_counter() + 50e-6
        while not reader.poll(0) and time.perf_counter() < patience:
            pass
        return reader.recv()

    process = CONTEXT.Process(target=_answer, args=(lambda: receive(there_reader), back_writer.send))
    process.start()

    def once():
        there_writer.send(OBJECT)
        receive(back_reader)

    loop(once, 100)
    seconds = loop(once)
    there_writer.send(None)
    process.join()
    return seconds


def large_through_pipe(capacity: int | None, piece: int) -> float:
    """1 MiB through a pipe without a Connection.

    capacity: of the pipe, in bytes, None for the default. piece: the most bytes that are read at once.
    """
    reader, writer = os.pipe()
    done_reader, done_writer = os.pipe()
    if capacity is not None:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, capacity)
    pid = os.fork()
    if pid == 0:
        for _ in range(2):
            for _ in range(LARGE_COUNT):
                buffer, missing = io.BytesIO(), len(LARGE)
                while missing:
                    missing -= buffer.write(os.read(reader, min(missing, piece)))
            os.write(done_writer, b"x")
        os._exit(0)
    for _ in range(2):  # the first time does not count
        began = time.perf_counter()
        for _ in range(LARGE_COUNT):
            rest = memoryview(LARGE)
            while rest:
                rest = rest[os.write(writer, rest) :]
        os.read(done_reader, 1)
        seconds = (time.perf_counter() - began) / LARGE_COUNT
    os.waitpid(pid, 0)
    for descriptor in (reader, writer, done_reader, done_writer):
        os.close(descriptor)
    return seconds


KINDS = ("Pipe", "SimpleQueue", "Queue")
PARTS: dict[str, Callable[[], float]] = {
    **{f"{kind}: round trip of a small object": partial(round_trip, kind) for kind in KINDS},
    **{f"{kind}: each of a stream of small objects": partial(stream, kind, OBJECT, COUNT) for kind in KINDS},
    **{f"{kind}: each of a stream of 1 MiB": partial(stream, kind, LARGE, LARGE_COUNT) for kind in KINDS},
    "a byte there and back through two pipes, two processes": raw_round_trip,
    "one write and two reads of a pipe": system_calls,
    "`send_bytes` and `recv_bytes`": connection,
    "pickling, `ForkingPickler.dumps`": pickling,
    "pickling, with a pickler that is kept": kept_pickler,
    "unpickling": unpickling,
    "the lock, taken and given back once": locking,
    "`put` and `get` of a SimpleQueue, one process": simple_queue,
    "`put` and `get` of a Queue, one process": queue_feeder,
    "Pipe: round trip, when both ends spin for 50 µs before they sleep": polling_round_trip,
    "1 MiB through a bare pipe, read as `Connection` does": partial(large_through_pipe, None, len(LARGE)),
    "the same, read in pieces of 64 KiB": partial(large_through_pipe, None, 1 << 16),
    "the same, and the pipe's capacity 1 MiB": partial(large_through_pipe, 1 << 20, 1 << 16),
}


def measure(repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of each step, a list with one element for each repetition. The steps are measured in turn."""
    assert multiprocessing.current_process().name == "MainProcess"
    measured: dict[str, list[float]] = {name: [] for name in PARTS}
    for _ in range(repetitions):
        for name, part in PARTS.items():
            measured[name].append(part())
    return measured
