"""
squares: [0, 1, 4, 9, 16, 25, 36, 49]
a lambda: [10, 11, 12]
in the order in which they come: 499500
division by zero
a worker was lost while it ran vanish(), and the pool goes on: 8
"""

import os

import goproc
from goproc import cluster

base = 10


def square(number):
    return number * number


def vanish():
    os._exit(1)


if __name__ == "__main__":
    with cluster.Pool("local:2x1") as pool:  # two machines of one core, on this one
        print("squares:", pool.map(square, range(8)))
        print("a lambda:", pool.map(lambda number: base + number, range(3)))
        print("in the order in which they come:", sum(pool.imap_unordered(int, range(1000), chunksize=50)))
        try:
            pool.apply(divmod, (1, 0))
        except ZeroDivisionError:
            print("division by zero")
        try:
            pool.apply(vanish)
        except goproc.WorkerLostError as error:
            print(f"a worker was lost while it ran {error.function}(), and the pool goes on:", pool.apply(pow, (2, 3)))
