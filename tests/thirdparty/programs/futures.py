"""concurrent.futures.ProcessPoolExecutor: everything that its documentation lists, and the loss of a worker."""

import os
from concurrent.futures import ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool

setting = None


def initialize(value):
    global setting
    setting = value


def scaled(number):
    return setting * number


def square(number):
    return number * number


def refuse(number):
    raise ValueError(f"no {number}")


def die():
    os._exit(3)


def main():
    with ProcessPoolExecutor(max_workers=2) as executor:
        print(list(executor.map(square, range(20))))
        print(list(executor.map(square, range(100), chunksize=7))[-1])
        print(sorted(future.result() for future in as_completed([executor.submit(square, n) for n in range(5)])))
        done, not_done = wait([executor.submit(pow, 2, n) for n in range(5)])
        print(len(done), len(not_done))
        error = executor.submit(refuse, 7).exception()
        print(repr(error), "refuse" in str(error.__cause__))
        print(len(executor.submit(bytes, 5_000_000).result()))
    with ProcessPoolExecutor(2, initializer=initialize, initargs=(10,)) as executor:
        print(list(executor.map(scaled, range(5))))
    with ProcessPoolExecutor(2) as executor:
        try:
            executor.submit(die).result()
        except BrokenProcessPool:
            print("a worker was lost")
    executor = ProcessPoolExecutor(1)
    futures = [executor.submit(square, number) for number in range(50)]
    executor.shutdown(cancel_futures=True)
    print(all(future.done() for future in futures))


if __name__ == "__main__":
    main()
