"""Measures the steps of a pool's task in goproc: python -m benchmarks parts --only round-trip (or stream)

The steps are functions of goproc: pickling (codec.encode), the parent's end of a pool (Port.submit, Port.collect) and
the worker's end (Channel.recv, Channel.send). A wrapper around each function takes the time before and after the call.
The clock is the same in all processes (CLOCK_MONOTONIC). Taking the time costs some 0.1 us for each step.
"""

import mmap
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from time import perf_counter_ns as now
from unittest import mock

import goproc
from goproc._pool.codec import encode
from goproc._pool.worker import ChannelEnd

from . import functions

TRIPS = 2000
TASKS = 10_000


class Wrapped:
    """A wrapper around an object, with some methods replaced; all other attributes are the object's."""

    def __init__(self, wrapped, **methods: Callable):
        self._wrapped = wrapped
        self.__dict__.update(methods)

    def __getattr__(self, name):
        return getattr(self._wrapped, name)


def shared_integers(count: int) -> memoryview:
    """Return integers, all zero, in memory that this process shares with processes that are forked from now on."""
    return memoryview(mmap.mmap(-1, 8 * count)).cast("q")


@contextmanager
def wrapped_pool(wrap_port: Callable, wrap_channel: Callable, wrap_encode: Callable) -> Iterator:
    """A pool of two forked workers, with wrappers around the steps of a task."""
    plain_open = ChannelEnd.open
    with mock.patch.object(ChannelEnd, "open", lambda end: wrap_channel(plain_open(end))):
        pool = goproc.get_context("fork").Pool(2)
    with pool:
        pool._port = pool._dispatch._port = pool._submitter._port = wrap_port(pool._port)
        with mock.patch("goproc._pool.submitter.encode", wrap_encode(encode)):
            yield pool


# --- One task after the other: the beginning and the end of each step

STEPS = (
    "`apply` up to pickling",
    "pickling the call",
    "up to the submission",
    "the submission: choosing a worker, copying into its ring, waking it if it sleeps",
    "until the worker has it, from the end of the submission",
    "unpickling the call, and up to the function",
    "the function",
    "pickling the result",
    "the answer: copying into the ring, and until the parent has it",
    "unpickling the result, and up to the end of `apply`",
)
(PICKLE, PICKLED, SUBMIT, SUBMITTED, RECEIVED, CALLED, RETURNED, SEND, COLLECTED) = range(9)


def round_trip(repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of each step of `apply`: one median for each repetition."""
    stamps = shared_integers(9)

    def function(item):
        stamps[CALLED] = now()
        stamps[RETURNED] = now()

    def wrap_encode(encode):
        def stamped(*arguments):
            stamps[PICKLE] = now()
            result = encode(*arguments)
            stamps[PICKLED] = now()
            return result

        return stamped

    def wrap_port(port):
        def submit(*arguments):
            stamps[SUBMIT] = now()
            port.submit(*arguments)
            stamps[SUBMITTED] = now()

        def collect(*arguments):
            frames = port.collect(*arguments)
            stamps[COLLECTED] = now()
            return frames

        return Wrapped(port, submit=submit, collect=collect)

    def wrap_channel(channel):
        def recv():
            task = channel.recv()
            stamps[RECEIVED] = now()
            return task

        def send(*arguments):
            stamps[SEND] = now()
            return channel.send(*arguments)

        return Wrapped(channel, recv=recv, send=send)

    globals()["stamped_function"] = function  # before the fork, so that workers find it by its name
    function.__qualname__ = "stamped_function"
    measured: dict[str, list[float]] = {"the whole round trip": [], **{step: [] for step in STEPS}}
    with wrapped_pool(wrap_port, wrap_channel, wrap_encode) as pool:
        for _ in range(repetitions + 1):
            trips = []
            for _ in range(TRIPS):
                began = now()
                pool.apply(function, (1,))
                times = [began, *stamps, now()]
                # A worker may have its task before the call that submitted it has returned.
                times[1 + SUBMITTED] = min(times[1 + SUBMITTED], times[1 + RECEIVED])
                trips.append(times)
            steps = [[later - earlier for earlier, later in pairwise(trip)] for trip in trips]
            for step, nanoseconds in zip(STEPS, zip(*steps, strict=True), strict=True):
                measured[step].append(1e-9 * statistics.median(nanoseconds))
            measured["the whole round trip"].append(1e-9 * statistics.median(trip[-1] - trip[0] for trip in trips))
    return {step: values[1:] for step, values in measured.items()}  # the first is the warm-up


# --- A stream of tasks: the time that each process spends on each step

PARENT = ("pickling", "submitting", "collecting, and waiting for results")
WORKER = ("receiving, and waiting for tasks", "answering")


def stream(repetitions: int) -> dict[str, list[float]]:
    """Return the seconds for each task of a stream, by step."""
    spent = shared_integers(len(PARENT) + 2 * len(WORKER))

    def metered(place: int, step: Callable) -> Callable:
        def call(*arguments):
            began = now()
            try:
                return step(*arguments)
            finally:
                spent[place] += now() - began

        return call

    def wrap_port(port):
        return Wrapped(port, submit=metered(1, port.submit), collect=metered(2, port.collect))

    def wrap_channel(channel):
        place = len(PARENT) + len(WORKER) * (channels[0] % 2)
        channels[0] += 1
        return Wrapped(channel, recv=metered(place, channel.recv), send=metered(place + 1, channel.send))

    channels = shared_integers(1)
    measured: dict[str, list[float]] = {}
    with wrapped_pool(wrap_port, wrap_channel, lambda encode: metered(0, encode)) as pool:
        ways: dict[str, Callable] = {
            "`apply_async`, `get`": lambda: [
                result.get() for result in [pool.apply_async(functions.nothing, (number,)) for number in range(TASKS)]
            ],
            "`imap`": lambda: list(pool.imap(functions.nothing, range(TASKS))),
            "`map(chunksize=1)`": lambda: pool.map(functions.nothing, range(TASKS), 1),
        }
        for repetition in range(repetitions + 1):
            for way, work in ways.items():
                spent[:] = shared_integers(len(spent))
                began = now()
                work()
                whole = now() - began
                parent, workers = list(spent[: len(PARENT)]), list(spent[len(PARENT) :])
                both = [sum(workers[place :: len(WORKER)]) / 2 for place in range(len(WORKER))]
                times = {
                    "a task": whole,
                    **{f"parent: {what}": value for what, value in zip(PARENT, parent, strict=True)},
                    "parent: Python code, unpickling": whole - sum(parent),
                    **{f"each worker: {what}": value for what, value in zip(WORKER, both, strict=True)},
                    "each worker: Python code, unpickling, pickling": whole - sum(both),
                }
                for what, nanoseconds in times.items():
                    if repetition:  # the first is the warm-up
                        measured.setdefault(f"{way}, {what}", []).append(1e-9 * nanoseconds / TASKS)
    return measured
