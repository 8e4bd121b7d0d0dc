"""The ends of a queue: programs close `_writer`, and get() raises EOFError when all other processes have ended."""

import errno
import gc
import os
import signal
from multiprocessing.connection import wait

import pytest
import queue_targets as targets
from helpers import THREADS_ARE_MEANT, start, wait_until

pytestmark = pytest.mark.part("queues")


@pytest.mark.parametrize("put", [targets.put_all, targets.put_and_die])
def test_get_after_the_last_writer(context, make_queue, put):
    queue = make_queue()
    process = start(context, put, queue, ["a", b"b" * 100_000, "c"])
    queue._writer.close()
    assert [queue.get() for _ in range(3)] == ["a", b"b" * 100_000, "c"]
    for get in (queue.get, queue._reader.recv, queue._reader.recv_bytes):
        with pytest.raises(EOFError):
            get()
    assert queue._reader.poll() and queue._reader.poll(1) and not queue.empty()
    if hasattr(queue, "get_nowait"):
        for get in (queue.get_nowait, lambda: queue.get(timeout=5)):
            with pytest.raises(EOFError):
                get()
    process.join()


def test_a_get_that_waits(context, make_queue):
    """A thread that waits in get() notices the end of the last process that could put."""
    queue, ready = make_queue(), context.Event()
    process = start(context, targets.wait_with_queue, queue, ready)
    queue._writer.close()
    assert ready.wait(60)
    assert not queue._reader.poll(0.1)
    if hasattr(queue, "put_nowait"):
        with pytest.raises(Exception) as raised:
            queue.get(timeout=0.1)
        assert type(raised.value).__name__ == "Empty"
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(EOFError):
        queue.get()
    process.join()


@THREADS_ARE_MEANT
@pytest.mark.parametrize("asks_first", [True, False])
def test_waiting_for_the_descriptor(context, make_queue, asks_first):
    queue, ready = make_queue(), context.Event()
    process = start(context, targets.wait_with_queue, queue, ready)
    assert ready.wait(60)
    if asks_first:
        assert wait([queue._reader], 0) == []
    queue._writer.close()
    assert wait([queue._reader], 0.1) == []
    process.kill()
    assert wait([queue._reader], 60) == [queue._reader]
    with pytest.raises(EOFError):
        queue.get()
    assert wait([queue._reader], 60) == [queue._reader]
    process.join()


def test_each_process_counts(context, make_queue):
    """Processes that others have started count. This process counts, too, until it closes its own end."""
    queue, ready = make_queue(), context.Event()
    process = start(context, targets.hand_on, queue, ready)
    assert ready.wait(60)
    process.join()  # its child has the queue
    pid = queue.get()
    try:
        assert not queue._reader.poll(0.1)
        queue._writer.close()
        assert not queue._reader.poll(0.1)
    finally:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(EOFError):
        queue.get()


def test_a_closed_queue_counts_no_more(context):
    queue, closed, ready = context.SimpleQueue(), context.Event(), context.Event()
    process = start(context, targets.close_and_wait, queue, closed, ready)
    queue._writer.close()
    assert closed.wait(60)
    with pytest.raises(EOFError):
        queue.get()
    ready.set()
    process.join()


def test_a_worker_of_a_program_that_was_killed(run_script, tmp_path, method):
    """The recipe of multiprocessing's own workers: they close the ends that they do not use, and end at EOFError."""
    code = f"""
import os, signal, sys
import goproc
import queue_targets
if __name__ == "__main__":
    context = goproc.get_context({method!r})
    tasks, results = context.SimpleQueue(), context.SimpleQueue()
    workers = [context.Process(target=queue_targets.work_until_end, args=(tasks, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for number in range(4):
        tasks.put(number)
    assert sorted(results.get() for _ in range(4)) == [0, 2, 4, 6]
    print(*[worker.pid for worker in workers], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    program = tmp_path / "program.py"
    program.write_text(code)
    done = run_script(str(program), status=-signal.SIGKILL, PYTHONPATH=os.path.dirname(__file__))
    for pid in map(int, done.stdout.split()):
        wait_until(lambda pid=pid: not is_running(pid))


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_putting_after_the_last_reader(context):
    """A SimpleQueue raises BrokenPipeError, as a pipe does."""
    queue, ready = context.SimpleQueue(), context.Event()
    process = start(context, targets.wait_with_queue, queue, ready)
    assert ready.wait(60)
    queue._reader.close()
    queue.put("nobody gets it")
    process.kill()
    process.join()
    with pytest.raises(BrokenPipeError) as raised:
        queue.put("nobody can get it")
    assert raised.value.errno == errno.EPIPE


@THREADS_ARE_MEANT
def test_the_thread_after_the_last_reader(context, capfd):
    """Queue.put() raises nothing: the thread prints the error, or ends without a word if the program wants that."""
    queue, ready = context.Queue(), context.Event()
    process = start(context, targets.wait_with_queue, queue, ready)
    assert ready.wait(60)
    process.kill()
    process.join()
    queue._reader.close()
    queue.put("nobody can get it")
    queue.close()
    queue.join_thread()
    assert "BrokenPipeError: [Errno 32] Broken pipe" in capfd.readouterr().err
    silent = context.Queue()
    silent._ignore_epipe = True
    silent._reader.close()
    silent.put("nobody can get it")
    silent.close()
    silent.join_thread()
    assert capfd.readouterr().err == ""


def test_a_fork_after_an_end_was_closed(context):
    """What is forked later has only the ends that are open."""
    if context.get_start_method() != "fork":
        queue = context.SimpleQueue()
        queue._writer.close()
        with pytest.raises(OSError, match="handle is closed"):
            start(context, targets.wait_with_queue, queue, context.Event())
        return
    queue, ready = context.SimpleQueue(), context.Event()
    queue.put("left")
    queue._writer.close()
    process = start(context, targets.wait_with_queue, queue, ready)
    assert ready.wait(60)
    assert queue.get() == "left"
    with pytest.raises(EOFError):
        queue.get()
    process.kill()
    process.join()


def test_large_items_and_the_memory_stay(context, make_queue):
    """An end that is closed opens the queue's file anew: nothing of the contents changes."""
    queue = make_queue()
    items = [bytes([number]) * size for number, size in enumerate((10, 10_000, 1_000_000, 3_000_000))]
    for item in items:
        queue.put(item)
    process = start(context, targets.put_all, queue, [b"x" * 20_000_000])
    queue._writer.close()
    assert [queue.get() for _ in range(5)] == [*items, b"x" * 20_000_000]
    with pytest.raises(EOFError):
        queue.get()
    process.join()


def test_closing_one_end_after_the_other(context, make_queue):
    """In either order, in a process that has not used them before."""
    queues = [make_queue(), make_queue()]
    process = start(context, targets.close_both_ends, *queues)
    process.join()
    assert process.exitcode == 0
    for queue in queues:
        queue.put("item")
        assert queue.get() == "item"
        queue._writer.close()
        with pytest.raises(EOFError):
            queue.get()


def test_no_descriptors_are_left(context):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        queue = context.SimpleQueue()
        queue._writer.close()
        queue._reader.close()
        queue.close()
    del queue
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
