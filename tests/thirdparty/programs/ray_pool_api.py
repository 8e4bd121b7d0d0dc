"""The tests of ray.util.multiprocessing for a Pool's public interface, applied to multiprocessing's Pool."""

import multiprocessing
import os
import random
import tempfile
import time


def identity(value):
    return value


def squared(value):
    return value * value


def added(*numbers, plus=0):
    return sum(numbers) + plus


def refused(value):
    raise ValueError(f"refused: {value}")


def refused_if_odd(value):
    return refused(value) if value % 2 else value


def pid(_=None):
    return os.getpid()


def wait_for(path, value):
    while not os.path.exists(path):
        time.sleep(0.005)
    return value


def mark(folder, _=None):
    open(os.path.join(folder, str(os.getpid())), "w").close()


def error_of(call):
    try:
        return call()
    except Exception as error:
        return type(error).__name__, str(error)


def making_one(folder):
    yield "sizes", [len({w.pid for w in multiprocessing.Pool(n)._pool}) for n in (1, 3)]
    yield "no workers", error_of(lambda: multiprocessing.Pool(0))
    yield "no initializer", error_of(lambda: multiprocessing.Pool(1, initializer="text"))
    with multiprocessing.Pool(2, initializer=mark, initargs=(folder,)) as pool:
        pool.map(identity, range(20), chunksize=1)
        while len(os.listdir(folder)) < 2:
            time.sleep(0.005)
    yield "initializers", len(os.listdir(folder))


def ending_one(folder):
    pool = multiprocessing.Pool(2)
    yield "joined too early", error_of(pool.join)
    result = pool.map_async(squared, range(50))
    pool.close()
    yield "closed", error_of(lambda: pool.apply(identity, (1,)))
    pool.join()
    yield "what was submitted before", sum(result.get())
    pool = multiprocessing.Pool(2)
    results = [pool.apply_async(wait_for, (os.path.join(folder, "never"), 0)) for _ in range(10)]
    pool.terminate()
    pool.join()
    yield "terminated", (error_of(lambda: pool.map(identity, [1])), len(results))
    with multiprocessing.Pool(2) as pool:
        yield "inside", pool.apply(identity, (5,))
    yield "outside", error_of(lambda: pool.apply(identity, (5,)))


def single_calls(folder):
    with multiprocessing.Pool(2) as pool:
        yield "arguments", (pool.apply(added, (1, 2), {"plus": 3}), pool.apply(added))
        yield "an error", error_of(lambda: pool.apply(refused, (7,)))
        path = os.path.join(folder, "go")
        result = pool.apply_async(wait_for, (path, "done"))
        yield (
            "not ready",
            (result.ready(), error_of(result.successful)[0], error_of(lambda: result.get(timeout=0.01))[0]),
        )
        result.wait(timeout=0.01)
        open(path, "w").close()
        yield "ready", (result.get(timeout=60), result.ready(), result.successful())
        result = pool.apply_async(refused, (8,))
        result.wait()
        yield "failed", (result.ready(), result.successful(), error_of(result.get))


def callbacks(folder):
    values = []
    with multiprocessing.Pool(2) as pool:
        results = [
            pool.apply_async(squared, (3,), callback=values.append),
            pool.apply_async(refused, (3,), error_callback=lambda error: values.append(str(error))),
            pool.map_async(squared, range(3), callback=values.append),
            pool.map_async(refused_if_odd, range(3), error_callback=lambda error: values.append(str(error))),
            pool.starmap_async(added, [(1, 2), (3, 4)], callback=values.append),
        ]
        for result in results:
            result.wait()
        pool.close()
        pool.join()
    yield "called with", sorted(map(str, values))


def maps(folder):
    with multiprocessing.Pool(3) as pool:
        numbers = list(range(100))
        random.Random(1).shuffle(numbers)
        yield "in order", [pool.map(identity, numbers, chunksize=n) == numbers for n in (None, 1, 7, 1000)]
        yield "an iterator", pool.map(squared, iter(range(5)))
        yield "nothing", (pool.map(identity, []), list(pool.imap(identity, [])), pool.starmap(added, []))
        yield "several arguments", pool.starmap(added, [(n, n + 4) for n in range(4)], chunksize=3)
        yield "an error", error_of(lambda: pool.map(refused_if_odd, [0, 2, 3, 4], chunksize=1))
        yield "workers", 1 <= len(set(pool.map(pid, range(50), chunksize=1))) <= 3
        path = os.path.join(folder, "map")
        result = pool.starmap_async(wait_for, [(path, n) for n in range(6)])
        yield "not ready", (result.ready(), error_of(lambda: result.get(timeout=0.01))[0])
        open(path, "w").close()
        yield "ready", result.get(timeout=60)


def iterators(folder):
    with multiprocessing.Pool(2) as pool:
        for n in 1, 4, 50:
            yield (
                f"chunks of {n}",
                (
                    list(pool.imap(squared, range(10), chunksize=n)),
                    sorted(pool.imap_unordered(squared, iter(range(10)), chunksize=n)),
                ),
            )
        results = pool.imap(refused_if_odd, range(4))
        yield "errors at their turn", [error_of(results.next) for _ in range(5)]
        path = os.path.join(folder, "iterator")
        results = pool.imap(wait_until_there, [path])
        yield "a timeout", error_of(lambda: results.next(timeout=0.01))[0]
        open(path, "w").close()
        yield "then the result", results.next(timeout=60)


def wait_until_there(path):
    return wait_for(path, "there")


def workers_that_are_replaced(folder):
    with multiprocessing.Pool(1, maxtasksperchild=3) as pool:
        yield "tasks of each", [len(set(pids)) for pids in in_threes([pool.apply(pid) for _ in range(9)])]
        yield "chunks are tasks", len(set(pool.map(pid, range(18), chunksize=3)))


def in_threes(values):
    return [values[n : n + 3] for n in range(0, len(values), 3)]


CASES = (making_one, ending_one, single_calls, callbacks, maps, iterators, workers_that_are_replaced)


def main():
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            for what, value in case(folder):
                print(f"{case.__name__}, {what}: {value}", flush=True)


if __name__ == "__main__":
    main()
