"""The table of faults: how a task ends, and whether its pool goes on, after each fault, with each library.

    run.py [--library NAME ...] [--fault NAME ...] [--write PAGE --data FILE]

Each cell comes from a program of its own (subject.py), with a time limit. --write replaces the table between the
markers in the page, --data keeps the cells as JSON, from which benchmarks/plots.py draws a picture. Both are for all
faults in all libraries.

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

from libraries import MODULES

LIMIT = 13  # seconds after which what has not come hangs
AT_ONCE = 4
MARKERS = "<!-- faults: written by `make faults` -->", "<!-- end of faults -->"
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", nargs="*", choices=MODULES, default=list(MODULES))
    parser.add_argument("--fault", nargs="*", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--write", type=Path)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    libraries = [name for name in options.library if installed(name)]
    if missing := set(options.library) - set(libraries):
        print("not installed:", ", ".join(sorted(missing)), file=sys.stderr)
    if (options.write or options.data) and (libraries != list(MODULES) or options.fault != list(FAULTS)):
        parser.error("--write and --data take all faults in all libraries: a part must not replace the whole table")
    with ThreadPoolExecutor(AT_ONCE) as runs:
        cells = {
            (fault, library): runs.submit(cell, library, fault) for fault in options.fault for library in libraries
        }
        for (fault, library), text in cells.items():
            print(f"{fault}, {library}: {text.result()}", flush=True)
    texts = {fault: {library: cells[fault, library].result() for library in libraries} for fault in options.fault}
    rows = [["", *libraries], ["---"] * (len(libraries) + 1)]
    rows += [[FAULTS[fault], *row.values()] for fault, row in texts.items()]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    if options.write is None:
        print(table)
    else:
        before, rest = options.write.read_text().split(MARKERS[0])
        _, after = rest.split(MARKERS[1])
        options.write.write_text(f"{before}{MARKERS[0]}\n\n{table}\n\n{MARKERS[1]}{after}")
    if options.data is not None:
        content = {"faults": FAULTS, "cells": texts}
        options.data.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    broken = [
        f"{fault} ({library})"
        for (fault, library), text in cells.items()
        if library.startswith("goproc") and not kept(fault, text.result())
    ]
    if broken:
        print("goproc does not do what docs/reliability.md promises:", ", ".join(broken), file=sys.stderr)
    return int(bool(broken))


def kept(fault, text):
    """Whether a cell is what goproc promises: an exception for the one task, and nothing left of a killed program."""
    expected = "all gone " if fault.startswith("killed") else "`"
    return text.startswith(expected) and "**" not in text and "other tasks lost" not in text


def installed(library):
    module = MODULES[library]
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def cell(library, fault):
    """Return what has happened, in a few words."""
    mark = str(uuid.uuid4())
    subject = subprocess.Popen(
        [sys.executable, "-W", "ignore", Path(__file__).with_name("subject.py"), library, fault],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        if fault.startswith("killed"):
            return after_its_death(subject, mark)
        return described(said(subject, LIMIT), initializer=fault == "initializer")
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


def described(steps, initializer):
    if "outcome" not in steps:
        return "**hangs**"
    outcome = steps["outcome"]
    text = f"{'returned' if outcome == 'result' else '`' + outcome + '`'} {after(steps['ms'])}"
    if initializer:
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
