# ProcessPoolExecutor: submit() returns futures, and map() an iterator over results. Its workers are processes of
# multiprocessing. A worker is started by the first call.
"""
map: 0, 1, 4, 9, 16
the first of 4 futures: 0
as they are completed: 0, 1, 4, 9
a future keeps an exception: ValueError: no 7
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed


def square(number):
    return number * number


def refuse(number):
    raise ValueError(f"no {number}")


if __name__ == "__main__":
    context = multiprocessing.get_context()
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as executor:
        print("map:", ", ".join(map(str, executor.map(square, range(5)))))
        futures = [executor.submit(square, number) for number in range(4)]
        print("the first of", len(futures), "futures:", futures[0].result())
        # sorted(): they are completed in any order.
        squares = sorted(future.result() for future in as_completed(futures))
        print("as they are completed:", ", ".join(map(str, squares)))
        error = executor.submit(refuse, 7).exception()
        print(f"a future keeps an exception: {type(error).__name__}: {error}")
