"""The processes of a run: finds them, prints their tracebacks, ends them; and makes the load during a run.

A process belongs to a run if its environment names the run's folder. It inherits that from the test that starts it,
even if it leaves the session, or loses its parent.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from goproc_conformance import startup

# A process that only waits for its parent to go (the resource tracker, a fork server) may need this long, in seconds.
GRACE = 5.0

_BUSY = "import os\np = os.getppid()\nwhile os.getppid() == p:\n    for _ in range(10**6):\n        pass\n"


def members(folder):
    """Pids of all processes that run with the run's folder in their environment, zombies excepted."""
    wanted = f"{startup.FOLDER}={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return sorted(found)


def command(pid):
    """A process's command line, for reports."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:200]
    except OSError:
        return "(gone)"


def leftover(folder):
    """Wait for the run's processes to be gone. Returns [(pid, command)] of those that are still there after GRACE."""
    deadline = time.monotonic() + GRACE
    while pids := members(folder):
        if time.monotonic() > deadline:
            return [(pid, command(pid)) for pid in pids]
        time.sleep(0.05)
    return []


def kill(folder):
    """Kill every process of the run, again until none is left (one may be starting another meanwhile)."""
    deadline = time.monotonic() + 30
    while (pids := members(folder)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def dump_tracebacks(folder, test_process):
    """Have every process of a stalled run write its tracebacks to its stderr, the run's log.

    The test process has a handler for a signal that no test uses. Its children have PYTHONFAULTHANDLER in their
    environment, so they print on SIGABRT, which ends them. The test process is stopped before, so that its test does
    not go on when the children end.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(test_process, signal.SIGRTMAX)
        time.sleep(0.5)
        os.kill(test_process, signal.SIGSTOP)
    for pid in members(folder):
        if pid != test_process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGABRT)
            # One after the other, or their lines would mingle in the log.
            time.sleep(0.2)


@contextlib.contextmanager
def load(wanted):
    """Keep every core busy while the block runs, if wanted. The busy processes also end when this one is gone."""
    busy = []
    try:
        for _ in range(len(os.sched_getaffinity(0)) if wanted else 0):
            busy.append(subprocess.Popen([sys.executable, "-c", _BUSY], stdin=subprocess.DEVNULL))
        yield
    finally:
        for process in busy:
            process.kill()
        for process in busy:
            process.wait()
