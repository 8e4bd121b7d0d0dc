"""Waits in a program whose blocking functions have been replaced, as by gevent and eventlet: patched.py METHOD

The replacements let another task run, which simulates a greenlet. Prints the calls that block without the replacements.
"""

import select
import sys
import time
from queue import Empty

import goproc
from goproc.managers import BaseManager

turns = 0
tasks = []  # what another task does when it has its turn
real_sleep = time.sleep


def sleep(seconds):
    global turns
    turns += 1
    if tasks:
        tasks.pop()()
    real_sleep(seconds)


def patch():
    time.sleep = sleep
    select.select = lambda *lists: lists[:3]  # nothing here calls it
    del select.epoll


patch()  # in children, too: the fork server imports this program


def nap(seconds):
    real_sleep(seconds)
    return seconds


class Turns:
    def count(self):
        return turns


class Manager(BaseManager):
    pass


Manager.register("Turns", Turns)


def put_later(queue):
    real_sleep(0.2)
    queue.put("item")


def check(what, wait):
    before = turns
    got = wait()
    if turns == before:
        print(what, "lets nobody run")
    return got


def main(context):
    process = context.Process(target=nap, args=(0.2,))
    process.start()
    check("join", process.join)
    assert process.exitcode == 0
    process = context.Process(target=nap, args=(60,), daemon=True)
    process.start()
    check("join with a timeout", lambda: process.join(0.05))
    assert process.exitcode is None
    tasks.append(process.terminate)
    check("join of one that another task ends", process.join)
    assert not tasks
    with context.Pool(2) as pool:
        assert check("apply", lambda: pool.apply(nap, (0.1,))) == 0.1
        assert check("map", lambda: pool.map(nap, [0.1] * 2)) == [0.1] * 2
        assert check("imap", lambda: list(pool.imap(nap, [0.1] * 2))) == [0.1] * 2
        assert sum(pool.map(abs, range(1000), 1)) == 499500
        result = pool.apply_async(nap, (60,))
        check("wait", lambda: result.wait(0.05))
        assert not result.ready()
        pool.terminate()
    with context.Pool(1) as pool:
        pool.map_async(nap, [0.1])
        pool.close()
        check("join of a pool", pool.join)
    for queue in context.Queue(), context.JoinableQueue(), context.SimpleQueue():
        process = context.Process(target=put_later, args=(queue,))
        process.start()
        assert check("get", queue.get) == "item"
        process.join()
    queue = context.Queue()
    try:
        check("get with a timeout", lambda: queue.get(timeout=0.05))
        raise AssertionError
    except Empty:
        pass
    assert not check("poll", lambda: queue._reader.poll(0.05))
    with Manager(ctx=context) as manager:
        counter = manager.Turns()
        before = counter.count()
        real_sleep(0.1)
        if counter.count() == before:
            print("a manager's server lets nobody run")


if __name__ == "__main__":
    main(goproc.get_context(sys.argv[1]))
    print("end")
