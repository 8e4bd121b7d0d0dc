# Pool.map(): the built-in map(), done by the workers. It waits for all results, and returns them in order.
"""
Pool: [0, 1, 4, 9, 16]
The same as the built-in map(): True
"""

import multiprocessing


def square(number):
    return number * number


if __name__ == "__main__":
    inputs = list(range(5))
    pool = multiprocessing.Pool(processes=4)
    outputs = pool.map(square, inputs)
    pool.close()
    pool.join()
    print("Pool:", outputs)
    print("The same as the built-in map():", outputs == list(map(square, inputs)))
