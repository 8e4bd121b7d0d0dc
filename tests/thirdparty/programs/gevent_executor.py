"""goproc's executor under gevent, from the first call of the program on: other greenlets run while one waits."""

from gevent import monkey

monkey.patch_all()

import time  # noqa: E402
from concurrent.futures import as_completed  # noqa: E402

import gevent  # noqa: E402

import goproc  # noqa: E402
from goproc.futures import ProcessPoolExecutor  # noqa: E402


def square(number):
    return number * number


def main():
    for method in goproc.get_all_start_methods():
        ticks = []

        def tick(ticks=ticks):
            while True:
                ticks.append(None)
                gevent.sleep(0.01)

        ticking = gevent.spawn(tick)
        with ProcessPoolExecutor(2, goproc.get_context(method)) as executor:
            assert executor.submit(square, 3).result() == 9
            assert list(executor.map(square, range(5))) == [0, 1, 4, 9, 16]
            futures = [executor.submit(square, number) for number in range(5)]
            assert sorted(future.result() for future in as_completed(futures)) == [0, 1, 4, 9, 16]
            executor.submit(time.sleep, 0.3).result()
        ticking.kill()
        assert len(ticks) > 5


if __name__ == "__main__":
    main()
