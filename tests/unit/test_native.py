"""A worker's end of a pool, _native.Channel, on memory that the test fills like the engine (capi/native/layout.h)."""

import errno
import mmap
import os
import random
import struct
import time

import goproc
from goproc import _native

PATIENCE = 30

PAGE, RING = 4096, 64 << 10
SLOT = PAGE  # where the first one begins
WAITING, FEED, PUMP = 64, 2, 80
SLEEPING, SLEEPS_FOR_TASKS = SLOT + 128, 1


def receive_nothing(memory_fd):
    assert _native.Channel(os.dup(memory_fd), 0, 1).recv() is None


def test_a_worker_sleeps_before_it_calls():
    """The one that answers the worker's call for tasks looks whether the worker sleeps."""
    size = SLOT + PAGE + 2 * RING
    memory_fd = os.memfd_create("test")
    os.ftruncate(memory_fd, size)
    with mmap.mmap(memory_fd, size) as memory:
        struct.pack_into("I", memory, WAITING, FEED)
        worker = goproc.get_context("fork").Process(target=receive_nothing, args=(memory_fd,))
        worker.start()
        try:
            deadline = time.monotonic() + PATIENCE
            while struct.unpack_from("I", memory, PUMP) == (0,):
                assert time.monotonic() < deadline, "the worker does not call"
            assert struct.unpack_from("I", memory, SLEEPING) == (SLEEPS_FOR_TASKS,)
        finally:
            worker.kill()
            worker.join()
    os.close(memory_fd)


#: A task's frame: size, kind, flags, job, index, claim, busy; and what describes an extent: offset, length, serial.
FRAME, TASK, EXTENT, ONE_TASK = struct.Struct("<IHHQQII"), 1, 1, 1 << 16
DESCRIPTION, EXTENTS_START, EXTENT_HEADER = struct.Struct("<QQQ"), 1 << 40, 64
OF_BYTES = 1 << 63
TASK_TAIL, TASKS = SLOT, SLOT + PAGE


def test_impossible_payloads_are_refused():
    """Whatever is in an extent, recv() raises, or returns a payload in it. `make sanitize` checks what it reads."""
    chance = random.Random(7)
    memory_fd = os.memfd_create("test")
    os.ftruncate(memory_fd, 1 << 62)
    with mmap.mmap(memory_fd, SLOT + PAGE + 2 * RING) as memory:
        channel = _native.Channel(os.dup(memory_fd), 0, 1)
        accepted, tail = 0, 0
        for serial in range(1, 500):
            length = chance.choice([0, 7, 8, 24, 64, 200, 4096, 100_000, 1 << 37, 1 << 63, chance.getrandbits(64)])
            offset = EXTENTS_START + serial * (1 << 20)
            if chance.random() < 0.1:
                offset = chance.choice([0, 4096, offset + 64, 1 << 61, (1 << 64) - (1 << 16), chance.getrandbits(64)])
            numbers = [0, 1, 2, 3, 8, 63, 64, 65, 100_000, 1 << 61, 1 << 62, 1 << 63, (1 << 64) - 1, (1 << 64) - 8]
            numbers += [OF_BYTES | 70_000, OF_BYTES | 91_000, OF_BYTES | 65_536]
            header = [chance.choice(numbers) for _ in range(chance.randint(1, 20))]
            if EXTENTS_START <= offset < 1 << 62:
                os.pwrite(memory_fd, struct.pack(f"<{len(header)}Q", *header), offset + EXTENT_HEADER)
            if tail % RING + FRAME.size + DESCRIPTION.size > RING:
                break
            place = TASKS + tail % RING
            FRAME.pack_into(memory, place, DESCRIPTION.size, TASK, EXTENT, 1, serial, ONE_TASK, 0)
            DESCRIPTION.pack_into(memory, place + FRAME.size, offset, length, serial)
            tail += FRAME.size + DESCRIPTION.size
            struct.pack_into("Q", memory, TASK_TAIL, tail)
            try:
                _, (stream, buffers) = channel.recv()
            except OSError as error:
                assert error.errno is None and "impossible payload" in str(error) or error.errno == errno.ENOMEM
            else:
                accepted += 1
                assert len(bytes(stream)) + sum(len(bytes(buffer)) for buffer in buffers) <= length
            stream = buffers = None
        assert 0 < accepted < serial - 20
        del channel
    os.close(memory_fd)
