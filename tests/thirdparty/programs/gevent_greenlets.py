"""gevent: other greenlets run while one waits for a process, and in children."""

from gevent import monkey

monkey.patch_all()

import multiprocessing  # noqa: E402
import multiprocessing.connection  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402

TICK = 0.01
ticks = 0


def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(TICK)


def nap():
    time.sleep(0.5)
    sys.exit(3)


def greenlets():
    """In the child, greenlets run, too."""
    jobs = [gevent.spawn(gevent.sleep, 0.01) for _ in range(3)]
    gevent.joinall(jobs)
    sys.exit(len(jobs))


def check(what, wait):
    before = ticks
    wait()
    print(what, "others run" if ticks - before > 5 else "others stand still")


def main():
    gevent.spawn(tick)
    process = multiprocessing.Process(target=nap)
    process.start()
    check("wait for the sentinel:", lambda: multiprocessing.connection.wait([process.sentinel], 30))
    process.join()
    process = multiprocessing.Process(target=nap)
    process.start()
    check("join with a timeout:", lambda: process.join(30))
    print(process.exitcode)
    process = multiprocessing.Process(target=greenlets)
    process.start()
    process.join(30)
    print(process.exitcode)


if __name__ == "__main__":
    main()
