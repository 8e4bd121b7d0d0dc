"""Functions that the tests of memory limits, retries and interrupts run in workers."""

import mmap
import os
import time
from pathlib import Path

MIB = 1 << 20


def take(size, release):
    """Take size bytes of memory, and keep them until the file exists."""
    taken = bytearray(size)
    while not Path(release).exists():
        time.sleep(0.005)
    return len(taken)


def take_slowly(step):
    """Take ever more memory, until this process is killed."""
    taken = []
    while True:
        taken.append(bytearray(step))
        time.sleep(0.002)


def take_shared(size, seconds):
    """Take size bytes of shared memory for some time."""
    with mmap.mmap(-1, size) as shared:
        for at in range(0, size, mmap.PAGESIZE):
            shared[at] = 1
        time.sleep(seconds)
    return size


def take_if(number, bad):
    if number == bad:
        take_slowly(8 * MIB)
    return number


kept: list = []


def leak(size):
    """Keep size bytes of memory after the task."""
    kept.append(bytearray(size))
    time.sleep(0.1)
    return len(kept)


class Passing(ValueError):
    pass


class Lasting(ValueError):
    pass


def attempt(path):
    """Note an attempt in a file; return how many there were."""
    with open(path, "ab") as file:
        file.write(b"%.6f\n" % time.monotonic())
    return len(Path(path).read_bytes().splitlines())


def times(path):
    return [float(line) for line in Path(path).read_bytes().splitlines()]


def fail_until(path, number, kind=Passing):
    """Raise an exception in the first attempts; attempt `number` returns it."""
    done = attempt(path)
    if done < number:
        raise kind(done)
    return done


def return_exception(path):
    return Passing(attempt(path))


def fail_item(folder, number):
    """Item 2 fails twice, all others work."""
    if number == 2:
        fail_until(Path(folder, "attempts"), 3)
    return number


def end_until(path, number):
    done = attempt(path)
    if done < number:
        os._exit(1)
    return done


def hang_until(path, number):
    done = attempt(path)
    if done < number:
        time.sleep(600)
    return done


def swell_until(path, number):
    done = attempt(path)
    if done < number:
        take_slowly(8 * MIB)
    return done


def hang(path, _=None):
    Path(path).touch()
    time.sleep(600)


def total(array):
    return float(array.sum())


def sum_until(path, number, array):
    fail_until(path, number)
    return float(array.sum())


def begin_and_fail(path, release):
    """Note that it has begun, wait for a file, and fail."""
    attempt(path)
    while not Path(release).exists():
        time.sleep(0.005)
    raise Passing(path)
