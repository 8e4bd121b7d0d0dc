"""A program that works until its input ends: python work_until_told.py METHOD. test_dump.py looks at it meanwhile.

It uses a pool, a lock and a timer's signals. It prints "as it should be" if no result and no signal was lost.
"""

import os
import signal
import sys
import threading

import goproc


def work(number):
    with lock:
        value.value += 1
    return number * number


def take(shared_lock, shared_value):
    global lock, value
    lock, value = shared_lock, shared_value


def main():
    context = goproc.get_context(sys.argv[1])
    lock, value = context.Lock(), context.Value("l", 0, lock=False)
    ticks, told = [], threading.Event()
    signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    with context.Pool(2, take, (lock, value)) as pool:
        assert pool.map(work, range(10)) == [number * number for number in range(10)]
        threading.Thread(target=lambda: (os.read(0, 1), told.set())).start()
        print("working", flush=True)
        rounds = 1
        while not told.is_set():
            assert pool.map(work, range(10), chunksize=1) == [number * number for number in range(10)]
            rounds += 1
        assert value.value == 10 * rounds
        assert ticks
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("as it should be")


if __name__ == "__main__":
    main()
