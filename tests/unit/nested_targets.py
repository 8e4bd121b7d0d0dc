"""What the tasks of test_nested.py do, in a module that spawned workers can import."""

import os
import signal
import sys
import time

import goproc


def square(number):
    return number * number


def total_of_squares(arguments):
    method, count = arguments
    with goproc.get_context(method).Pool(2) as pool:
        return sum(pool.map(square, range(count)))


def exit_code_of_a_child(method, code):
    process = goproc.get_context(method).Process(target=sys.exit, args=(code,))
    process.start()
    process.join()
    return process.exitcode


def deep(method, depth):
    if depth == 0:
        return 0
    with goproc.get_context(method).Pool(1, nested=True) as pool:
        return 1 + pool.apply(deep, (method, depth - 1))


def sleep_for_ever():
    time.sleep(1000)


def start_child(method, pids):
    child = goproc.get_context(method).Process(target=sleep_for_ever)
    child.start()
    pids.send([os.getpid(), child.pid])
    sleep_for_ever()


def start_tree(method, daemon=False):
    """Start a child, which starts a child, unless it is a daemon; return their pids."""
    context = goproc.get_context(method)
    if daemon:
        child = context.Process(target=sleep_for_ever, daemon=True)
        child.start()
        return [child.pid]
    ours, theirs = context.Pipe(False)
    context.Process(target=start_child, args=(method, theirs)).start()
    return ours.recv()


def start_tree_of(arguments):
    return start_tree(*arguments)


def start_tree_and_wait(method):
    start_tree(method)
    sleep_for_ever()


def die_with_a_pool(method):
    pool = goproc.get_context(method).Pool(2)
    pool.map_async(time.sleep, [1000, 1000])
    os.kill(os.getpid(), signal.SIGKILL)


def write(path):
    time.sleep(0.3)
    with open(path, "w") as file:
        file.write("written")


def write_later(method, path):
    goproc.get_context(method).Process(target=write, args=(path,)).start()
