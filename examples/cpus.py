# How many CPUs this process may use, and how many threads the libraries for linear algebra may use in each worker.
"""
usable CPUs: not more than there are
threads in each worker: 1
"""

import os

import goproc


def threads_of_blas():
    return os.environ["OMP_NUM_THREADS"]


if __name__ == "__main__":
    # A container may have a quota: goproc.Pool() has as many workers as it may use CPUs.
    usable = 1 <= goproc.usable_cpu_count() <= goproc.cpu_count()
    print("usable CPUs:", "not more than there are" if usable else "more than there are")
    with goproc.Pool(1, threads=1) as pool:
        print("threads in each worker:", pool.apply(threads_of_blas))
