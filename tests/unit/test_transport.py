"""A worker's end of a pool, on memory that the test lays out as the engine does (capi/transport/layout.h)."""

import mmap
import os
import struct
import time

import goproc
from goproc import _transport

PATIENCE = 30

PAGE, RING = 4096, 64 << 10
SLOT = PAGE  # where the first one begins
WAITING, FEED = 64, 2
STOP, SLEEPING, SLEEPS_FOR_TASKS = SLOT + 16, SLOT + 128, 1


def receive_nothing(memory_fd, event_fd):
    assert _transport.Channel(os.dup(memory_fd), os.dup(event_fd), 0, 1).recv() is None


def test_a_worker_sleeps_before_it_calls():
    """Whoever answers its call for more to do looks whether it sleeps."""
    size = SLOT + PAGE + 2 * RING
    memory_fd = os.memfd_create("test")
    os.ftruncate(memory_fd, size)
    event_fd = os.eventfd(0, os.EFD_CLOEXEC)
    os.eventfd_write(event_fd, 2**64 - 2)  # it is full, so the worker stays in its call
    with mmap.mmap(memory_fd, size) as memory:
        struct.pack_into("I", memory, WAITING, FEED)
        worker = goproc.get_context("fork").Process(target=receive_nothing, args=(memory_fd, event_fd))
        worker.start()
        try:
            deadline = time.monotonic() + PATIENCE
            while struct.unpack_from("I", memory, WAITING) == (FEED,):
                assert time.monotonic() < deadline, "the worker does not call"
                time.sleep(0.001)
            assert struct.unpack_from("I", memory, SLEEPING) == (SLEEPS_FOR_TASKS,)
        finally:
            struct.pack_into("I", memory, STOP, 1)
            os.eventfd_read(event_fd)
            worker.join()
    assert worker.exitcode == 0
    os.close(event_fd)
    os.close(memory_fd)
