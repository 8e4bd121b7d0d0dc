"""Starts one daemon and one other process in a thread that then ends, prints their pids, and waits to be killed."""

import sys
import threading
import time

import goproc


def compute():
    while True:  # no system call, and no chance for a Python signal handler
        pow(3, 100_000)


if __name__ == "__main__":
    context = goproc.get_context(sys.argv[1])
    processes = [context.Process(target=compute, daemon=True), context.Process(target=time.sleep, args=(60,))]

    def start():
        for process in processes:
            process.start()

    starter = threading.Thread(target=start)
    starter.start()
    starter.join()
    print(*[process.pid for process in processes], flush=True)
    time.sleep(60)
