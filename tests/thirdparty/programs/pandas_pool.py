"""numpy arrays and pandas frames through Pool, Queue and shared memory."""

import multiprocessing
from multiprocessing import shared_memory

import numpy
import pandas


def summarize(frame):
    return frame.groupby("key", as_index=False)["value"].sum()


def scale(array):
    array *= 2  # what a task receives is its own, and writable
    return array


def double_shared(name, length):
    memory = shared_memory.SharedMemory(name)
    array = numpy.ndarray(length, dtype=float, buffer=memory.buf)
    array *= 2
    del array
    memory.close()


def put(queue):
    queue.put(numpy.arange(300_000))


def main():
    frame = pandas.DataFrame({"key": ["a", "b", "c", "d"] * 25_000, "value": numpy.arange(100_000)})
    pieces = [frame.iloc[start : start + 25_000] for start in range(0, 100_000, 25_000)]
    array = numpy.ones((1000, 500))
    with multiprocessing.Pool(2) as pool:
        total = pandas.concat(pool.map(summarize, pieces)).groupby("key")["value"].sum()
        print(total.to_dict())
        print([float(doubled.sum()) for doubled in pool.imap(scale, [array] * 4)], float(array.sum()))
        print(pool.apply(numpy.linalg.norm, (array,)))
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=put, args=(queue,))
    process.start()
    print(int(queue.get().sum()))
    process.join()
    memory = shared_memory.SharedMemory(create=True, size=800)
    view = numpy.ndarray(100, dtype=float, buffer=memory.buf)
    view[:] = 1
    process = multiprocessing.Process(target=double_shared, args=(memory.name, 100))
    process.start()
    process.join()
    print(process.exitcode, float(view.sum()))
    del view
    memory.close()
    memory.unlink()


if __name__ == "__main__":
    main()
