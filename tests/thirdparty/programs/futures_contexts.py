"""concurrent.futures.ProcessPoolExecutor with goproc's contexts, in a program where goproc is not installed."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import goproc


def square(number):
    return number * number


def main():
    assert multiprocessing.Process is not goproc.Process
    for method in goproc.get_all_start_methods():
        with ProcessPoolExecutor(2, mp_context=goproc.get_context(method)) as executor:
            print(method, list(executor.map(square, range(10))))


if __name__ == "__main__":
    main()
