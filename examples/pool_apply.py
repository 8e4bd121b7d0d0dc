# Pool.apply(): run one task in a worker and wait for its result. What the task raises is raised in the caller.
"""
square(7) = 49
In another process: True
square("seven"): TypeError
"""

import multiprocessing
import os


def square(number):
    return number * number


if __name__ == "__main__":
    with multiprocessing.Pool(processes=2) as pool:
        print("square(7) =", pool.apply(square, (7,)))
        print("In another process:", pool.apply(os.getpid) != os.getpid())
        try:
            pool.apply(square, ("seven",))
        except TypeError as error:
            print('square("seven"):', type(error).__name__)
