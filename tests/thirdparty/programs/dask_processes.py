"""dask's scheduler "processes", in the start method of the program."""

import multiprocessing

import dask
from dask import delayed


@delayed
def square(number):
    return number * number


@delayed
def total(numbers):
    return sum(numbers)


def main():
    graph = total([square(number) for number in range(50)])
    context = {"multiprocessing.context": multiprocessing.get_start_method()}
    with dask.config.set(context):
        print(graph.compute(scheduler="processes", num_workers=2))


if __name__ == "__main__":
    main()
