"""joblib's backend "multiprocessing": a Pool of its own, with arrays in shared memory maps."""

import os
import tempfile

import numpy
from joblib import Parallel, delayed, parallel_config


def norm(array, power):
    return float((array**power).sum())


def fill(table, row):
    table[row, :] = row


def refuse(number):
    raise ValueError(f"no {number}")


def main():
    arrays = [numpy.full(200_000, n, dtype=float) for n in range(4)]
    print(Parallel(n_jobs=2, backend="multiprocessing")(delayed(norm)(array, 2) for array in arrays))
    with parallel_config(backend="multiprocessing"), Parallel(n_jobs=2) as parallel:
        for turn in range(3):
            print(parallel(delayed(pow)(n, turn) for n in range(10)))
    print(sum(Parallel(n_jobs=2, backend="multiprocessing", batch_size=10)(delayed(abs)(-n) for n in range(1000))))
    # Also arrays above max_nbytes, which are handed over as memory maps of files.
    big = numpy.arange(500_000, dtype=float)
    print(Parallel(n_jobs=2, backend="multiprocessing", max_nbytes="1M")(delayed(norm)(big, n) for n in (0, 1)))
    # A memory map stays one: what tasks write into it is seen by all.
    with tempfile.TemporaryDirectory() as folder:
        table = numpy.memmap(os.path.join(folder, "table"), dtype=float, shape=(4, 1000), mode="w+")
        Parallel(n_jobs=2, backend="multiprocessing")(delayed(fill)(table, row) for row in range(4))
        print(table.sum(axis=1).tolist())
    try:
        Parallel(n_jobs=2, backend="multiprocessing")(delayed(refuse)(n) for n in [5])
    except ValueError as error:
        print(error)


if __name__ == "__main__":
    main()
