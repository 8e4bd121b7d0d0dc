# The same CPU-bound work in threads and in processes.
#
# Only one thread at a time holds the global interpreter lock (GIL) of its interpreter. So threads take turns, however
# many CPUs there are. Each process has its own interpreter, and so its own GIL.
"""
Primes below 120000: 11301, counted 4 times in processes and 4 times in threads
4 processes: <seconds> s
4 threads: <seconds> s
"""

import multiprocessing
import threading
import time

LIMIT = 120_000
WORKERS = 4


def count_primes(limit, counts):
    count = 0
    for number in range(2, limit):
        divisor = 2
        while divisor * divisor <= number and number % divisor:
            divisor += 1
        count += divisor * divisor > number
    counts.put(count)


def count_in(kind):
    """Return the seconds that WORKERS of this kind (a Thread or Process class) take, and the set of their counts."""
    counts = multiprocessing.SimpleQueue()
    workers = [kind(target=count_primes, args=(LIMIT, counts)) for _ in range(WORKERS)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - began
    return seconds, {counts.get() for _ in workers}


if __name__ == "__main__":
    in_processes, counted_by_processes = count_in(multiprocessing.Process)
    in_threads, counted_by_threads = count_in(threading.Thread)
    primes = ", ".join(map(str, counted_by_processes | counted_by_threads))
    print(f"Primes below {LIMIT}: {primes}, counted {WORKERS} times in processes and {WORKERS} times in threads")
    print(f"{WORKERS} processes: {in_processes:.2f} s")
    print(f"{WORKERS} threads: {in_threads:.2f} s")
