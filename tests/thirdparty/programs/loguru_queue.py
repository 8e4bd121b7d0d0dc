"""loguru: a handler with enqueue=True: its queue, lock and thread serve processes and the workers of a pool."""

import multiprocessing
import os
import tempfile

from loguru import logger


def work(number, passed):
    passed.bind(number=number).info("a process")
    passed.complete()


def keep(passed):
    global kept
    kept = passed


def square(number):
    kept.info("the square of {}", number)
    return number * number


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "log")
        logger.remove()
        logger.add(path, format="{process.name} {message} {extra}", enqueue=True, context=multiprocessing.get_context())
        processes = [multiprocessing.Process(target=work, args=(n, logger), name=f"process {n}") for n in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        with multiprocessing.Pool(2, keep, (logger,)) as pool:
            print(pool.map(square, range(10)))
            pool.close()
            pool.join()
        logger.complete()
        logger.remove()
        with open(path) as file:
            lines = sorted(line for line in file if line.startswith("process"))
            print("".join(lines), end="")
            file.seek(0)
            print(sorted(line.partition(" the ")[2] for line in file if "square" in line))


if __name__ == "__main__":
    main()
