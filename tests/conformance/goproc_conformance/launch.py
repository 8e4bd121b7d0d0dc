"""One run of one suite with one start method: start the test process, watch it, end it, read its events.

A test that hangs, or that ends the test process, must not hide the tests after it. Its tracebacks go to the log, it
counts as an error, and a new test process goes on with the next test.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from goproc_conformance import processes, startup, suites

POLL = 0.1  # seconds between two looks at the test process

# Set when the user interrupts the command: runs, which are in threads, then end as if out of time.
interrupted = threading.Event()


@dataclasses.dataclass
class Plan:
    """What to run, and how long it may take."""

    python: str  # the venv's interpreter
    mode: str  # startup.GOPROC or startup.BASELINE
    suite: str
    method: str
    log: Path
    match: str = ""
    only: list | None = None
    leave_out: list = dataclasses.field(default_factory=list)  # ids of tests not to run
    modules: list = dataclasses.field(default_factory=list)
    path: list = dataclasses.field(default_factory=list)
    time_limit: float = 1800.0  # seconds, for the whole run
    # Seconds without a test's start or end. More than test.support.LONG_TIMEOUT (300 s), after which tests give up.
    stall_limit: float = 360.0


@dataclasses.dataclass
class Record:
    """What happened in a run."""

    planned: list = dataclasses.field(default_factory=list)
    results: dict = dataclasses.field(default_factory=dict)  # id: {"outcome", "text", "seconds"}
    left_out: list = dataclasses.field(default_factory=list)
    altered: list = dataclasses.field(default_factory=list)  # where something was left dangling
    counters: list = dataclasses.field(default_factory=list)  # of the test process and of scripts that tests started
    traps: list = dataclasses.field(default_factory=list)
    untrapped: list = dataclasses.field(default_factory=list)
    leftover: list = dataclasses.field(default_factory=list)
    missing: str = ""  # what the interpreter lacks, if that is why nothing ran
    broken: str = ""  # why the run as a whole is worth nothing
    seconds: float = 0.0


def run(plan):
    """Carry the plan out. Returns a Record; never raises for what tests do."""
    record = Record()
    # Unix sockets of managers and fork servers are made below TMPDIR and may have 107 bytes of path: keep it short.
    folder = Path(tempfile.mkdtemp(prefix="gpc-"))
    started = time.monotonic()
    plan.log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(plan.log, "wb", buffering=0) as log:
            while _one_process(plan, record, folder, log, started + plan.time_limit):
                pass
        record.traps = _lines(folder / startup.TRAPS_FILE)
        record.counters += _lines(folder / startup.COUNTERS_FILE)
    finally:
        processes.kill(str(folder))
        shutil.rmtree(folder, ignore_errors=True)
    record.seconds = round(time.monotonic() - started, 1)
    return record


def _one_process(plan, record, folder, log, deadline):
    """Run one test process to its end. Returns whether another one is needed for the tests behind a lost one."""
    events = folder / "events.jsonl"
    events.unlink(missing_ok=True)
    config = folder / "config.json"
    # What is reported between tests (a failed tearDownClass) has no place among the tests done, but does no harm here.
    selection = {
        "mode": plan.mode, "suite": plan.suite, "method": plan.method, "match": plan.match, "only": plan.only,
        "done": list(record.results), "leave_out": plan.leave_out, "modules": plan.modules, "path": plan.path,
        "events": str(events),
    }  # fmt: skip
    config.write_text(json.dumps(selection))
    work = folder / "work"
    work.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [plan.python, "-W", "default", "-m", "goproc_conformance", str(config)],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=work, env=_environment(plan, folder),
        start_new_session=True,
    )  # fmt: skip
    try:
        why = _watch(process, events, plan.stall_limit, deadline)
        if why:
            log.write(f"*** {why}: tracebacks of all processes follow\n".encode())
            processes.dump_tracebacks(str(folder), process.pid)
            process.kill()
        status = process.wait()
    except BaseException:
        processes.kill(str(folder))
        process.wait()
        raise
    before = len(record.results)
    running, ended = _read(record, events)
    if ended or record.missing:
        record.leftover += [f"pid {pid}: {command}" for pid, command in processes.leftover(str(folder))]
        if why or status:
            record.broken = f"{why or f'the test process ended with {_status(status)}'}, after the last test"
    elif not why:
        why = f"the test process ended with {_status(status)}"
    processes.kill(str(folder))
    if ended or record.missing:
        return False
    if running is None and len(record.results) == before:
        record.broken = f"{why} outside any test (see {plan.log})"
        return False
    if running is None:  # most likely in a tearDownClass
        running = f"(after {list(record.results)[-1]})"
    record.results[running] = {"outcome": "error", "text": f"{why} (see {plan.log})", "seconds": 0.0}
    if interrupted.is_set() or time.monotonic() > deadline:
        record.broken = why
        return False
    return True


def _environment(plan, folder):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "GOPROC_"))}
    env.update({startup.MODE: plan.mode, startup.FOLDER: str(folder), "PYTHONFAULTHANDLER": "1"})
    if suites.replaces_executor(plan.suite):
        env[startup.FUTURES] = "1"
    return env


def _watch(process, events, stall_limit, deadline):
    """Wait for the test process. Returns why it has to be killed, or None once it has ended by itself."""
    size, since = -1, time.monotonic()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL)
            return None
        now = time.monotonic()
        grown = events.stat().st_size if events.exists() else 0
        if grown != size:
            size, since = grown, now
        if interrupted.is_set():
            return "interrupted"
        if now > deadline:
            return "the run's time limit is over"
        if now - since > stall_limit:
            return f"no test began or ended for {stall_limit:.0f} s"


def _read(record, path):
    """Add a test process's events to the record. Returns (the id that was running at the end, did it end orderly)."""
    running, ended = None, False
    for event in _lines(path):
        kind = event["event"]
        if kind == "suite":
            record.planned += [name for name in event["tests"] if name not in record.planned]
            record.left_out = event["left_out"]
        elif kind == "missing":
            record.missing = event["what"]
        elif kind == "start":
            running = event["id"]
        elif kind == "result":
            record.results[event["id"]] = {key: event[key] for key in ("outcome", "text", "seconds")}
            running = None
        elif kind == "altered":
            record.altered.append(event["after"])
        elif kind == "end":
            ended = True
            record.untrapped += event["untrapped"]
            if event["counters"] is not None:
                record.counters.append(event["counters"])
    return running, ended


def _lines(path):
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _status(status):
    if status >= 0:
        return f"exit status {status}"
    return f"signal {-status} ({signal.Signals(-status).name})"
