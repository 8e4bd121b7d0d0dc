"""pebble: a pool that ends tasks which take too long, and a decorator that runs a function in a process."""

import multiprocessing
import time
from concurrent.futures import TimeoutError

from pebble import ProcessExpired, ProcessPool, concurrent


def square(number):
    return number * number


def sleep_forever():
    time.sleep(1000)


def leave():
    import os

    # If a worker ends before pebble's thread has read that it has begun the task, pebble calls the pool broken. That
    # happens with multiprocessing, too, on a busy machine.
    time.sleep(0.5)
    os._exit(5)


def main():
    context = multiprocessing.get_context()
    # Printed at the end: a worker that is forked while a line waits to be written would write it, too.
    seen = []
    with ProcessPool(max_workers=2, context=context) as pool:
        seen.append(list(pool.map(square, range(20)).result()))
        future = pool.schedule(sleep_forever, timeout=1)
        try:
            future.result()
        except TimeoutError as error:
            seen.append(type(error).__name__)
        try:
            pool.schedule(leave).result()
        except ProcessExpired as error:
            seen.append((type(error).__name__, error.exitcode))
        seen.append(pool.schedule(square, (7,)).result())
    seen.append(concurrent.process(square, context=context)(12).result())
    print(*seen, sep="\n")


if __name__ == "__main__":
    main()
