"""Exits in the given way, with an open pool, or during a call. Nothing may be printed to stderr."""

import atexit
import gc
import itertools
import os
import signal
import sys
import threading
import time

import goproc


def double(value):
    return 2 * value


def wait(_=None):
    time.sleep(3600)


def say_at_exit(pool):
    print("at exit:", pool.map(double, range(3)), flush=True)


def main(method, how):
    context = goproc.get_context(method)
    if how == "atexit before the pool":
        atexit.register(lambda: say_at_exit(pool))
    pool = context.Pool(2)
    if how == "atexit after the pool":  # exit functions run last first
        atexit.register(say_at_exit, pool)
    assert pool.map(double, range(4)) == [0, 2, 4, 6]
    print(*[process.pid for process in pool._pool], flush=True)
    if how == "busy":
        pool.map_async(wait, range(10))
        time.sleep(0.05)
    elif how == "sys.exit":
        pool.map_async(wait, range(10))
        sys.exit(3)
    elif how == "sys.exit in with":
        with pool:
            pool.map_async(wait, range(10))
            sys.exit(3)
    elif how == "sys.exit in a thread":
        thread = threading.Thread(target=lambda: (pool.apply(double, (1,)), sys.exit(3)))
        thread.start()
        thread.join()
    elif how == "exception":
        pool.map_async(wait, range(10))
        raise SystemExit(4)
    elif how == "dropped":
        del pool
        gc.collect()
    elif how == "dropped while busy":
        result = pool.map_async(wait, range(10))
        del pool
        gc.collect()
        del result
        gc.collect()
    elif how == "closed":
        pool.map_async(double, range(1000))
        pool.close()
    elif how == "imap":
        global results
        results = pool.imap(double, range(100000))
        assert next(results) == 0
    elif how == "endless imap":
        results = pool.imap_unordered(double, itertools.count())
        next(results)
    elif how == "imap of a blocked iterator":
        results = pool.imap(double, iter(lambda: time.sleep(3600), 1))
    elif how == "imap in a thread":

        def consume():
            for _ in pool.imap(double, itertools.count()):
                pass

        threading.Thread(target=consume, daemon=True).start()
        time.sleep(0.05)
    elif how == "get in a thread":
        threading.Thread(target=pool.apply, args=(wait,), daemon=True).start()
        time.sleep(0.05)
    elif how == "callback":
        pool.apply_async(double, (1,), callback=print).wait()
        pool.apply_async(wait, callback=print)
    elif how == "maxtasksperchild":
        other = context.Pool(2, maxtasksperchild=1)
        other.map(double, range(20), 1)
    elif how == "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    elif how == "SIGTERM with a handler":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        pool.map_async(wait, range(10))
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        pool.apply(wait)


if __name__ == "__main__":
    main(*sys.argv[1:])
