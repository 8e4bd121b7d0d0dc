"""Timeouts that are no numbers of seconds: NaN and infinity. All calls that wait do what multiprocessing's do."""

import pytest

CALLS = """
import multiprocessing, sys, time

def said(function, *arguments, **keywords):
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

if __name__ == "__main__":
    context, timeout = multiprocessing.get_context(sys.argv[1]), float(sys.argv[2])
    free, lock, semaphore, event = context.Lock(), context.Lock(), context.Semaphore(0), context.Event()
    condition, queue, full, (ours, theirs) = context.Condition(), context.Queue(), context.Queue(1), context.Pipe()
    full.put(1)
    lock.acquire()
    process = context.Process(target=time.sleep, args=(1000,), daemon=True)
    process.start()
    print("a free lock", said(free.acquire, True, timeout))
    print("a lock", said(lock.acquire, True, timeout), said(lock.acquire, False, timeout))
    print("a semaphore", said(semaphore.acquire, timeout=timeout))
    print("an event", said(event.wait, timeout))
    event.set()
    print("an event that is set", said(event.wait, timeout))
    with condition:
        print("a condition", said(condition.wait, timeout))
    with condition:
        print("wait_for", said(condition.wait_for, lambda: False, timeout))
        print("wait_for what is true", said(condition.wait_for, lambda: True, timeout))
    print("a barrier", said(context.Barrier(2).wait, timeout))
    print("a barrier for one", said(context.Barrier(1).wait, timeout))
    print("an empty queue", said(queue.get, True, timeout), said(queue.get, False, timeout))
    print("a full queue", said(full.put, 1, True, timeout), said(full.put, 1, False, timeout))
    print("a pipe", said(ours.poll, timeout))
    print("join", said(process.join, timeout))
    with context.Pool(2) as pool:
        result = pool.apply_async(time.sleep, (1000,))
        print("get", said(result.get, timeout))
        print("wait", said(result.wait, timeout))
        print("next", said(pool.imap(time.sleep, [1000]).next, timeout))
        print("next of imap_unordered", said(pool.imap_unordered(time.sleep, [1000]).next, timeout))
    with context.Pool(1) as pool:
        result = pool.apply_async(abs, (-1,))
        result.wait()
        print("get what is there", said(result.get, timeout))
    process.kill()
"""


@pytest.mark.parametrize("timeout", ["nan", "inf", "-inf"])
def test_odd_timeouts(run_script, tmp_path, method, timeout):
    (tmp_path / "program.py").write_text(CALLS)
    runs = [run_script(*way, tmp_path / "program.py", method, timeout) for way in ([], ["-m", "goproc"])]
    assert runs[0].stdout == runs[1].stdout
    assert runs[1].stderr == ""
