"""A program whose own pickler pickles the items of its queues: test_queues.py."""

import multiprocessing.reduction

import goproc


class Pickler(multiprocessing.reduction.ForkingPickler):
    pickled = unpickled = 0

    @classmethod
    def dumps(cls, obj, protocol=None):
        cls.pickled += 1
        return super().dumps(obj, protocol)

    @staticmethod
    def loads(data):
        Pickler.unpickled += 1
        return multiprocessing.reduction.ForkingPickler.loads(data)


class Reducer(multiprocessing.reduction.AbstractReducer):
    ForkingPickler = Pickler


if __name__ == "__main__":
    context = goproc.get_context("fork")
    context.reducer = Reducer()
    for make in context.Queue, context.SimpleQueue, context.JoinableQueue:
        queue = make()
        queue.put(1)
        assert queue.get() == 1
    print(f"{Pickler.pickled} pickled, {Pickler.unpickled} unpickled")
