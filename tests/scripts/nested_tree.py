"""A program with a nested pool, whose task has started a process, which has one: nested_tree.py METHOD. Prints pids."""

import os
import sys
import time

import goproc


def start_child(pids):
    child = goproc.Process(target=time.sleep, args=(1000,))
    child.start()
    pids.send([os.getpid(), child.pid])
    time.sleep(1000)


def start_tree():
    ours, theirs = goproc.Pipe(False)
    goproc.Process(target=start_child, args=(theirs,)).start()
    return ours.recv()


if __name__ == "__main__":
    goproc.set_start_method(sys.argv[1])
    pool = goproc.Pool(2, nested=True)
    print(*pool.apply(start_tree), *(worker.pid for worker in pool._pool), flush=True)
    time.sleep(1000)
