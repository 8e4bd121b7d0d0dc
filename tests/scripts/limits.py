"""A program, or a worker of its pool, under limits of the system: limits.py CASE METHOD. Prints "fine" at the end."""

import ctypes
import errno
import functools
import os
import resource
import struct
import sys
import time
import warnings

MEGABYTE = 1 << 20


def limit(name, megabytes):
    resource.setrlimit(getattr(resource, name), (megabytes * MEGABYTE,) * 2)


def allocate(megabytes):
    return len(bytearray(megabytes * MEGABYTE)) // MEGABYTE


def address_space():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize() // MEGABYTE


def square(x):
    return x * x


def allocate_all():
    """Allocate until there is no more, in pieces that get smaller."""
    taken = []
    for size in 16 * MEGABYTE, MEGABYTE, 64 << 10:
        try:
            while True:
                taken.append(bytearray(size))
        except MemoryError:
            pass
    return taken


def few_addresses(context):
    """There is less address space than Go reserves by itself."""
    limit("RLIMIT_AS", 400)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with context.Pool(2) as pool:
            assert pool.map(square, range(100)) == [x * x for x in range(100)]
            assert len(pool.apply(bytes, (5 * MEGABYTE,))) == 5 * MEGABYTE


def hardly_any_addresses(context):
    """Python has room, an engine has not: pools, queues and locks are there as with multiprocessing."""
    limit("RLIMIT_AS", address_space() + 85)
    warnings.simplefilter("ignore", RuntimeWarning)
    for _ in range(2):
        with context.Pool(2) as pool:
            assert pool.map(square, range(100)) == [x * x for x in range(100)]
        pool.join()
        queues = [context.Queue(), context.JoinableQueue(), context.SimpleQueue()]
        for queue in queues:
            with context.Lock():
                process = context.Process(target=queue.put, args=(3,))
                process.start()
            assert queue.get() == 3
            process.join()
            assert process.exitcode == 0


def many_queues(context):
    """Queues for which there are no addresses left are pipes."""
    limit("RLIMIT_AS", address_space() + 120)
    queues = [context.SimpleQueue() for _ in range(40)]
    for queue in queues:
        queue.put(5)
        assert queue.get() == 5


def few_addresses_in_workers(context):
    with context.Pool(2, limit, ("RLIMIT_AS", 300)) as pool:
        assert pool.map(allocate, [100] * 4) == [100] * 4
        pool.map(bytes, [MEGABYTE] * 8)


def limit_more(megabytes):
    limit("RLIMIT_AS", address_space() + megabytes)


def large_results_in_few_addresses(context):
    """A worker's limit has room for a result and its pickle. It does not count how many results the program keeps."""
    with context.Pool(1, limit_more, (200,)) as pool:
        kept = pool.map(bytes, [20 * MEGABYTE] * 12, chunksize=1)
        assert len(pool.apply(bytes, (80 * MEGABYTE,))) == 80 * MEGABYTE
        assert pool.apply(allocate, (150,)) == 150
        assert {len(result) for result in kept} == {20 * MEGABYTE}


def large_arguments_in_few_addresses(context):
    """A task has the room that the arguments of the tasks before it took."""
    with context.Pool(1, limit_more, (200,)) as pool:
        for size in 10, 40, 80:
            assert pool.apply(len, (bytes(size * MEGABYTE),)) == size * MEGABYTE
            assert pool.apply(allocate, (150,)) == 150


def a_result_for_which_there_are_no_addresses(context):
    """The task fails, and its worker goes on."""
    with context.Pool(1, limit_more, (200,)) as pool:
        workers = pool.map(identify, [0])
        try:
            pool.apply(bytes, (150 * MEGABYTE,))
        except MemoryError:
            assert pool.map(identify, [0]) == workers
        else:
            raise AssertionError("there was room")


def identify(_):
    return os.getpid()


def few_addresses_in_replaced_workers(context):
    with context.Pool(4, limit, ("RLIMIT_AS", 300), maxtasksperchild=1) as pool:
        assert pool.map(allocate, [100] * 20, chunksize=1) == [100] * 20


def no_addresses_left(context):
    """All that the limit allows is taken, while the pool is in use."""
    with context.Pool(2) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        for name, room in (("RLIMIT_DATA", 100), ("RLIMIT_AS", 200)):
            before = resource.getrlimit(getattr(resource, name))
            limit_to = address_space() + room if name == "RLIMIT_AS" else room + 100
            resource.setrlimit(getattr(resource, name), (limit_to * MEGABYTE, before[1]))
            taken = allocate_all()
            done = failed = 0
            try:
                for result in [pool.apply_async(square, (i,)) for i in range(20_000)]:
                    done += 1
                    result.get()
            except MemoryError:
                failed += 1
            taken.clear()
            assert done + failed > 0
            assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
            resource.setrlimit(getattr(resource, name), before)


def keep(event):
    global release
    release = event


def fill_when_released(number):
    release.wait()
    return bytes([number % 256]) * 3000


#: Ever smaller sizes, made in advance: at the end there is no memory for a number.
SIZES = [16 * MEGABYTE >> shift for shift in range(0, 20, 2)]


def take_to_the_last():
    """Take memory in ever smaller pieces, which form a chain: that needs none besides them."""
    taken = None
    for size in SIZES:
        try:
            while True:
                taken = bytearray(size), taken
        except MemoryError:
            pass
    return taken


def no_memory_for_results(context, callback=None):
    """Results come while there is no memory for them. They arrive when there is some again."""
    event = context.Event()
    with context.Pool(2, keep, (event,)) as pool:
        results = [pool.apply_async(fill_when_released, (n,), callback=callback) for n in range(200)]
        limit("RLIMIT_AS", address_space() + 100)
        taken = take_to_the_last()
        event.set()
        refused = 0
        for result in results:
            try:
                result.wait(0.01)
            except MemoryError:
                refused += 1
        while taken is not None:
            taken = taken[1]
        assert [result.get(30) for result in results] == [bytes([n % 256]) * 3000 for n in range(200)]
        assert refused or callback
        assert pool.apply_async(square, (3,)).get(30) == 9


def no_memory_for_the_results_of_callbacks(context):
    called = []
    no_memory_for_results(context, called.append)
    assert len(called) == 200


def no_memory_to_submit(context):
    """Tasks are submitted until there is no memory even for a number."""
    with context.Pool(2) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        limit("RLIMIT_AS", address_space() + 200)
        taken = []
        try:
            while True:
                taken.append(bytearray(10 * MEGABYTE))
        except MemoryError:
            pass
        try:
            [pool.apply_async(square, (i,)) for i in range(200_000)]
        except MemoryError:
            pass
        else:
            raise AssertionError("there was memory for all tasks")
        taken.clear()
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]


def wait_for(path):
    with open(path) as fifo:  # it is opened when the other side opens it
        fifo.read()


def queue_without_end(context):
    """Tasks are queued until there is no memory for more."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        fifo = os.path.join(folder, "fifo")
        os.mkfifo(fifo)
        with context.Pool(1) as pool:
            first = pool.apply_async(wait_for, (fifo,))
            limit("RLIMIT_AS", address_space() + 150)
            results = []
            try:
                for _ in range(100_000):
                    results.append(pool.apply_async(len, (bytes(15_000),)))
            except MemoryError as error:
                assert len(results) > 100, (len(results), error)
            else:
                raise AssertionError("more than a gigabyte is queued")
            with open(fifo, "w"):
                pass
            first.get()
            assert {result.get() for result in results} == {15_000}
            assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]


def child_without_engine(context):
    """What a forked child has of the engine."""
    import goproc

    context = goproc.get_context("fork")
    read, write = context.Pipe(duplex=False)

    def report():
        write.send(address_space())

    def measure():
        process = context.Process(target=report)
        process.start()
        process.join()
        return read.recv()

    before = measure()
    with context.Pool(1) as pool:
        pool.apply(square, (2,))
        after = measure()
    assert after - before < 24, (before, after)


def signals_in_children(context):
    """A forked child's signals do what the program has set before the engine was loaded."""
    import signal

    import goproc

    def write_to_nobody():
        read, write = os.pipe()
        os.close(read)
        os.write(write, b"x")

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    context = goproc.get_context("fork")
    with context.Pool(1) as pool:
        pool.apply(square, (2,))
        for target, arguments, number in (
            (write_to_nobody, (), signal.SIGPIPE),
            (ctypes.string_at, (0,), signal.SIGSEGV),
            (signal.raise_signal, (signal.SIGFPE,), signal.SIGFPE),
        ):
            process = context.Process(target=target, args=arguments)
            process.start()
            process.join()
            assert process.exitcode == -number, (number, process.exitcode)


def drop_privileges(tasks):
    """Become a user with root's access to files, who may have `tasks` processes and threads, and has none yet."""
    uid = 1_000_000_000 + os.getpid()
    os.setresuid(uid, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    reading = 1 << 2  # CAP_DAC_READ_SEARCH
    sets = (ctypes.c_uint32 * 6)(reading, reading, reading)
    assert libc.prctl(28, 1, 0, 0, 0) == 0  # PR_SET_SECUREBITS, SECBIT_NOROOT: programs do not get them back
    assert libc.capset(header, sets) == 0
    assert libc.prctl(47, 2, 2, 0, 0) == 0  # PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH
    resource.setrlimit(resource.RLIMIT_NPROC, (tasks, tasks))


def add(x, y):
    return x + y


def few_threads(context):
    """There are not enough threads for the engine, but for multiprocessing's pool of one worker."""
    drop_privileges(7)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            with context.Pool(1) as pool:
                assert pool.map(square, range(10)) == [x * x for x in range(10)]
                assert pool.starmap(add, [(1, 2)]) == [3]
                assert list(pool.imap(square, range(3))) == [0, 1, 4]
                assert len(pool.apply(bytes, (MEGABYTE,))) == MEGABYTE
                try:
                    pool.apply(int, ("no number",))
                except ValueError:
                    pass
            pool.join()
    ours = [warning for warning in caught if warning.category is RuntimeWarning]
    assert len(ours) == 1, [str(warning.message) for warning in caught]
    assert "pthread_create" in str(ours[0].message)
    process = context.Process(target=sys.exit, args=(3,))
    process.start()
    process.join()
    assert process.exitcode == 3
    try:
        context.Pool(1, retries=1)
    except BlockingIOError:
        pass
    else:
        raise AssertionError("a pool that cannot do what it is asked for")


def no_threads(context):
    """No further thread or process can be started."""
    drop_privileges(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for attempt in (context.Pool, context.Process(target=square, args=(1,)).start):
            try:
                attempt()
            except (OSError, RuntimeError):
                pass
            else:
                raise AssertionError("started")


def threads_used_up(context):
    """The limit is reached when the engine runs already."""
    drop_privileges(40)
    sleepers = []
    with context.Pool(2) as pool:
        pool.map(square, range(10))
        try:
            while True:
                process = context.Process(target=time.sleep, args=(1000,), daemon=True)
                process.start()
                sleepers.append(process)
        except OSError:
            pass
        assert sleepers
        for _ in range(20):
            assert sum(pool.map(square, range(500), 1)) == sum(x * x for x in range(500))
        results = [pool.apply_async(bytes, (MEGABYTE,)) for _ in range(20)]
        assert [len(result.get()) for result in results] == [MEGABYTE] * 20
        try:
            context.Pool(4)
        except (OSError, RuntimeError):
            pass
        else:
            raise AssertionError("started")
        for process in sleepers:
            process.terminate()
        for process in sleepers:
            process.join()
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    with context.Pool(2) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]


def refuse_threads():
    """Have the kernel refuse further threads of this process and its children, and clone3(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    clone, clone3, seccomp = (56, 435, 317) if os.uname().machine == "x86_64" else (220, 435, 277)
    program = struct.pack(
        "=" + 8 * "HBBI",
        *(0x20, 0, 0, 0),  # load the number of the call
        *(0x15, 4, 0, clone3),
        *(0x15, 0, 2, clone),
        *(0x20, 0, 0, 16),  # load its flags
        *(0x45, 2, 0, 0x10000),  # CLONE_THREAD
        *(0x06, 0, 0, 0x7FFF0000),  # allow
        *(0x06, 0, 0, 0x00050000 | errno.ENOSYS),
        *(0x06, 0, 0, 0x00050000 | errno.EAGAIN),
    )
    buffer = ctypes.create_string_buffer(program)
    fprog = struct.pack("HxxxxxxP", 8, ctypes.addressof(buffer))
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.syscall(seccomp, 1, 0, ctypes.create_string_buffer(fprog)) == 0, ctypes.get_errno()


def threads_refused(context):
    refuse_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            context.Pool(1)
        except (OSError, RuntimeError):
            pass
        else:
            raise AssertionError("a pool without threads")
    process = context.Process(target=sys.exit, args=(3,))
    process.start()
    process.join()
    assert process.exitcode == 3


def limit_file_size(megabytes, also_hard=True, deadly=False):
    import signal

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    size = megabytes * MEGABYTE
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size if also_hard else hard))
    if deadly:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def exchange(context, pool):
    """Send more than fits into a ring, and more than fits into the files of the smallest limit here."""
    for size in (100, 100_000, 5 * MEGABYTE):
        assert len(pool.apply(bytes, (size,))) == size
        assert pool.apply(len, (bytes(size),)) == size
    assert pool.map(square, range(100)) == [x * x for x in range(100)]
    process = context.Process(target=len, args=(bytes(3 * MEGABYTE),))
    process.start()
    process.join()
    assert process.exitcode == 0


def file_size(context):
    """Files may have a hundred gigabytes, or one megabyte, and this process may not change that."""
    drop_privileges(1000)
    for megabytes in (100_000, 1):
        limit_file_size(megabytes)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                with context.Pool(2) as pool:
                    exchange(context, pool)
        ours = [str(warning.message) for warning in caught if warning.category is RuntimeWarning]
        assert len(ours) == (megabytes > 1), ours
        assert all("RLIMIT_FSIZE" in text for text in ours), ours
    try:
        context.Pool(1, retries=1)
    except OSError as error:
        assert error.errno == errno.EFBIG
    else:
        raise AssertionError("a pool that cannot do what it is asked for")


def soft_file_size(context):
    """This process may lift the limit."""
    drop_privileges(1000)
    limit_file_size(1, also_hard=False, deadly=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with context.Pool(2, retries=1) as pool:
            exchange(context, pool)
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == (MEGABYTE, resource.RLIM_INFINITY)


def file_size_later(context):
    """The limit comes when the pool is there already: in workers, or here."""
    drop_privileges(1000)
    with context.Pool(2, limit_file_size, (1, True, True)) as pool:
        exchange(context, pool)
    with context.Pool(2) as pool:
        pool.map(square, range(10))
        limit_file_size(1, deadly=True)
        exchange(context, pool)


def count_up(queue, lock, value):
    with lock:
        value.value += 1
    queue.put(value.value)


def few_descriptors_later(context):
    """The numbers of some descriptors are above the limit that the program sets then."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    early = context.Queue(), context.Lock(), context.Value("i", 0)
    with context.Pool(2) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        for soft in 200, 100:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for arguments in early, (context.Queue(), context.Lock(), context.Value("i", 0)):
                before = arguments[2].value
                process = context.Process(target=count_up, args=arguments)
                process.start()
                process.join()
                assert process.exitcode == 0
                assert arguments[0].get() == before + 1
            assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
            with context.Pool(2, maxtasksperchild=1) as another:
                assert another.map(square, range(5), chunksize=1) == [0, 1, 4, 9, 16]
            another.join()
    pool.join()


def few_descriptors(context, limit):
    """Pools, executors, processes and managers work, with an engine or without."""
    from concurrent.futures import ProcessPoolExecutor

    warnings.simplefilter("ignore", RuntimeWarning)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with context.Pool(2) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    pool.join()
    del pool
    with ProcessPoolExecutor(2, context) as executor:
        assert list(executor.map(square, range(5))) == [0, 1, 4, 9, 16]
    queue = context.Queue()
    process = context.Process(target=queue.put, args=("item",))
    process.start()
    assert queue.get() == "item"
    process.join()
    with context.Manager() as manager:
        assert list(manager.list([1])) == [1]


few_descriptors_28, few_descriptors_34, few_descriptors_40 = [
    functools.partial(few_descriptors, limit=limit) for limit in (28, 34, 40)
]


def main(case, method):
    import goproc

    globals()[case](goproc.get_context(method))
    print("fine")


if __name__ == "__main__":
    main(*sys.argv[1:])
