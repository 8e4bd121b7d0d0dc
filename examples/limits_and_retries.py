# Tasks that take too much memory, and tasks that are run again: max_memory_per_task, retry_on and retry_delay of Pool.
"""
a task that takes too much memory: MemoryLimitError
the next one: 4
a task that fails twice: done in attempt 3
a task that fails always: ConnectionError: not there
"""

import tempfile
import time
from pathlib import Path

import goproc


def take_memory(size):
    data = bytearray(size)
    for at in range(0, size, 4096):  # a page is taken when it is written to
        data[at] = 1
    time.sleep(30)


def square(number):
    return number * number


def unreliable(folder, failures):
    attempt = len(list(Path(folder).iterdir())) + 1
    Path(folder, str(attempt)).touch()
    if attempt <= failures:
        raise ConnectionError("not there")
    return f"done in attempt {attempt}"


if __name__ == "__main__":
    with goproc.Pool(1, max_memory_per_task=64 << 20) as pool:
        try:
            pool.apply(take_memory, (256 << 20,))
        except goproc.MemoryLimitError as error:
            print("a task that takes too much memory:", type(error).__name__)
        print("the next one:", pool.apply(square, (2,)))
    with goproc.Pool(1, retries=3, retry_on=ConnectionError, retry_delay=0.01) as pool:
        with tempfile.TemporaryDirectory() as folder:
            print("a task that fails twice:", pool.apply(unreliable, (folder, 2)))
        with tempfile.TemporaryDirectory() as folder:
            try:
                pool.apply(unreliable, (folder, 100))
            except ConnectionError as error:
                print(f"a task that fails always: {type(error).__name__}: {error}")
