"""More of mpire.WorkerPool: workers with states, callbacks, arrays and errors."""

import multiprocessing

import numpy as np
from mpire import WorkerPool


def square(number):
    return number * number


def describe(name, size=0):
    return f"{name}: {size}"


def identified(worker_id, number):
    return 0 <= worker_id < 2, number


def begin(state):
    state["sum"] = 0


def count(state, number):
    state["sum"] += number
    return state["sum"] >= number


def end(state):
    return state["sum"]


def refuse_seven(number):
    if number == 7:
        raise LookupError(f"not {number}")
    return number


def total(array):
    return float(array.sum())


def error_of(call):
    try:
        return call()
    except Exception as error:
        return type(error).__name__


def main():
    method = multiprocessing.get_start_method()
    with WorkerPool(n_jobs=2, start_method=method) as pool:
        print("keywords", pool.map(describe, [{"name": "a", "size": 1}, ("b", 2), "c"]))
        print("chunks", [sum(pool.map(square, range(100), chunk_size=n)) for n in (1, 7, 100)])
        print("order", list(pool.imap(square, (n for n in range(20)), iterable_len=20, n_splits=5))[-1])
        print("unordered", sum(pool.map_unordered(square, range(50), max_tasks_active=4)))
        print("array", sum(pool.map(total, np.arange(1000.0).reshape(100, 10), iterable_len=100)))
    with WorkerPool(n_jobs=2, start_method=method, pass_worker_id=True) as pool:
        print("ids", pool.map(identified, range(4)))
    with WorkerPool(n_jobs=2, start_method=method, use_worker_state=True) as pool:
        print("states", all(pool.map(count, range(1, 11), worker_init=begin, worker_exit=end)))
        print("at their ends", sum(pool.get_exit_results()))
    for options in {}, {"daemon": False}:
        with WorkerPool(n_jobs=2, start_method=method, **options) as pool:
            print("an error", error_of(lambda pool=pool: pool.map(refuse_seven, range(20))))
    with WorkerPool(n_jobs=2, start_method=method) as pool:
        seen = []
        results = [pool.apply_async(square, (n,), callback=seen.append) for n in range(5)]
        failing = pool.apply_async(refuse_seven, (7,))
        print("one by one", [result.get() for result in results], error_of(failing.get), pool.apply(square, (9,)))
        pool.stop_and_join()
        print("callbacks", sorted(seen))


if __name__ == "__main__":
    main()
