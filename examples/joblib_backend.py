# joblib's Parallel on goproc's workers. It needs the library joblib. Lambdas and functions of this file travel by
# value, so there is no `if __name__ == "__main__"`.
"""
squares: 0, 1, 4, 9, 16
in other processes: True
a lambda: 0, 10, 20
an exception: ValueError: no 0
"""

import os

from joblib import Parallel, delayed, parallel_config

import goproc.joblib


def square(number):
    return number * number


def refuse(number):
    raise ValueError(f"no {number}")


goproc.joblib.register()
with parallel_config(backend="goproc", n_jobs=2):
    print("squares:", ", ".join(map(str, Parallel()(delayed(square)(number) for number in range(5)))))
    print("in other processes:", os.getpid() not in Parallel()(delayed(os.getpid)() for _ in range(4)))
    print("a lambda:", ", ".join(map(str, Parallel()(delayed(lambda n: 10 * n)(n) for n in range(3)))))
    try:
        Parallel()([delayed(refuse)(0)])
    except ValueError as error:
        print(f"an exception: {type(error).__name__}: {error}")
