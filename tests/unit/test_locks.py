"""Locks, semaphores, conditions, events and barriers: what is promised when a process is killed, and all else."""

import multiprocessing.synchronize
import os
import pickle
import signal
import threading
import time
from queue import Full

import lock_targets as targets
import pytest
from helpers import THREADS_ARE_MEANT, SharedMemoryFiles, notes, start, wait_until

import goproc
from goproc import AbandonedLockError

pytestmark = pytest.mark.part("locks")

KINDS = {
    "lock": lambda context, **options: context.Lock(**options),
    "rlock": lambda context, **options: context.RLock(**options),
    "bounded1": lambda context, **options: context.BoundedSemaphore(1, **options),
    "bounded2": lambda context, **options: context.BoundedSemaphore(2, **options),
    "condition": lambda context, **options: context.Condition(**options),
}


@pytest.fixture(params=KINDS)
def make(request, context):
    """Makes each kind of lock that has a holder, in the context of each start method."""
    return lambda **options: KINDS[request.param](context, **options)


def killed_holder(context, lock):
    """Kill a process that holds the lock; return the Process. All other permits of a semaphore are taken here."""
    held = context.Event()
    process = context.Process(target=targets.hold, args=(lock, held), name="the holder")
    process.start()
    assert held.wait(60)
    while lock.acquire(False):
        pass
    os.kill(process.pid, signal.SIGKILL)
    return process


def run_to_end(context, target, *args):
    process = start(context, target, *args)
    process.join()
    return process.exitcode


def test_a_killed_holder_is_told_of_once(context, make):
    lock = make()
    process = killed_holder(context, lock)
    with pytest.raises(AbandonedLockError) as caught:
        lock.acquire()
    assert caught.value.pid == process.pid
    assert caught.value.name == "the holder"
    assert str(process.pid) in str(caught.value)
    assert lock.acquire(timeout=10)
    lock.release()
    process.join()


def test_a_killed_holder_that_has_been_reaped(context, make):
    lock = make()
    process = killed_holder(context, lock)
    process.join()
    with pytest.raises(AbandonedLockError, match=str(process.pid)):
        lock.acquire(timeout=10)
    assert lock.acquire(False)


def test_a_poll_is_told_of_a_killed_holder(context, make):
    lock = make()
    process = killed_holder(context, lock)
    process.join()
    with pytest.raises(AbandonedLockError):
        lock.acquire(False)
    assert lock.acquire(False)


def test_the_block_is_not_entered(context, make):
    lock = make()
    killed_holder(context, lock).join()
    with pytest.raises(AbandonedLockError):
        with lock:
            raise AssertionError("it was entered")
    with lock:
        pass


def test_a_program_may_choose_to_go_on(context, make):
    lock = make(abandoned="take")
    killed_holder(context, lock).join()
    assert lock.acquire(timeout=10)


@pytest.mark.slow
def test_a_program_may_choose_to_have_it_stay_locked(context, make):
    lock = make(abandoned="keep")
    killed_holder(context, lock).join()
    assert not lock.acquire(timeout=0.6)


def test_one_of_many_waiters_is_told(context, make):
    lock = make()
    process = killed_holder(context, lock)
    told, got = [], []

    def wait():
        try:
            lock.acquire(timeout=30)
        except AbandonedLockError as error:
            told.append(error.pid)
        else:
            got.append(True)
            lock.release()

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [process.pid]
    assert got == [True] * 3
    process.join()


@pytest.mark.slow
@pytest.mark.parametrize("target", [targets.take_and_end, targets.take_and_exit])
def test_a_process_that_ends_by_itself_leaves_it_locked(context, target):
    lock = context.Lock()
    assert run_to_end(context, target, lock) == 0
    assert not lock.acquire(timeout=0.6)
    lock.release()
    assert lock.acquire(timeout=10)


def test_another_process_may_release_it(context):
    lock = context.Lock()
    lock.acquire()
    assert run_to_end(context, targets.release, lock) == 0
    assert lock.acquire(False)
    lock.release()
    with pytest.raises(ValueError, match="released too many times"):
        lock.release()


@pytest.mark.slow
def test_permits_that_are_signals_belong_to_nobody(context):
    """A killed producer's permits are given back by the consumer, as for the items of a bounded buffer."""
    room = context.BoundedSemaphore(2)
    room.acquire()
    assert run_to_end(context, targets.release, room) == 0
    room.acquire()
    assert run_to_end(context, targets.die_holding, room) == -signal.SIGKILL
    assert not room.acquire(timeout=0.6)
    room.release()
    assert room.acquire(False)
    room.release()
    room.release()
    with pytest.raises(ValueError, match="released too many times"):
        room.release()


@pytest.mark.slow
def test_nobody_is_told_of_a_semaphores_permits(context):
    semaphore = context.Semaphore(1)
    assert run_to_end(context, targets.die_holding, semaphore) == -signal.SIGKILL
    assert not semaphore.acquire(timeout=0.6)
    semaphore.release()
    assert semaphore.acquire(False)


def test_the_holder_stops_holding_when_a_lock_guards_a_number(context):
    lock, number = context.Lock(), context.RawValue("i", 0)
    processes = [start(context, targets.add, lock, number, 2000) for _ in range(3)]
    for process in processes:
        process.join()
    assert number.value == 6000


def test_a_child_passes_a_lock_on(context, method):
    lock, number = context.Lock(), context.RawValue("i", 0)
    assert run_to_end(context, targets.spread, lock, method, number) == 0
    assert number.value == 200


def test_the_same_lock_twice_is_one_lock(context):
    lock, number = context.Lock(), context.Value("i", 0)
    assert run_to_end(context, targets.add, lock, number, 3) == 0
    assert number.value == 3
    assert lock.acquire(False)


def test_how_it_looks(context):
    lock = context.Lock()
    ours, theirs = context.Pipe()
    process = context.Process(target=targets.send_repr, args=(lock, theirs), name="a child")
    process.start()
    theirs.close()
    assert ours.recv() == "<Lock(owner=None)>"
    assert ours.recv() == "<Lock(owner=a child)>"
    process.join()
    ours.close()
    standard = multiprocessing.get_context("spawn")
    for name, args in ("Lock", ()), ("RLock", ()), ("Semaphore", (3,)), ("BoundedSemaphore", (3,)), ("Condition", ()):
        made, model = getattr(context, name)(*args), getattr(standard, name)(*args)
        assert repr(made) == repr(model)
        with made, model:
            assert repr(made) == repr(model)
        assert isinstance(made, getattr(multiprocessing.synchronize, name))


# ---- queues, which have such locks


def test_a_queue_goes_on_when_a_consumer_was_killed(context):
    """Idle consumers wait for the lock of one of them, which is killed: items go to the others."""
    tasks, answers = context.SimpleQueue(), context.SimpleQueue()
    processes = [start(context, targets.answer, tasks, answers) for _ in range(3)]
    seen = set()
    while len(seen) < 3:
        tasks.put(0.01)
        seen.add(answers.get())
    for process in processes[:2]:
        process.kill()
        process.join()
        tasks.put(0)
        assert answers.get() in {process.pid for process in processes}
    tasks.put(None)
    for process in processes:
        process.join()


def test_a_bounded_queue_keeps_its_bound_when_a_producer_was_killed(context):
    queue, filled = context.Queue(2), context.Event()
    process = start(context, targets.fill_and_wait, queue, filled)
    assert filled.wait(60)
    process.kill()
    process.join()
    with pytest.raises(Full):
        queue.put("too many", timeout=0.6)
    assert [queue.get(timeout=10), queue.get(timeout=10)] == [0, 1]
    queue.put("again")
    assert queue.get(timeout=10) == "again"
    queue.close()
    queue.join_thread()


# ---- conditions, events, barriers


def test_a_dead_waiter_holds_nobody_up(context):
    condition, ready, woken = context.Condition(), context.Semaphore(0), context.Semaphore(0)
    processes = [start(context, targets.wait_at, condition, ready, woken) for _ in range(3)]
    for _ in processes:
        ready.acquire()
    wait_until(lambda: condition._sleeping_count.get_value() == 3)
    processes[0].kill()
    processes[0].join()
    with condition:
        condition.notify()
    assert woken.acquire(timeout=10)
    assert not woken.acquire(timeout=0.2)
    with condition:
        condition.notify_all()
    assert woken.acquire(timeout=10)
    for process in processes:
        process.join()
    assert condition._sleeping_count.get_value() == 0


def test_who_has_waited_longest_is_notified_first():
    condition, order = goproc.get_context("fork").Condition(), []

    def wait(number):
        with condition:
            condition.wait()
            order.append(number)

    threads = []
    for number in range(5):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        wait_until(lambda: condition._sleeping_count.get_value() == len(threads))
    while len(order) < 5:
        before = len(order)
        with condition:
            condition.notify()
        wait_until(lambda before=before: len(order) > before)
    assert order == [0, 1, 2, 3, 4]
    for thread in threads:
        thread.join()


@THREADS_ARE_MEANT
def test_wait_has_the_lock_when_it_tells_of_a_killed_holder(context):
    condition = context.Condition(context.Lock())
    caught = []

    def wait():
        try:
            with condition:
                condition.wait(30)
        except AbandonedLockError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: condition._sleeping_count.get_value() == 1)
    process = start(context, targets.hold, condition, held := context.Event())
    assert held.wait(60)
    condition._waiters.notify(1)  # as the holder did before it was killed
    process.kill()
    thread.join()
    assert [error.pid for error in caught] == [process.pid]
    process.join()
    with condition:
        pass


def test_an_event_is_set_though_a_waiter_was_killed(context):
    event, ready, woken = context.Event(), context.Semaphore(0), context.Semaphore(0)
    processes = [start(context, targets.wait_for, event, ready, woken) for _ in range(3)]
    for _ in processes:
        ready.acquire()
    processes[0].kill()
    processes[0].join()
    event.set()
    assert woken.acquire(timeout=10)
    assert woken.acquire(timeout=10)
    for process in processes:
        process.join()
    assert event.is_set()
    event.clear()
    assert not event.wait(0.01)


@pytest.mark.part("dump", "locks")
def test_a_pulse_wakes_who_waits():
    event, results = goproc.get_context("fork").Event(), []
    threads = [threading.Thread(target=lambda: results.append(event.wait(30))) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: {thread.native_id for thread in threads} <= {note.thread for note in notes()})
    event.set()
    event.clear()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


def test_a_killed_party_breaks_the_barrier(context):
    barrier, passed, broken = context.Barrier(4), context.Semaphore(0), context.Semaphore(0)
    processes = [start(context, targets.pass_barrier, barrier, passed, broken) for _ in range(3)]
    wait_until(lambda: barrier.n_waiting == 3)
    processes[0].kill()
    processes[0].join()
    assert broken.acquire(timeout=10)
    assert broken.acquire(timeout=10)
    for process in processes:
        process.join()
    assert barrier.broken
    barrier.reset()
    processes = [start(context, targets.pass_barrier, barrier, passed, broken, 20) for _ in range(3)]
    for _ in range(20):
        barrier.wait(60)
    for process in processes:
        process.join()
    assert passed.get_value() == 60
    assert broken.get_value() == 0


# ---- memory, pickles, signals, wrong use


def test_nothing_is_left_in_dev_shm(run_script):
    code = """
import goproc
if __name__ == "__main__":
    for method in "fork", "spawn", "forkserver":
        context = goproc.get_context(method)
        made = [context.Lock(), context.Event(), context.Condition(), context.Barrier(2), context.Semaphore()]
        process = context.Process(target=print, args=("child",))
        process.start()
        process.join()
    from multiprocessing import resource_tracker
    print(resource_tracker._resource_tracker._pid)
"""
    files = SharedMemoryFiles()
    assert run_script("-c", code.replace('"spawn", "forkserver"', '"fork"')).stdout.split()[-1] == "None"
    run_script("-c", code)
    files.check()


def test_the_memory_of_values_never_had_a_name(run_script):
    code = """
import goproc, os
if __name__ == "__main__":
    value = goproc.Value("i", 5)
    names = {os.readlink(f"/proc/self/fd/{fd}") for fd in range(3, 20) if os.path.lexists(f"/proc/self/fd/{fd}")}
    print(*sorted(name.split()[0] for name in names if "heap" in name or "pym-" in name))
"""
    assert run_script("-c", code).stdout == "/memfd:goproc-heap\n"


def test_locks_are_given_back():
    """Neither memory nor descriptors grow with the number of locks that have been made."""
    context = goproc.get_context("spawn")
    kept = context.Lock()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(300):
        locks = [context.Lock() for _ in range(100)]
        assert all(lock.acquire(False) for lock in locks)
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    with kept:
        pass


def test_a_lock_in_memory_that_is_given_again_is_new():
    context = goproc.get_context("fork")
    for _ in range(50):
        lock = context.Lock()
        assert lock.acquire(False)
        del lock
        event = context.Event()
        assert not event.is_set()
        event.set()
        del event


def test_a_fork_contexts_lock_cannot_be_sent():
    lock = goproc.get_context("fork").Lock()
    process = goproc.get_context("spawn").Process(target=targets.release, args=(lock,))
    with pytest.raises(RuntimeError, match="created in a fork context"):
        process.start()


@pytest.mark.parametrize("name", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event"])
def test_pickling_is_for_starting_processes_only(context, name):
    with pytest.raises(RuntimeError, match="should only be shared between processes through inheritance"):
        pickle.dumps(getattr(context, name)())


def test_wrong_use():
    context = goproc.get_context("fork")
    with pytest.raises(ValueError, match="abandoned='no'"):
        context.Lock(abandoned="no")
    with pytest.raises(OSError, match="Invalid argument"):
        context.Semaphore(-1)
    for value in 1 << 31, 1 << 70, -(1 << 40):
        with pytest.raises(OverflowError):
            context.Semaphore(value)
        with pytest.raises(OverflowError):
            context.BoundedSemaphore(value)
    with pytest.raises(AssertionError, match="not owned by thread"):
        context.RLock().release()
    with pytest.raises(AssertionError, match="must acquire"):
        context.Condition().wait()
    with pytest.raises(AssertionError, match="lock is not owned"):
        context.Condition().notify()
    with pytest.raises(TypeError):
        context.Lock().acquire(True, "a second")
    assert context.Lock().acquire(timeout=-1)


def test_a_signal_handler_runs_while_a_lock_is_waited_for():
    lock = goproc.get_context("fork").Lock()
    lock.acquire()
    previous = signal.signal(signal.SIGALRM, lambda *_: lock.release())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        assert lock.acquire(timeout=30)
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_a_killed_holder_is_told_of_though_signals_come_all_the_time():
    context = goproc.get_context("fork")
    lock = context.Lock()
    process = killed_holder(context, lock)
    process.join()
    previous = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        with pytest.raises(AbandonedLockError):
            lock.acquire(timeout=10)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize("wait", ["lock", "event", "condition"])
def test_an_exception_of_a_signal_handler_ends_the_wait(wait):
    context = goproc.get_context("fork")
    lock, event, condition = context.Lock(), context.Event(), context.Condition()
    lock.acquire()
    condition.acquire()
    waits = {"lock": lock.acquire, "event": event.wait, "condition": condition.wait}

    def handler(*_):
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            waits[wait]()
    finally:
        signal.signal(signal.SIGALRM, previous)
    condition.release()


def test_a_thread_releases_what_another_waits_for():
    lock = goproc.get_context("fork").RLock()
    lock.acquire()
    lock.acquire()
    got = []
    thread = threading.Thread(target=lambda: got.append(lock.acquire(timeout=30)) or lock.release())
    thread.start()
    time.sleep(0.1)
    lock.release()
    assert not got
    lock.release()
    thread.join()
    assert got == [True]


def test_a_forked_child_does_not_hold_its_parents_lock():
    context = goproc.get_context("fork")
    lock = context.RLock()
    with lock:
        ours, theirs = context.Pipe()
        process = context.Process(target=lambda: theirs.send((lock._semlock._count(), lock.acquire(False))))
        process.start()
        assert ours.recv() == (0, False)
        process.join()
    ours.close()
    theirs.close()
