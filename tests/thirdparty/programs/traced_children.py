"""Under a debugger or a tracer: whether it is in the children, as a Process and in a Pool."""

import multiprocessing
import sys


def tools():
    return [name for name in ("pydevd", "viztracer") if name in sys.modules]


def in_a_process(queue):
    queue.put(tools())


def in_a_worker(_):
    return tools()


if __name__ == "__main__":
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=in_a_process, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
    with multiprocessing.Pool(2) as pool:
        print(pool.map(in_a_worker, range(4)))
        pool.close()
        pool.join()
