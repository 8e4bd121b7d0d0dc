"""mpire.WorkerPool: it uses the processes, queues and locks of the context that it is given."""

import multiprocessing

from mpire import WorkerPool


def square(number):
    return number * number


def shared_square(shared, number):
    return shared[0] * number


def main():
    method = multiprocessing.get_start_method()
    with WorkerPool(n_jobs=2, start_method=method) as pool:
        print(sum(pool.map(square, range(1000))))
        print(sorted(pool.imap_unordered(square, range(10))))
    with WorkerPool(n_jobs=2, start_method=method, shared_objects=[7], keep_alive=True) as pool:
        print(pool.map(shared_square, range(10)))
        print(pool.apply_async(shared_square, (6,)).get(timeout=30))


if __name__ == "__main__":
    main()
