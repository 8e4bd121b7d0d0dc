"""tqdm.contrib.concurrent.process_map, whose workers share a lock through the executor's initializer."""

import io

from tqdm.contrib.concurrent import process_map


def square(number):
    return number * number


def main():
    bar = io.StringIO()
    print(process_map(square, range(50), max_workers=2, chunksize=5, file=bar)[-1])
    print("50/50" in bar.getvalue())


if __name__ == "__main__":
    main()
