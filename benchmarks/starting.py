"""Measures the cost of starting a process, and lower bounds of it: python -m benchmarks parts --only start

Each step is measured in a program of its own (PYTHONPATH=. python benchmarks/starting.py time NUMBER), because the cost
of a fork depends on the memory of the process. Spawned children import this module again, so it imports little at its
top.
"""

import os
import sys


def fork():
    """Fork, let the child exit, wait for it."""
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def fork_with_multiprocessing():
    import multiprocessing.popen_fork  # noqa: F401

    return fork


def fork_with_goproc():
    import goproc.popen_fork  # noqa: F401

    return fork


def fork_with_engine():
    from goproc._common import engine

    engine.load()
    return fork_with_goproc()


def fork_and_bootstrap():
    """Run multiprocessing's Process._bootstrap() in a forked child, without its Popen."""
    import multiprocessing.popen_fork  # noqa: F401
    from multiprocessing import get_context

    from benchmarks.functions import nothing

    make = get_context("fork").Process

    def run():
        process = make(target=nothing)
        if (pid := os.fork()) == 0:
            os._exit(process._bootstrap())
        os.waitpid(pid, 0)

    return run


def fork_and_bootstrap_with_engine():
    import goproc.pool  # noqa: F401
    from goproc._common import engine

    engine.load()
    return fork_and_bootstrap()


def interpreter(code):
    """Execute an interpreter that runs the code, and wait for its end."""

    def run():
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ)
        os.waitpid(pid, 0)

    return lambda: run


def process(library, method):
    """Start and join a process of the library."""

    def prepare():
        import importlib

        from benchmarks.functions import nothing

        make = importlib.import_module(library).get_context(method).Process

        def run():
            started = make(target=nothing)
            started.start()
            started.join()

        return run

    return prepare


AS_MODULES: set = set()


def as_module(library, method):
    """Start and join a process of the library, in a program that is run with -m instead of as a script."""
    prepare = process(library, method)
    AS_MODULES.add(prepare)
    return prepare


#: The imports that a child of both libraries needs. goproc's children import no other modules of the standard library.
NEEDED = "import threading, signal, weakref, _pickle"

#: The imports of a spawned child. The argument marks the process as a child, so that goproc defers imports.
IN_A_CHILD = "import sys; sys.argv = ['-c', '--multiprocessing-fork']; import goproc.spawn"


def parts():
    """Return the steps. In a function, so that importing this module only defines functions, as a user's program."""
    return {
        "`os.fork`, `os._exit`, `os.waitpid`, multiprocessing imported": fork_with_multiprocessing,
        "the same, goproc imported, no engine": fork_with_goproc,
        "the same, with an engine loaded": fork_with_engine,
        "`os.fork`, CPython's `Process._bootstrap`, `os._exit`, `os.waitpid`": fork_and_bootstrap,
        "fork: start and join, multiprocessing": process("multiprocessing", "fork"),
        "fork: start and join, goproc": process("goproc", "fork"),
        "forkserver: start and join, multiprocessing": process("multiprocessing", "forkserver"),
        "forkserver: start and join, goproc": process("goproc", "forkserver"),
        "forkserver: the same in a program run with `-m`, multiprocessing": as_module("multiprocessing", "forkserver"),
        "forkserver: the same in a program run with `-m`, goproc": as_module("goproc", "forkserver"),
        "an interpreter that does nothing": interpreter("pass"),
        f"an interpreter that runs `{NEEDED}`": interpreter(NEEDED),
        "an interpreter that imports `goproc.spawn`, as in a child": interpreter(IN_A_CHILD),
        "spawn: start and join, multiprocessing": process("multiprocessing", "spawn"),
        "spawn: start and join, goproc": process("goproc", "spawn"),
    }


TIMES = 20


def workers(library):
    """Run TIMES tasks in a pool in which each worker runs one task."""

    def prepare():
        import importlib

        from benchmarks.functions import nothing

        context = importlib.import_module(library).get_context("fork")

        def run():
            with context.Pool(2, maxtasksperchild=1) as pool:
                pool.map(nothing, range(TIMES), chunksize=1)
                pool.close()
                pool.join()

        return run

    return prepare


def processor_parts():
    """Return the steps, and how many processes one run of a step starts."""
    return {
        "`os.fork`, CPython's `Process._bootstrap`, `os._exit`, `os.waitpid`": (fork_and_bootstrap, 1),
        "the same, with an engine loaded": (fork_and_bootstrap_with_engine, 1),
        "fork: start and join, multiprocessing": (process("multiprocessing", "fork"), 1),
        "fork: start and join, goproc": (process("goproc", "fork"), 1),
        "spawn: start and join, multiprocessing": (process("multiprocessing", "spawn"), 1),
        "spawn: start and join, goproc": (process("goproc", "spawn"), 1),
        "forkserver: start and join, multiprocessing": (process("multiprocessing", "forkserver"), 1),
        "forkserver: start and join, goproc": (process("goproc", "forkserver"), 1),
        "a worker that runs one task, multiprocessing": (workers("multiprocessing"), TIMES),
        "a worker that runs one task, goproc": (workers("goproc"), TIMES),
    }


def starting(repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of each step: one median for each repetition."""
    return _measure(parts(), "time", repetitions)


def processor(repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of processor time of each step, in all processes together: one mean for each repetition."""
    return _measure(processor_parts(), "processor", repetitions)


def _measure(steps, what, repetitions):
    import subprocess

    from benchmarks.alternation import with_benchmarks

    measured: dict[str, list[float]] = {part: [] for part in steps}
    for _ in range(repetitions):
        for number, (part, prepare) in enumerate(steps.items()):
            program = ["-m", "benchmarks.starting"] if prepare in AS_MODULES else [__file__]
            command = [sys.executable, *program, what, str(number)]
            # In a new session, because the Meter counts the processes of a session.
            done = subprocess.run(
                command,
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                env=with_benchmarks(),
                start_new_session=True,
            )
            measured[part].append(float(done.stdout))
    return measured


def measure_time(prepare):
    import time

    run = prepare()
    for _ in range(3):
        run()
    seconds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[TIMES // 2]  # without module statistics, because each import makes forks slower


def measure_processor(prepare, times):
    from benchmarks.processor import Meter

    run = prepare()
    for _ in range(3):
        run()
    meter = Meter()
    for _ in range(TIMES):
        run()
    return meter.seconds() / TIMES / times


def main():
    what, number = sys.argv[1], int(sys.argv[2])
    if what == "time":
        print(measure_time(list(parts().values())[number]))
    else:
        print(measure_processor(*list(processor_parts().values())[number]))


if __name__ == "__main__":
    main()
