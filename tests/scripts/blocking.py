"""Blocks in the given call; a Ctrl-C raises one KeyboardInterrupt there, and the program ends.

Arguments: the start method, the call, how the workers are busy, how the program handles the exception.
"""

import sys
import time

import goproc


def sleep(seconds):
    time.sleep(seconds)


def compute(_):
    sum(range(10**12))


def forever():
    while True:
        yield 3600


CALLS = {
    "get": lambda pool, task: pool.apply_async(task, (3600,)).get(),
    "get with a timeout": lambda pool, task: pool.apply_async(task, (3600,)).get(3600),
    "wait": lambda pool, task: pool.apply_async(task, (3600,)).wait(),
    "apply": lambda pool, task: pool.apply(task, (3600,)),
    "map": lambda pool, task: pool.map(task, [3600] * 2),
    "imap": lambda pool, task: next(pool.imap(task, [3600] * 2)),
    "imap of an iterator": lambda pool, task: next(pool.imap_unordered(task, forever())),
    "callback": lambda pool, task: pool.apply_async(task, (3600,), callback=print).get(),
    "join": lambda pool, task: (pool.map_async(task, [3600] * 2), pool.close(), pool.join()),
}


def main(method, call, busy, how):
    context = goproc.get_context(method)
    task = {"sleeping": sleep, "computing": compute}[busy]
    interrupts = 0
    try:
        if call == "Process.join":
            process = context.Process(target=task, args=(3600,), daemon=True)
            process.start()
            print("started", flush=True)
            process.join()
        else:
            pool = context.Pool(4)
            pool.map(abs, range(4))
            print("started", flush=True)
            if how == "with":
                with pool:
                    CALLS[call](pool, task)
            else:
                CALLS[call](pool, task)
    except KeyboardInterrupt:
        interrupts += 1
        if how == "raise":
            raise
    print("interrupts:", interrupts, flush=True)
    if how == "go on":
        print("works:", pool.apply_async(abs, (-2,)).get(30), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
