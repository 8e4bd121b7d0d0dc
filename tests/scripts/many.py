"""Starts very many processes and pools: many.py METHOD PROCESSES POOLS. Prints its resources before and after, as JSON.

"Before" means after the first twentieth: by then, resources that are made once and kept have been made.
"""

import collections
import gc
import json
import os
import sys
import threading
import time
from pathlib import Path

import goproc

BATCH = 10


def nothing():
    pass


def run(processes, pools):
    for first in range(0, processes, BATCH):
        batch = [context.Process(target=nothing, daemon=i % 2) for i in range(first, min(first + BATCH, processes))]
        for process in batch:
            process.start()
        for process in batch:
            process.join()
        assert [process.exitcode for process in batch] == [0] * len(batch)
    for number in range(pools):
        pool = context.Pool(2, maxtasksperchild=3 if number % 5 == 0 else None)
        assert pool.map(abs, range(-20, 0), chunksize=2) == list(range(20, 0, -1))
        assert list(pool.imap_unordered(len, [bytes(100_000)] * 4)) == [100_000] * 4
        results = []
        pool.apply_async(abs, (-1,), callback=results.append).get()
        if number % 3:
            pool.close()
        else:
            pool.terminate()
        pool.join()


def stop_servers():
    """Otherwise the number of processes that stand by would depend on the time."""
    if "goproc.forkserver" in sys.modules:
        sys.modules["goproc.forkserver"]._forkserver._stop()
    if "goproc.popen_spawn_posix" in sys.modules:
        sys.modules["goproc.popen_spawn_posix"].stop_server()


def state():
    stop_servers()
    gc.collect()
    deadline = time.monotonic() + 5
    while goproc.active_children() or len(threading.enumerate()) > 1:  # joins those that nobody has joined
        assert time.monotonic() < deadline, (goproc.active_children(), threading.enumerate())
    proc = Path("/proc/self")
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
    mappings = (proc / "maps").read_text().splitlines()
    descriptors = []
    for number in os.listdir(proc / "fd"):
        try:
            descriptors.append(os.readlink(proc / "fd" / number).split(":")[0])
        except FileNotFoundError:
            pass  # of this listing
    children = 0
    for task in (proc / "task").iterdir():
        try:
            children += len((task / "children").read_text().split())
        except FileNotFoundError:
            pass  # a thread of the engine's that has ended
    return {
        "descriptors": collections.Counter(descriptors),
        "threads": len(os.listdir(proc / "task")),
        "memory": int(status["VmRSS"].split()[0]) << 10,
        "mappings": len(mappings),
        "shared mappings": sum(line.split()[1].endswith("s") for line in mappings),
        "children": children,  # zombies, too
    }


if __name__ == "__main__":
    context = goproc.get_context(sys.argv[1])
    processes, pools = map(int, sys.argv[2:4])
    run(max(processes // 20, BATCH), max(pools // 20, 2))
    before = state()
    run(processes, pools)
    print(json.dumps([before, state()]))
