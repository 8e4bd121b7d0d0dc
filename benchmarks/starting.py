"""What starting a process costs, and what it cannot cost less than: python -m benchmarks parts --only start

Each part is measured in a program of its own (python -m benchmarks.starting NUMBER), for what a fork costs depends on
what the process has in its memory. As the children of spawn import this module again, it imports little at its top.
"""

import os
import sys


def fork():
    """Fork, end the child, wait for it: no more than that."""
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
    from goproc import engine

    engine.load()
    return fork_with_goproc()


def interpreter(code):
    """Have an interpreter run the code, and wait for its end."""

    def run():
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ)
        os.waitpid(pid, 0)

    return lambda: run


def process(library, method):
    """Start and join a process of the library."""

    def prepare():
        import importlib

        from .functions import nothing

        make = importlib.import_module(library).get_context(method).Process

        def run():
            started = make(target=nothing)
            started.start()
            started.join()

        return run

    return prepare


#: What a child of either library cannot do without; goproc's imports nothing else of the standard library.
NEEDED = "import threading, signal, weakref, _pickle"

#: How a child knows that it is one: what it may put off importing then, it does.
IN_A_CHILD = "import sys; sys.argv = ['-c', '--multiprocessing-fork']; import goproc.spawn"

PARTS = {
    "`os.fork`, `os._exit`, `os.waitpid`, multiprocessing imported": fork_with_multiprocessing,
    "the same, goproc imported, no engine": fork_with_goproc,
    "the same, with an engine loaded": fork_with_engine,
    "fork: start and join, multiprocessing": process("multiprocessing", "fork"),
    "fork: start and join, goproc": process("goproc", "fork"),
    "forkserver: start and join, multiprocessing": process("multiprocessing", "forkserver"),
    "forkserver: start and join, goproc": process("goproc", "forkserver"),
    "an interpreter that does nothing": interpreter("pass"),
    f"an interpreter that runs `{NEEDED}`": interpreter(NEEDED),
    "an interpreter that imports `goproc.spawn`, as in a child": interpreter(IN_A_CHILD),
    "spawn: start and join, multiprocessing": process("multiprocessing", "spawn"),
    "spawn: start and join, goproc": process("goproc", "spawn"),
}

TIMES = 20


def starting(repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of each part: the median of many, so many times."""
    import subprocess

    measured: dict[str, list[float]] = {part: [] for part in PARTS}
    for _ in range(repetitions):
        for number, part in enumerate(PARTS):
            command = [sys.executable, "-m", "benchmarks.starting", str(number)]
            done = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            measured[part].append(float(done.stdout))
    return measured


def main():
    import time

    run = list(PARTS.values())[int(sys.argv[1])]()
    for _ in range(3):
        run()
    seconds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    print(sorted(seconds)[TIMES // 2])  # not by module statistics: what is imported makes forks slower


if __name__ == "__main__":
    main()
