"""The two tables of faults, with each library: of pools, and of locks and queues.

    run.py [--library NAME ...] [--fault NAME ...] [--write PAGE --data FILE]

In the first, a task fails; a cell says how it ends, and whether its pool goes on. In the second, a process is killed
while it uses a lock or a queue; a cell says what the next one who uses it meets. Each cell comes from a program of its
own (subject.py, sharing.py), with a time limit. --write replaces the tables between the markers in the page, --data
keeps the cells of the first as JSON, from which benchmarks/plots.py draws a picture. Both are for all faults in all
libraries.

The exit status is 1 if a cell of goproc differs from what docs/reliability.md promises, else 0.
"""

import argparse
import importlib.util
import json
import os
import selectors
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from libraries import MODULES, SHARING

LIMIT = 13  # seconds after which what has not come hangs
AT_ONCE = 4
MARKERS = "<!-- faults: written by `make faults` -->", "<!-- end of faults -->"
SHARED_MARKERS = "<!-- faults of locks and queues: written by `make faults` -->", "<!-- end of faults of locks -->"
MARK = "GOPROC_FAULTS"  # the environment variable that all processes of a cell have

FAULTS = {
    "kill": "the worker is killed (SIGKILL) while it runs the task",
    "leave": "the task calls `os._exit`",
    "crash": "the task ends by a segmentation fault",
    "base exception": "the task raises a `BaseException` of its own",
    "sys.exit": "the task calls `sys.exit(1)`",
    "exception not rebuilt": "the task raises an exception that cannot be unpickled",
    "result not rebuilt": "the task returns what cannot be unpickled",
    "lambda": "the task returns a lambda",
    "initializer": "the initializer raises",
    "killed idle": "`kill -9` of the main program, workers idle",
    "killed busy": "`kill -9` of the main program, workers in a loop in C",
}

#: A process is killed; what the next one then meets.
SHARED_FAULTS = {
    "lock": "while it holds a `Lock`: `acquire()`",
    "permit": "while it has a `BoundedSemaphore`'s only permit: `acquire()`",
    "condition": "while it waits for a `Condition`: `notify_all()`",
    "event": "while it waits for an `Event`: `set()`",
    "put": "in `put()` of a `Queue(4)`: 20 times, each with new processes that put and get",
    "get": "in `get()` of a `Queue`: the same",
    "task": "before it calls `task_done()`: `JoinableQueue.join()`",
}

#: What goproc promises of these.
PROMISED = {
    "lock": "`AbandonedLockError` ",
    "permit": "`AbandonedLockError` ",
    "condition": "goes on ",
    "event": "goes on ",
    "put": "goes on ",
    "get": "goes on ",
    "task": "`ConsumerLostError` ",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    faults = [*FAULTS, *SHARED_FAULTS]
    parser.add_argument("--library", nargs="*", choices=MODULES, default=list(MODULES))
    parser.add_argument("--fault", nargs="*", choices=faults, default=faults)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    libraries = [name for name in options.library if installed(name)]
    if missing := set(options.library) - set(libraries):
        print("not installed:", ", ".join(sorted(missing)), file=sys.stderr)
    if (options.write or options.data) and (libraries != list(MODULES) or options.fault != faults):
        parser.error("--write and --data take all faults in all libraries: a part must not replace the whole table")
    wanted = [
        (fault, library) for fault in options.fault for library in libraries if fault in FAULTS or library in SHARING
    ]
    cells = {}
    with ThreadPoolExecutor(AT_ONCE) as runs:
        running = {each: runs.submit(cell, library=each[1], fault=each[0]) for each in wanted}
        for (fault, library), text in running.items():
            cells[fault, library] = text.result()
            print(f"{fault}, {library}: {text.result()}", flush=True)
    of_pools = table(FAULTS, libraries, cells)
    of_locks = table(SHARED_FAULTS, [library for library in libraries if library in SHARING], cells)
    if options.write is None:
        print(of_pools, of_locks, sep="\n\n")
    else:
        page = options.write.read_text(encoding="utf-8")
        page = replaced(replaced(page, MARKERS, of_pools), SHARED_MARKERS, of_locks)
        options.write.write_text(page, encoding="utf-8")
    if options.data is not None:
        texts = {fault: {library: cells[fault, library] for library in libraries} for fault in FAULTS}
        content = {"faults": FAULTS, "cells": texts}
        options.data.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    broken = [
        f"{fault} ({library})"
        for (fault, library), text in cells.items()
        if library.startswith("goproc") and not kept(fault, text)
    ]
    if broken:
        print("goproc does not do what docs/reliability.md promises:", ", ".join(broken), file=sys.stderr)
    return int(bool(broken))


def table(faults, libraries, cells):
    rows = [["", *libraries], ["---"] * (len(libraries) + 1)]
    rows += [
        [title, *(cells[fault, library] for library in libraries)]
        for fault, title in faults.items()
        if all((fault, library) in cells for library in libraries)
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def replaced(page, markers, text):
    before, rest = page.split(markers[0])
    _, after = rest.split(markers[1])
    return f"{before}{markers[0]}\n\n{text}\n\n{markers[1]}{after}"


def kept(fault, text):
    """Whether a cell is what goproc promises: of a task, its exception; of a killed program, that nothing is left."""
    if fault in SHARED_FAULTS:
        return text.startswith(PROMISED[fault])
    expected = "all gone " if fault.startswith("killed") else "`"
    return text.startswith(expected) and "**" not in text and "other tasks lost" not in text


def installed(library):
    module = MODULES[library]
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def cell(library, fault):
    """Return what has happened, in a few words."""
    mark = str(uuid.uuid4())
    program = Path(__file__).with_name("subject.py" if fault in FAULTS else "sharing.py")
    subject = subprocess.Popen(
        [sys.executable, "-W", "ignore", program, library, fault],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        if fault.startswith("killed"):
            return after_its_death(subject, mark)
        steps = said(subject, LIMIT)
        return described(steps, alone=fault == "initializer" or fault in SHARED_FAULTS)
    finally:
        while left := marked(mark):  # some start others
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            subject.poll()
            time.sleep(0.01)
        subject.wait()
        subject.stdout.close()


def said(subject, limit, until=None):
    """Return the steps that the subject has printed, until it has ended, said a certain one, or the time is over."""
    steps, buffer, deadline = {}, b"", time.monotonic() + limit
    with selectors.DefaultSelector() as selector:
        selector.register(subject.stdout, selectors.EVENT_READ)
        while until not in steps and selector.select(max(deadline - time.monotonic(), 0)):
            chunk = os.read(subject.stdout.fileno(), 1 << 16)
            if not chunk:
                break
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                steps.update(json.loads(line))
    return steps


def described(steps, alone):
    if "outcome" not in steps:
        return "**hangs**"
    outcome = steps["outcome"]
    words = {"result": "returned", "goes on": "goes on"}
    text = f"{words.get(outcome, '`' + outcome + '`')} {after(steps['ms'])}"
    if alone:
        return text
    if "usable" not in steps:
        return f"{text}; then **hangs**"
    if not steps["usable"]:
        text += "; **pool broken**"
    if steps["others"] < 4:
        text += f"; {4 - steps['others']} of 4 other tasks lost"
    return text


def after(ms):
    if ms < 1000:
        return f"in {ms:.0f} ms" if ms >= 1 else "in under 1 ms"
    return f"after {ms / 1000:.0f} s"


def after_its_death(subject, mark):
    """Kill the program; return what becomes of its workers."""
    if "pids" not in said(subject, LIMIT, until="pids"):
        return "did not start"
    subject.kill()
    subject.wait()
    begin = time.monotonic()
    while left := marked(mark):
        if time.monotonic() - begin > LIMIT / 4:
            return f"**{len(left)} processes left behind**"
        time.sleep(0.001)
    return f"all gone {after(1000 * (time.monotonic() - begin))}"


def marked(mark):
    """Return the pids of all processes of a cell."""
    wanted, found = f"{MARK}={mark}".encode(), set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if wanted in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    found.add(int(entry))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                pass
    return found


if __name__ == "__main__":
    sys.exit(main())
