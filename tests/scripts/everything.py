"""An ordinary multiprocessing program: it prints the same with goproc instead of multiprocessing."""

import multiprocessing
import sys
from multiprocessing import Process, Queue


def work(queue, number):
    queue.put((multiprocessing.current_process().name, number * number))


def nested(queue):
    process = Process(target=work, args=(queue, 7), name="nested")
    process.start()
    process.join()


class Counter(Process):
    def __init__(self, queue):
        super().__init__(name="counter", daemon=True)
        self.queue = queue

    def run(self):
        self.queue.put((self.name, self.daemon))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    queue = Queue()
    processes = [
        Process(target=work, args=(queue, 3), name="worker"),
        Process(target=nested, args=(queue,)),
        Counter(queue),
    ]
    for process in processes:
        process.start()
        print(queue.get())
        process.join()
        print(process.exitcode)
    print(multiprocessing.get_start_method(), multiprocessing.active_children())
