# Pool(nested=True): the tasks of a pool may start processes and make pools of their own. These end with their worker.
"""
totals: 5, 285, 328350
a child of a task: exit code 3
"""

import sys

import goproc


def square(number):
    return number * number


def total(count):
    with goproc.Pool(1) as pool:
        return sum(pool.map(square, range(count)))


def exit_code(code):
    process = goproc.Process(target=sys.exit, args=(code,))
    process.start()
    process.join()
    return process.exitcode


if __name__ == "__main__":
    with goproc.Pool(1, nested=True) as pool:
        print("totals:", ", ".join(map(str, pool.map(total, [3, 10, 100]))))
        print("a child of a task: exit code", pool.apply(exit_code, (3,)))
