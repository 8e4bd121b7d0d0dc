"""What the child processes of test_locks.py run."""

import os
import signal
import time


def hold(lock, held):
    """Take the lock, say so, and wait to be killed."""
    lock.acquire()
    held.set()
    time.sleep(100)


def take_and_end(lock):
    """End by itself with the lock taken."""
    lock.acquire()


def take_and_exit(lock):
    """Exit at once with the lock taken, by os._exit()."""
    lock.acquire()
    os._exit(0)


def die_holding(lock):
    """Be killed with the lock taken."""
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def release(lock):
    """Release a lock that another process has taken."""
    lock.release()


def add(lock, number, times):
    """Count to a shared number, which is right only if nobody else does so meanwhile."""
    for _ in range(times):
        with lock:
            seen = number.value
            number.value = seen + 1


def wait_at(condition, ready, woken, timeout=None):
    """Wait at the condition, and count whether it was notified."""
    with condition:
        ready.release()
        if condition.wait(timeout):
            woken.release()


def wait_for(event, ready, woken):
    """Wait for the event, and count it."""
    ready.release()
    if event.wait(60):
        woken.release()


def pass_barrier(barrier, passed, broken, times=1):
    """Pass the barrier, and count whether it let this process pass."""
    import threading

    for _ in range(times):
        try:
            barrier.wait(60)
        except threading.BrokenBarrierError:
            broken.release()
        else:
            passed.release()


def spread(lock, method, number):
    """Pass the lock on to a child of this child."""
    import goproc

    process = goproc.get_context(method).Process(target=add, args=(lock, number, 100))
    process.start()
    add(lock, number, 100)
    process.join()


def send_repr(lock, connection):
    """Tell how the lock looks from here, free and taken."""
    with connection:
        connection.send(repr(lock))
        with lock:
            connection.send(repr(lock))


def answer(tasks, answers):
    """Take tasks, and answer each with this process's id, after as many seconds as the task says."""
    while (seconds := tasks.get()) is not None:
        time.sleep(seconds)
        answers.put(os.getpid())


def fill_and_wait(queue, filled):
    """Put two items, wait until they are in the pipe, and wait to be killed."""
    queue.put(0)
    queue.put(1)
    queue.close()
    queue.join_thread()
    filled.set()
    time.sleep(100)
