"""Stress for each hand-over in shared memory, with the real ends: C in the worker, C and Go in the parent.

docs/design/memory-order.md lists the hand-overs. These tests run on each processor that goproc supports. What is lost,
seen too early or done twice makes them fail, or hang until their time limit. core/ring and core/pool have such tests of
their own, in which Go plays the worker.
"""

import os
import random
import threading
import time

import pytest
from helpers import wait_until

import goproc

WAIT = 120

#: How long the tests go on. With 10, each takes a few seconds on two processors. Fewer are for slow machines.
ROUNDS = int(os.environ.get("HAND_OVER_ROUNDS", "10"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:.*is multi-threaded:DeprecationWarning"),
]


def content(seed, size):
    """Bytes that tell whose they are, at each place."""
    return (seed.to_bytes(8, "little") * (size // 8 + 1))[:size]


def answer(seed, size, pause):
    """Return the content for the seed, after a pause in which the parent may fall asleep."""
    if pause:
        time.sleep(pause)
    return content(seed, size)


def check_and_answer(seed, data, size):
    assert data == content(seed, len(data)), "it was overwritten, or not yet written"
    return content(seed + 1, size)


def note(item):
    """Note that this task has been begun: one line, written at once."""
    path, number = item
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"%d\n" % number)
    os.close(descriptor)
    if number % 97 == 0:
        time.sleep(0.005)  # so that what waits behind this task is taken back
    return number


unpickled = []  # one element for each result that the parent has unpickled


class Noticed:
    """A result whose unpickling is noticed."""

    def __reduce__(self):
        return notice, ()


def notice():
    unpickled.append(None)


def make_noticed():
    return Noticed()


def exit_with(code):
    os._exit(code)


def pid(_):
    time.sleep(0.001)
    return os.getpid()


def in_threads(function, count=4):
    """Run the function in several threads, with the thread's number; raise what one of them raised."""
    errors = []

    def run(number):
        try:
            function(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_tasks_and_results():
    """The rings, and the sleeps on both sides: some tasks are far apart, some come in bursts."""
    with goproc.get_context("fork").Pool(2) as pool:

        def use(number):
            order = random.Random(number)
            for turn in range(100 * ROUNDS):
                seeds = [number << 32 | turn << 8 | i for i in range(order.choice((1, 1, 2, 20)))]
                results = [
                    pool.apply_async(answer, (seed, order.randrange(6000), order.choice((0, 0, 0, 0.0003))))
                    for seed in seeds
                ]
                for seed, result in zip(seeds, results, strict=True):
                    data = result.get(WAIT)
                    assert data == content(seed, len(data))

        in_threads(use)
    pool.join()


def test_room_for_results():
    """The result rings are full again and again: the workers sleep until there is room."""
    with goproc.get_context("fork").Pool(2) as pool:
        for turn in range(100 * ROUNDS):
            results = [pool.apply_async(answer, (turn << 16 | i, 15_000, 0)) for i in range(60)]
            for i, result in enumerate(results):
                assert result.get(WAIT) == content(turn << 16 | i, 15_000)
    pool.join()


def test_claims(tmp_path):
    """Tasks are taken back from busy workers while these begin them: each is begun once."""
    path = tmp_path / "begun"
    path.touch()
    tasks = 6_000 * ROUNDS
    with goproc.get_context("fork").Pool(3) as pool:
        assert pool.map(note, [(str(path), number) for number in range(tasks)], chunksize=1) == list(range(tasks))
    pool.join()
    assert sorted(map(int, path.read_text().split())) == list(range(tasks))


def test_results_that_nobody_waits_for():
    """Workers wake the pool's own thread, which sleeps in between."""
    unpickled.clear()
    expected = 0

    def all_unpickled():
        return len(unpickled) == expected

    with goproc.get_context("fork").Pool(2) as pool:
        for turn in range(30 * ROUNDS):
            for _ in range(turn % 4 + 1):
                pool.apply_async(make_noticed)
                expected += 1
            if turn % 3:
                wait_until(all_unpickled, WAIT)
        wait_until(all_unpickled, WAIT)
    pool.join()


def test_extents():
    """Large tasks and results: extents are freed by one process, and used again by another."""
    with goproc.get_context("fork").Pool(2) as pool:

        def use(number):
            order, kept = random.Random(number), []
            for turn in range(400 * ROUNDS):
                seed, size = number << 32 | turn << 8, order.choice((20_000, 70_000, 300_000))
                result = pool.apply_async(check_and_answer, (seed, content(seed, size), order.choice((100, size))))
                data = result.get(WAIT)
                assert data == content(seed + 1, len(data))
                kept.append((seed + 1, data))
                del kept[: order.randrange(4)]
                for old, data in kept:
                    assert data == content(old, len(data)), "a result that is kept has been overwritten"

        in_threads(use, 3)
    pool.join()


def test_seats():
    """Several threads fork children, and join them, while the engine looks at the same seats."""
    context = goproc.get_context("fork")
    processes = []
    with context.Pool(1) as pool:  # so that there is an engine

        def use(number):
            for turn in range(20 * ROUNDS):
                process = context.Process(target=exit_with, args=((number + turn) % 256,))
                process.start()
                process.join(WAIT)
                assert process.exitcode == (number + turn) % 256
                processes.append(process)

        in_threads(use)
        # Not in the threads: the standard library's start() looks at all processes, also at one that is being closed.
        for process in processes:
            process.close()
        assert pool.apply(abs, (-3,)) == 3
    pool.join()


def test_clones():
    """Pools of many workers, from one fork each. The clones pass on whose turn it is, and some of them stand by."""
    for _ in range(5 * ROUNDS):
        with goproc.get_context("fork").Pool(8) as pool:
            assert all(pool.map(pid, range(40), chunksize=1))
            os.kill(pool._pool[0].pid, 9)  # a clone that stands by takes its place
            assert all(pool.map(pid, range(40), chunksize=1))
        pool.join()
