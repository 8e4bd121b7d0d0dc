"""An annotated program that uses what programs use most of multiprocessing. test_types.py checks it, and runs it."""

import goproc as multiprocessing
from goproc import CancelledError, TaskTimeoutError, WorkerLostError
from goproc.connection import Connection
from goproc.managers import BaseManager, ListProxy
from goproc.pool import AsyncResult, MapResult, Pool
from goproc.queues import Queue
from goproc.shared_memory import SharedMemory
from goproc.synchronize import Event


def square(number: int) -> int:
    return number * number


def name(number: int, word: str) -> str:
    return f"{word} {number}"


def serve(requests: "Queue[int]", replies: "multiprocessing.Queue[int]", stop: Event) -> None:
    while not stop.is_set():
        replies.put(square(requests.get()))


def send(connection: Connection, number: int) -> None:
    connection.send(number)
    connection.close()


class Manager(BaseManager):
    pass


def pool_of(processes: int) -> Pool:
    context = multiprocessing.get_context("spawn")
    return context.Pool(processes, initializer=square, initargs=(1,), retries=1, max_memory_per_child=1 << 30)


def main() -> None:
    with pool_of(2) as pool:
        squares: list[int] = pool.map(square, range(5), task_timeout=60.0)
        names: list[str] = pool.starmap(name, [(1, "one"), (2, "two")])
        result: AsyncResult[int] = pool.apply_async(square, (3,), timeout=60, callback=print)
        several: MapResult[int] = pool.map_async(square, [1, 2], chunksize=1)
        lazily: list[str] = [str(number) for number in pool.imap(square, iter(squares), prefetch=4)]
        try:
            print(result.get(timeout=60) + sum(several.get()), sum(squares), names, lazily)
        except (CancelledError, TaskTimeoutError, WorkerLostError) as error:
            print(error)
        mixed: list[int | BaseException] = pool.map(square, [1], return_exceptions=True)
        print(mixed)
        print(result.cancel(), result.successful())

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=send, args=(sender, 7), name="sender", daemon=True)
    process.start()
    number: int = receiver.recv()
    process.join(timeout=60)
    code: int | None = process.exitcode
    print(number, code, process.name)

    counter = multiprocessing.Value("i", 0)
    with counter.get_lock(), multiprocessing.Lock():
        counter.value += 1
    with multiprocessing.Manager() as manager:
        numbers: ListProxy[int] = manager.list([1, 2])
        numbers.append(counter.value)
        print(list(numbers))
    memory = SharedMemory(create=True, size=16)
    memory.close()
    memory.unlink()


if __name__ == "__main__":
    main()
