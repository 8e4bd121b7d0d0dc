"""Prints the order in which exit functions run at the end of a program, and of its child.

exit_order.py LIBRARY METHOD FIRST. FIRST: the first call of the library. It decides when multiprocessing's exit
function is registered, and so its place in the order.
"""

import atexit
import importlib
import sys
import threading


def show(text):
    # Not in multiprocessing's fork server: when it ends it runs what `__main__` has registered. goproc's does not.
    if __name__ == "__main__" or library.parent_process() is not None:
        print(text, flush=True)


def show_import(text):
    # Not in a child of a fork server: there it depends on whether the server has imported `__main__`. That of
    # multiprocessing does so since python/cpython#126631 was mended.
    if __name__ == "__main__" or sys.argv[2] != "forkserver":
        show(text)


atexit.register(show_import, "registered before the import")
library = importlib.import_module(sys.argv[1])
atexit.register(show_import, "registered after the import")
context = library.get_context(sys.argv[2])


def end(who):
    """Register what is to run at the end of this process."""
    from multiprocessing import util

    atexit.register(show, f"{who}: registered last")
    threading._register_atexit(show, f"{who}: as for threads")
    for priority in 10, 0, -10:
        util.Finalize(None, show, [f"{who}: finalizer {priority}"], exitpriority=priority)


def process(target=int, args=()):
    child = context.Process(target=target, args=args)
    child.start()
    child.join()


def pool():
    with context.Pool(1) as made:
        made.map(abs, [1])
        made.close()
        made.join()


FIRST = {"nothing": lambda: None, "process": process, "pool": pool, "queue": context.Queue, "lock": context.Lock}

if __name__ == "__main__":
    FIRST[sys.argv[3]]()
    atexit.register(show, "registered after the first use")
    process(end, ["child"])
    pool()
    end("main program")
