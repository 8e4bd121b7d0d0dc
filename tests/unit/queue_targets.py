"""What the child processes of test_queues.py run."""

import os
import signal
import time


def put_all(queue, items):
    """Put the items, one by one."""
    for item in items:
        queue.put(item)


def put_numbers(queue, producer, count):
    """Put pairs: the producer's number, and 0 to count - 1."""
    for number in range(count):
        queue.put((producer, number))


def put_and_die(queue, items):
    """Put the items, and be killed: what put() has handed over is not lost."""
    put_all(queue, items)
    os.kill(os.getpid(), signal.SIGKILL)


def put_and_exit(queue, items):
    """Put the items, and end at once: what is in the buffer is lost."""
    put_all(queue, items)
    queue.cancel_join_thread()


def put_for_ever(queue, size):
    """Put numbered items of `size` bytes until killed."""
    number = 0
    while True:
        queue.put((number, bytes([number % 251]) * size))
        number += 1


def get_for_ever(queue, ready, delay=0):
    """Get items until killed."""
    ready.release()
    while True:
        queue.get()
        time.sleep(delay)


def move(source, sink):
    """Get items from one queue and put them into another, until None comes."""
    while True:
        item = source.get()
        sink.put(item)
        if item is None:
            break


def tell_whether_empty(queue, answers):
    """Put whether the reading end of the queue has nothing."""
    answers.put(not queue._reader.poll())


class Number(int):
    pass


class Text(str):
    pass


class Pair(tuple):
    pass


def echo(requests, answers, count):
    """Answer count requests."""
    for _ in range(count):
        answers.put(requests.get())


def take_tasks(queue, taken, count, done):
    """Get `count` items, report `done` of them as done, release `taken`, and wait to be killed."""
    for _ in range(count):
        queue.get()
    for _ in range(done):
        queue.task_done()
    taken.release()
    time.sleep(100)


def work_off(queue):
    """Get items and report them done, until None comes."""
    while True:
        item = queue.get()
        queue.task_done()
        if item is None:
            break


def take_and_end(queue):
    """Get an item, and end without a report."""
    queue.get()


def report(queue):
    """Report an item done that another process has got."""
    queue.task_done()


def fill_and_end(queue, count, size, cancel):
    """Put more than fits, and end: what is in the buffer is moved before, or not."""
    for number in range(count):
        queue.put((number, bytes(size)))
    if cancel:
        queue.cancel_join_thread()


def fill_and_wait(queue, filled):
    """Put more than fits, and wait to be killed."""
    put_all(queue, 100 * [bytes(10_000)])
    filled.set()
    time.sleep(600)


def join_and_tell(queue, told):
    """Append the exception that join() raises."""
    try:
        queue.join()
    except Exception as error:
        told.append(error)


def fill_and_fork(queue):
    """Put more than fits, and fork a child that puts, too."""
    import goproc

    put_all(queue, [(number, bytes(1 << 20)) for number in range(20)])
    child = goproc.get_context("fork").Process(target=put_all, args=(queue, ["the child's"]))
    child.start()
    child.join()


def put_full(queue, results):
    """Put into a queue that has a maxsize, and say when it is done."""
    queue.put("more")
    results.put("put")


def wait_with_queue(queue, ready):
    """Keep the queue open, and wait to be killed."""
    ready.set()
    time.sleep(60)


def hand_on(queue, ready):
    """Start a process that has the queue, and end without waiting for it."""
    if os.fork() == 0:
        queue.put(os.getpid())
        time.sleep(60)
    ready.set()
    os._exit(0)


def close_and_wait(queue, closed, ready):
    """Close the queue, and live on."""
    queue.close()
    closed.set()
    ready.wait(60)


def work_until_end(tasks, results):
    """Double numbers until no process can put any more."""
    tasks._writer.close()
    results._reader.close()
    while True:
        try:
            task = tasks.get()
        except EOFError:
            break
        results.put(2 * task)


def close_both_ends(queue, other):
    queue._reader.close()
    queue._writer.close()
    other._writer.close()
    other._reader.close()
