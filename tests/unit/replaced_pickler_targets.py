"""A pickler for test_replaced_picklers.py, which can send lambdas, and what the programs of that test do with it."""

import concurrent.futures
import contextlib
import io
import marshal
import multiprocessing.reduction
import pickle
import threading
import types

MINE = b"mine:"

#: What the pickler has done in this process: the names of its methods, in any number.
used = set()


def rebuilt(code, values):
    cells = tuple(map(types.CellType, values))
    return types.FunctionType(marshal.loads(code), globals(), "<lambda>", None, cells)


class Mine(pickle._Pickler):
    """A pickler that is no ForkingPickler, as dill's: another signature, none of the registered reducers."""

    def __init__(self, file, protocol=None):
        super().__init__(file, protocol)

    def reducer_override(self, obj):
        if type(obj) is types.FunctionType and obj.__name__ == "<lambda>":
            return rebuilt, (marshal.dumps(obj.__code__), [cell.cell_contents for cell in obj.__closure__ or ()])
        return NotImplemented

    @classmethod
    def dumps(cls, obj, protocol=None):
        used.add("dumps")
        buffer = io.BytesIO()
        cls(buffer, protocol).dump(obj)
        return buffer.getbuffer()

    @staticmethod
    def loads(data):
        used.add("loads")
        return pickle.loads(data)


class Derived(multiprocessing.reduction.ForkingPickler):
    """The same as a ForkingPickler, which has the registered reducers."""

    reducer_override = Mine.reducer_override
    dumps = vars(Mine)["dumps"]
    loads = vars(Mine)["loads"]


class Secret(Mine):
    """A pickler whose bytes pickle.loads cannot read. For messages only: it writes no process objects."""

    @classmethod
    def dumps(cls, obj, protocol=None):
        return MINE + super().dumps(obj, protocol)

    @staticmethod
    def loads(data):
        assert bytes(data[:5]) == MINE, "it was not written by this pickler"
        return Mine.loads(data[5:])


def dump(obj, file, protocol=None):
    Mine(file, protocol).dump(obj)


@contextlib.contextmanager
def replaced(*places):
    """Put picklers into places, tuples (object, name, pickler), for a while."""
    before = [(place, name, vars(place).get(name) or getattr(place, name)) for place, name, _ in places]
    try:
        for place, name, pickler in places:
            setattr(place, name, pickler)
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)


def call(func, *args):
    return func(*args)


def raise_with(func):
    raise ValueError(func)


def make_lambda(number):
    return lambda: number


def make_bytes(size):
    return b"b" * size


def echo(gets, puts):
    """Put each function back that this process gets, with its value, and at last what its pickler has done."""
    used.clear()
    for func in iter(gets.get, None):
        puts.put((func(), func))
    puts.put((sorted(used), None))


def answer(connection):
    connection.send((connection.recv()(), lambda: "from the child"))


def hold(lock, event, started):
    with lock:
        started.put(lock.acquire(False))
    event.set()


def sent(send, *args):
    """Call a function that may be unable to pickle; return the type of its error, or None."""
    try:
        send(*args)
    except Exception as error:
        return type(error).__name__
    return None


def fill(queue, number):
    queue.put(lambda: number)
    queue.put(1)
    queue.put(bytes(100_000))


def through_queues(context):
    for make in context.Queue, context.JoinableQueue, context.SimpleQueue:
        queue = make()
        thread = threading.Thread(target=fill, args=(queue, 3))
        thread.start()
        func, one, large = [queue.get() for _ in range(3)]
        thread.join()
        print(make.__name__, func(), one, len(large))


def through_processes(context):
    gets, puts = context.Queue(), context.SimpleQueue()
    process = context.Process(target=echo, args=(gets, puts))
    process.start()
    for item in (lambda: 4), None:
        gets.put(item)
    value, func = puts.get()
    print(value, func(), *puts.get())
    process.join()


def through_arguments(context):
    lock, event, started = context.RLock(), context.Event(), context.SimpleQueue()
    process = context.Process(target=hold, args=(lock, event, started))
    process.start()
    print(started.get(), event.wait())
    process.join()
    print(process.exitcode)
    process = context.Process(target=lambda code: exit(code), args=(7,))
    process.start()
    process.join()
    print(process.exitcode)


def through_pools(context):
    number = 2
    with context.Pool(1) as pool:
        print(pool.apply(lambda: number + 1), pool.apply_async(make_lambda, (5,)).get()())
        print(pool.map(lambda item: item * number, range(4)), pool.map(abs, range(-3, 3)))
        print(pool.starmap(call, [(lambda item: item + number, item) for item in range(3)], chunksize=1))
        print(list(pool.imap(lambda item: -item, range(4), chunksize=3)), sorted(pool.imap_unordered(abs, [-1, 2])))
        print(len(pool.apply(make_bytes, (100_000,))), pool.map(len, [bytes(70_000), bytearray(80_000)]))
        try:
            pool.apply(raise_with, (lambda: 6,))
        except ValueError as error:
            print(error.args[0]())
        print(pool.apply(used_here))
    pool.join()


def through_executors(context):
    number = 2
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        print(executor.submit(lambda: number + 1).result(), executor.submit(make_lambda, 5).result()())
        print(list(executor.map(lambda item: item * number, range(4), chunksize=2)))
        print(len(executor.submit(make_bytes, 100_000).result()))
        try:
            executor.submit(raise_with, lambda: 6).result()
        except ValueError as error:
            print(error.args[0]())


def used_here():
    return sorted(used)


def through_managers(context):
    with context.Manager() as manager:
        functions, queue = manager.list(), manager.Queue()
        functions.append(lambda: 8)
        queue.put(lambda: 9)
        print(functions[0](), queue.get()())


def through_pipes(context):
    here, there = context.Pipe()
    process = context.Process(target=answer, args=(there,))
    process.start()
    here.send(lambda: "from the parent")
    value, func = here.recv()
    print(value, func())
    process.join()
