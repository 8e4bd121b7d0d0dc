"""joblib's default backend, loky, which starts and manages its processes itself."""

import numpy
from joblib import Parallel, delayed


def norm(array, power):
    return float((array**power).sum())


def main():
    arrays = [numpy.full(200_000, n, dtype=float) for n in range(4)]
    print(Parallel(n_jobs=2)(delayed(norm)(array, 2) for array in arrays))
    print(Parallel(n_jobs=2)(delayed(lambda n: n + 1)(n) for n in range(10)))
    print(sorted(Parallel(n_jobs=2, return_as="generator_unordered")(delayed(abs)(-n) for n in range(10))))


if __name__ == "__main__":
    main()
