"""limits.py CASE METHOD: a program, or a worker of its pool, under limits of the system. Prints "fine" at the end."""

import ctypes
import os
import resource
import sys
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


def few_addresses_in_workers(context):
    with context.Pool(2, limit, ("RLIMIT_AS", 300)) as pool:
        assert pool.map(allocate, [100] * 4) == [100] * 4
        pool.map(bytes, [MEGABYTE] * 8)


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


def main(case, method):
    import goproc

    globals()[case](goproc.get_context(method))
    print("fine")


if __name__ == "__main__":
    main(*sys.argv[1:])
