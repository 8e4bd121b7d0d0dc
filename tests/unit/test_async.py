"""Results, iterators, pools and processes in coroutines, on asyncio's loop and on uvloop's."""

import asyncio
import contextlib
import functools
import importlib.util
import os
import signal
import threading
import time

import async_targets as targets
import pool_targets
import pytest

import goproc
import goproc.pool

LOOPS = ["asyncio"] + ["uvloop"] * (importlib.util.find_spec("uvloop") is not None)


@pytest.fixture(scope="module", autouse=True)
def _uvloop():
    """Make a first loop of uvloop before the check for leaks begins: a pipe of libuv stays open."""
    if "uvloop" in LOOPS:
        import uvloop

        uvloop.new_event_loop().close()


@pytest.fixture(params=LOOPS)
def run(request):
    """Run a coroutine in a new event loop of each kind."""

    def run_it(coroutine):
        if request.param == "asyncio":
            return asyncio.run(coroutine)
        import uvloop

        loop = uvloop.new_event_loop()
        try:
            return loop.run_until_complete(coroutine)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    return run_it


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


async def begun(path, count=1):
    """Wait until that many lines are in the file. Tasks of asyncio that were made before have begun then."""
    await asyncio.sleep(0)
    while not path.exists() or len(path.read_text().splitlines()) < count:
        await asyncio.sleep(0.005)


# ---- results


def test_results_can_be_awaited(context, run):
    async def main():
        async with context.Pool(2) as pool:
            assert await pool.apply_async(targets.square, (7,)) == 49
            assert await pool.map_async(targets.square, range(100)) == [n * n for n in range(100)]
            assert await pool.starmap_async(targets.add, [(1, 2), (3, 4)]) == [3, 7]
            assert await pool.map_async(targets.square, []) == []
            assert await pool.map_async(targets.square, iter(range(5)), 2) == [0, 1, 4, 9, 16]
            many = [pool.apply_async(targets.square, (n,)) for n in range(50)]
            assert await asyncio.gather(*many) == [n * n for n in range(50)]
        assert not goproc.active_children()

    run(main())


def test_the_loop_goes_on(gate, run):
    async def main():
        with goproc.Pool(1) as pool:
            waiting = asyncio.ensure_future(pool.apply_async(targets.return_when, (gate, 5)))
            for _ in range(10):
                await asyncio.sleep(0.001)
            assert not waiting.done()
            gate.touch()
            assert await waiting == 5

    run(main())


def test_ready_result_and_several_awaits(gate, run):
    async def main():
        with goproc.Pool(1) as pool:
            result = pool.apply_async(targets.square, (3,))
            assert result.get(60) == 9
            assert await result == 9
            assert await result == 9
            result = pool.apply_async(targets.return_when, (gate, 5))

            async def wait():
                return await result

            tasks = [asyncio.create_task(wait()) for _ in range(20)]
            await asyncio.sleep(0.01)
            gate.touch()
            assert await asyncio.gather(*tasks) == [5] * 20

    run(main())


def test_loops_of_several_threads(gate):
    async def wait(result):
        return await result

    values = []
    with goproc.Pool(1) as pool:
        result = pool.apply_async(targets.return_when, (gate, 5))
        threads = [threading.Thread(target=lambda: values.append(asyncio.run(wait(result)))) for _ in range(5)]
        threads.append(threading.Thread(target=lambda: values.append(result.get())))
        for thread in threads:
            thread.start()
        gate.touch()
        for thread in threads:
            thread.join()
    assert values == [5] * 6


def test_await_in_another_loop(run):
    async def submit(pool):
        return pool.apply_async(targets.square, (4,))

    async def wait(result):
        return await result

    with goproc.Pool(1) as pool:
        result = run(submit(pool))
        assert run(wait(result)) == 16


def test_exceptions_have_their_remote_traceback(context, run):
    async def main():
        async with context.Pool(1) as pool:
            with pytest.raises(ValueError, match="no") as caught:
                await pool.apply_async(targets.fail, ("no",))
            assert "in fail" in str(caught.value.__cause__)
            with pytest.raises(goproc.WorkerLostError):
                await pool.apply_async(targets.kill_itself, (0,))
            with pytest.raises(goproc.TaskTimeoutError):
                await pool.apply_async(time.sleep, (600,), timeout=0.05)
            assert await pool.apply_async(targets.square, (2,)) == 4

    run(main())


def test_unpicklable_arguments(run):
    async def main():
        with goproc.Pool(1) as pool:
            with pytest.raises(Exception, match="pickle"):
                await pool.apply_async(targets.square, (threading.Lock(),))

    run(main())


def test_cancelled_task_cancels_the_pools(tmp_path, run):
    file = tmp_path / "began"

    async def main():
        async with goproc.Pool(1) as pool:
            result = pool.apply_async(targets.begin_and_hang, (file,))
            task = asyncio.ensure_future(result)
            other = asyncio.ensure_future(result)
            await begun(file)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(goproc.CancelledError):  # of the pool: this task was not cancelled itself
                await other
            assert await pool.apply_async(targets.square, (2,)) == 4  # by another worker

    run(main())


@pytest.mark.parametrize("how", ["wait_for", "timeout", "group"])
def test_what_asyncio_cancels(how, tmp_path, run):
    if how != "wait_for" and not hasattr(asyncio, "timeout"):
        how = "wait_for"  # asyncio has neither before Python 3.11
    file = tmp_path / "began"

    async def main():
        async with goproc.Pool(1) as pool:
            result = pool.apply_async(targets.begin_and_hang, (file,))
            if how == "wait_for":
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(result, 0.05)
            elif how == "timeout":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await result
            else:

                async def wait():
                    await result

                async def stumble():
                    await begun(file)
                    raise LookupError

                with pytest.raises(BaseException) as caught:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(wait())
                        group.create_task(stumble())
                assert isinstance(caught.value.exceptions[0], LookupError)
            with pytest.raises(goproc.CancelledError):
                result.get(60)
            assert await pool.apply_async(targets.square, (2,)) == 4

    run(main())


def test_shield(gate, run):
    async def main():
        async with goproc.Pool(1) as pool:
            result = pool.apply_async(targets.return_when, (gate, 5))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(result), 0.02)
            gate.touch()
            assert await result == 5

    run(main())


def test_no_thread_for_each_await(gate, run):
    async def main():
        with goproc.Pool(1) as pool:
            first = pool.apply_async(targets.return_when, (gate, 0))
            results = [pool.apply_async(targets.square, (n,)) for n in range(10_000)]
            tasks = [asyncio.ensure_future(result) for result in results]
            before = threading.active_count()
            while not all(result._watchers for result in results):
                await asyncio.sleep(0)
            assert threading.active_count() <= before + 1  # the pool's own
            gate.touch()
            assert await asyncio.gather(*tasks) == [n * n for n in range(10_000)]
            assert await first == 0

    run(main())


@pytest.mark.parametrize("how", ["terminate", "exit"])
def test_terminated_while_awaited(context, tmp_path, how, run):
    file = tmp_path / "began"

    async def main():
        pool = context.Pool(1)
        waiting = [asyncio.ensure_future(pool.apply_async(targets.begin_and_hang, (file,))) for _ in range(3)]
        items = pool.imap(targets.begin_and_hang, [file] * 3)
        waiting.append(asyncio.ensure_future(anext(items)))
        await begun(file)
        if how == "terminate":
            pool.terminate()
        else:
            await pool.__aexit__(None, None, None)
        for task in waiting:
            with pytest.raises(goproc.CancelledError, match="terminated"):
                await task
        with pytest.raises(ValueError):
            pool.apply_async(targets.square, (1,))
        await pool.join_async()

    run(main())


def test_await_after_termination(tmp_path, run):
    file = tmp_path / "began"

    async def main():
        async with goproc.Pool(1) as pool:
            result = pool.apply_async(targets.begin_and_hang, (file,))
        with pytest.raises(goproc.CancelledError, match="leaving a `with Pool"):
            await result

    run(main())


def test_closed_loop(gate, run, capfd):
    """The result of a task whose loop is gone is kept, and the thread that delivers it goes on."""

    async def begin(result):
        coroutine = result.__await__()
        next(coroutine)  # it waits now, without a task that the end of the loop would cancel
        return coroutine

    with goproc.Pool(1) as pool:
        result = pool.apply_async(targets.return_when, (gate, 5))
        loop = asyncio.new_event_loop()
        coroutine = loop.run_until_complete(begin(result))
        loop.close()
        gate.touch()
        assert result.get(60) == 5
        assert pool.apply(targets.square, (3,)) == 9
        coroutine.close()
    assert capfd.readouterr().err == ""


def test_only_in_a_running_loop():
    with goproc.Pool(1) as pool:
        result = pool.apply_async(time.sleep, (600,))
        with pytest.raises(RuntimeError, match="no running event loop"):
            next(result.__await__())


def test_await_in_a_forked_child():
    def child(result, connection):
        async def wait():
            return await result

        try:
            asyncio.run(wait())
        except RuntimeError as error:
            connection.send(str(error))

    mine, theirs = goproc.Pipe()
    with goproc.Pool(1) as pool:
        result = pool.apply_async(time.sleep, (600,))
        process = goproc.get_context("fork").Process(target=child, args=(result, theirs))
        process.start()
        assert "parent process" in mine.recv()
        process.join()
    mine.close()
    theirs.close()


def test_interrupted_program(run_script):
    code = """
import asyncio, os, signal, sys, time
import goproc

def interrupt(pid):
    os.kill(pid, signal.SIGINT)
    time.sleep(600)

async def main():
    async with goproc.get_context("fork").Pool(1) as pool:
        await pool.apply_async(interrupt, (os.getpid(),))

if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted")
    print(goproc.active_children())
"""
    done = run_script("-c", code)
    assert (done.stdout, done.stderr) == ("interrupted\n[]\n", "")


# ---- iterators


@pytest.mark.parametrize("chunksize", [1, 3])
def test_async_for(context, chunksize, run):
    async def main():
        async with context.Pool(2) as pool:
            items = [item async for item in pool.imap(targets.square, range(100), chunksize)]
            assert items == [n * n for n in range(100)]
            items = [item async for item in pool.imap_unordered(targets.square, iter(range(100)), chunksize)]
            assert sorted(items) == [n * n for n in range(100)]
            assert [item async for item in pool.imap(targets.square, [], chunksize)] == []
            assert [item async for item in pool.imap_unordered(targets.square, iter(()), chunksize)] == []

    run(main())


def test_anext_goes_on_after_an_exception(run):
    async def main():
        async with goproc.Pool(1) as pool:
            items = pool.imap(int, ["1", "x", "3"])
            assert await anext(items) == 1
            with pytest.raises(ValueError, match="'x'"):
                await anext(items)
            assert await anext(items) == 3
            with pytest.raises(StopAsyncIteration):
                await anext(items)
            assert list(items) == []

    run(main())


def test_input_that_raises(run):
    def numbers():
        yield 1
        raise LookupError("input")

    async def main():
        async with goproc.Pool(1) as pool:
            taken = []
            with pytest.raises(LookupError, match="input"):
                async for item in pool.imap(targets.square, numbers()):
                    taken.append(item)
            assert taken == [1]

    run(main())


def test_endless_input(run):
    def numbers():
        n = 0
        while True:
            yield n
            n += 1

    async def main():
        async with goproc.Pool(2) as pool:
            async for item in pool.imap(targets.square, numbers()):
                if item > 10_000:
                    break
            assert await pool.apply_async(targets.square, (2,)) == 4

    run(main())


@pytest.mark.parametrize("how", ["break", "aclose", "aclosing", "cancel", "chunks"])
def test_leaving_ends_the_rest(how, tmp_path, run):
    file, hang = tmp_path / "noted", tmp_path / "hanging"

    async def main():
        async with goproc.Pool(1) as pool:
            chunks = (2,) if how == "chunks" else ()
            call = functools.partial(_first_then_hang, file, hang)
            items = pool.imap(call, range(1000), *chunks)
            if how == "aclose":
                assert await anext(items) == 0
                await begun(hang)
                await items.aclose()
            elif how == "cancel":

                async def consume():
                    async for _ in items:
                        pass

                task = asyncio.create_task(consume())
                await asyncio.sleep(0)  # a task that is cancelled before it begins has awaited nothing
                await begun(hang)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            elif how == "aclosing":
                async with contextlib.aclosing(items):
                    async for _ in items:
                        await begun(hang)
                        break
            else:
                async for _ in items:
                    await begun(hang)
                    break
            assert await asyncio.wait_for(pool.apply_async(targets.square, (3,)), 60) == 9
            assert len(file.read_text().splitlines()) <= 4
            with pytest.raises(goproc.CancelledError):
                for _ in items:
                    pass

    run(main())


def _first_then_hang(file, hang, number):
    targets.note(file, number)
    if number > 1:
        targets.begin_and_hang(hang)
    if number == 1:
        hang.touch()
        with open(hang, "a") as f:
            f.write("next\n")
    return number


def test_several_tasks_take_from_one_iterator(run):
    async def main():
        async with goproc.Pool(2) as pool:
            for chunksize in 1, 7:
                items = pool.imap_unordered(targets.square, range(500), chunksize)
                taken = []

                async def take(items=items, taken=taken):
                    while True:
                        try:
                            taken.append(await anext(items))
                        except StopAsyncIteration:
                            return

                await asyncio.gather(*(take() for _ in range(5)))
                assert sorted(taken) == [n * n for n in range(500)]

    run(main())


def test_results_that_are_there_do_not_starve_other_tasks(run):
    async def main():
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with goproc.Pool(1) as pool:
            items = pool.imap(targets.square, range(1000), prefetch=1000)
            while items._iteration._received < 1000:
                items._iteration._dispatch.poll()
            counting = asyncio.create_task(count())
            assert len([item async for item in items]) == 1000
            counting.cancel()
            assert turns > 5

    run(main())


# ---- pools


def test_join_async(context, run):
    async def main():
        pool = context.Pool(2)
        with pytest.raises(ValueError, match="still running"):
            await pool.join_async()
        result = pool.map_async(targets.square, range(10))
        pool.close()
        before = threading.active_count()
        joins = [asyncio.create_task(pool.join_async()) for _ in range(20)]
        await asyncio.sleep(0)
        assert threading.active_count() <= before + 2
        joins.pop().cancel()
        await asyncio.gather(*joins)
        assert result.get(0) == [n * n for n in range(10)]
        await pool.join_async()
        assert not goproc.active_children()

    run(main())


def test_exit_of_the_block(context, tmp_path, run):
    """The exit ends the workers, also if the task is cancelled meanwhile, and raises what the block has raised."""
    file = tmp_path / "began"

    async def leave():
        async with context.Pool(2) as pool:
            pool.apply_async(targets.begin_and_hang, (file,))
            await begun(file)
            raise LookupError

    async def main():
        with pytest.raises(LookupError):
            await leave()
        assert not goproc.active_children()

        async def block():
            async with context.Pool(1):
                await asyncio.sleep(0)

        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):  # the workers may have ended before that
            await task
        assert not goproc.active_children()

    run(main())


# ---- pools that are not the engine's


def test_queue_driven_pool(run):
    async def main():
        async with pool_targets.PoolWithQueues(1) as pool:
            assert await pool.apply_async(targets.square, (3,)) == 9
            assert await pool.map_async(targets.square, range(10), 3) == [n * n for n in range(10)]
            assert [n async for n in pool.imap(targets.square, range(10))] == [n * n for n in range(10)]
            assert sorted([n async for n in pool.imap_unordered(targets.square, [2, 1])]) == [1, 4]
            assert [n async for n in pool.imap(targets.square, [])] == []
            with pytest.raises(ValueError, match="no"):
                await pool.apply_async(targets.fail, ("no",))
            waiting = asyncio.ensure_future(pool.apply_async(time.sleep, (600,)))
            item = asyncio.ensure_future(anext(pool.imap(time.sleep, [600])))
            await asyncio.sleep(0.01)
            last = pool.apply_async(time.sleep, (600,))
        for task in waiting, item, last:
            with pytest.raises(goproc.CancelledError, match="terminated"):
                await task

    run(main())


def test_pool_of_threads(gate, run):
    async def main():
        async with goproc.pool.ThreadPool(2) as pool:
            assert await pool.apply_async(targets.square, (3,)) == 9
            assert [n async for n in pool.imap(targets.square, range(10))] == [n * n for n in range(10)]
            result = pool.apply_async(targets.return_when, (gate, 5))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(result), 0.02)
            gate.touch()
            assert await result == 5

    run(main())


# ---- processes


def test_join_of_a_process(context, run):
    async def main():
        processes = [context.Process(target=targets.exit_with, args=(status,)) for status in (0, 3)]
        for process in processes:
            process.start()
        assert await asyncio.gather(*(process.join_async() for process in processes)) == [None, None]
        assert [process.exitcode for process in processes] == [0, 3]
        assert not goproc.active_children()
        await processes[0].join_async()
        for process in processes:
            process.close()
        with pytest.raises(ValueError, match="closed"):
            await processes[0].join_async()

    run(main())


def test_timeout_and_cancelled_join(context, run):
    async def main():
        process = context.Process(target=time.sleep, args=(600,))
        with pytest.raises(AssertionError, match="started"):
            await process.join_async()
        process.start()
        for timeout in 0, -1, 0.02:
            assert await process.join_async(timeout) is None
            assert process.exitcode is None
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.join_async(), 0.02)
        joins = [asyncio.ensure_future(process.join_async()) for _ in range(10)]
        await asyncio.sleep(0.01)
        joins.pop().cancel()
        assert process.is_alive()
        before = threading.active_count()
        process.kill()
        await asyncio.gather(*joins, process.join_async(60))
        assert process.exitcode == -signal.SIGKILL
        assert threading.active_count() == before
        process.close()

    run(main())


def test_the_programs_own_reader_stays(context, run):
    async def main():
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        process = context.Process(target=time.sleep, args=(600,))
        process.start()
        loop.add_reader(process.sentinel, event.set)
        await process.join_async(0.01)
        process.kill()
        await process.join_async()
        await event.wait()
        loop.remove_reader(process.sentinel)
        process.close()

    run(main())


def test_closed_while_awaited(context, run):
    async def main():
        process = context.Process(target=time.sleep, args=(600,))
        process.start()
        task = asyncio.ensure_future(process.join_async())
        await asyncio.sleep(0)
        process.kill()
        process.join()
        process.close()
        await task

    run(main())


def test_joins_in_several_loops(context):
    process = context.Process(target=time.sleep, args=(600,))
    process.start()
    threads = [threading.Thread(target=lambda: asyncio.run(process.join_async())) for _ in range(5)]
    for thread in threads:
        thread.start()
    process.kill()
    for thread in threads:
        thread.join()
    assert process.exitcode == -signal.SIGKILL
    process.close()


def test_a_child_runs_a_loop_of_its_own(context, run):
    """Also a child that was forked while its parent's loop runs."""

    async def main():
        mine, theirs = context.Pipe()
        process = context.Process(target=targets.run_a_loop, args=(theirs,))
        process.start()
        theirs.close()
        await process.join_async()
        assert mine.recv() == 42
        mine.close()
        process.close()

    run(main())


def test_a_worker_runs_a_loop_of_its_own(context, run):
    async def main():
        async with context.Pool(1) as pool:
            assert await pool.apply_async(_loop_in_worker, (4,)) == 8

    run(main())


def _loop_in_worker(number):
    return asyncio.run(targets._twice(number))


# ---- executors


def test_run_in_executor(executor, tmp_path, run):
    file = tmp_path / "began"

    async def main():
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, targets.square, n) for n in range(20)]
        assert await asyncio.gather(*calls) == [n * n for n in range(20)]
        with pytest.raises(ValueError, match="no"):
            await loop.run_in_executor(executor, targets.fail, "no")
        assert await asyncio.wrap_future(executor.submit(targets.square, 5)) == 25
        hanging = loop.run_in_executor(executor, targets.begin_and_hang, file)
        await begun(file)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(hanging, 0.01)
        assert await loop.run_in_executor(executor, os.getpid) != os.getpid()

    run(main())


# ---- streams


def test_async_for_over_a_stream(context, run):
    async def main():
        async with context.Pool(2) as pool:
            pairs = [pair async for pair in pool.stream(targets.count_to, [3, 0, 2])]
            assert sorted(pairs) == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1)]
            stream = pool.stream(targets.count_to_and_fail, [2])
            assert [await anext(stream), await anext(stream)] == [(0, 0), (0, 1)]
            with pytest.raises(ValueError, match="no more"):
                await anext(stream)
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    run(main())


def test_leaving_an_async_for_ends_the_stream(run):
    async def main():
        async with goproc.Pool(1) as pool:
            async for pair in pool.stream(targets.count_for_ever, [1, 2]):
                if pair == (0, 1000):
                    break
            assert await pool.apply_async(targets.square, (3,)) == 9

    run(main())
