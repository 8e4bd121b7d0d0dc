"""Uses goproc in an exit function that runs after multiprocessing's exit function: after_exit.py METHOD"""

import atexit
import os
import sys


def last():
    show("process", process)
    show("pool", pool)
    show("result", lambda: result.get())
    show("lost result", lambda: unfinished.get())
    show("child", lambda: (child.join(), child.exitcode))
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        print("pids", children.read(), os.getpid())


def show(what, function):
    try:
        print(what, function(), flush=True)
    except Exception as error:
        print(what, type(error).__name__, flush=True)


if __name__ == "__main__":
    atexit.register(last)  # registered first, run last

import time  # noqa: E402

import goproc  # noqa: E402


def process():
    late = context.Process(target=sys.exit, args=(3,))
    late.start()
    late.join()
    return late.exitcode


def pool():
    late = context.Pool(2)  # nobody ends it
    return late.map(abs, range(-5, 0))


if __name__ == "__main__":
    context = goproc.get_context(sys.argv[1])
    early = context.Pool(2)
    result = early.map_async(abs, [-1])
    result.wait()
    unfinished = early.apply_async(time.sleep, (3600,))
    child = context.Process(target=sys.exit, args=(4,))
    child.start()
    print("end", flush=True)
