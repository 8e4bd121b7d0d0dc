"""Kills, stops and continues processes that its parent program has started: killer.py SEED LOG

When its standard input is closed, it continues all stopped processes, and exits. Before it kills or stops a process, it
writes a line to the log: "<moment> kill|stop <pid> <role>".
"""

import os
import random
import select
import signal
import sys
import time
from pathlib import Path

MARK = "GOPROC_CHAOS"  # the environment variable that all processes of a round have

#: The least seconds that most workers live: killing all at birth would show only how a pool gives up.
AGE = 0.5

TICKS = os.sysconf("SC_CLK_TCK")


def main():
    seed, log = sys.argv[1:]
    rng = random.Random(f"{seed}:killer")
    stopped = {}  # pid: when to continue it
    with open(log, "a", buffering=1) as said:
        while not select.select([sys.stdin], [], [], rng.uniform(0.01, 0.3))[0]:
            now = time.monotonic()
            for pid in [pid for pid, until in stopped.items() if until < now]:
                del stopped[pid]
                send(pid, signal.SIGCONT)
            if not (pids := targets(rng)):
                continue
            pid, role = rng.choice(pids)
            what = rng.choices(["kill", "stop"], [3, 2] if role == "worker" else [1, 3])[0]
            said.write(f"{now:.3f} {what} {pid} {role}\n")
            if what == "kill":
                send(pid, signal.SIGKILL)
            else:
                send(pid, signal.SIGSTOP)
                stopped[pid] = now + rng.choice([0.01, 0.1, 1])
    for pid in stopped:
        send(pid, signal.SIGCONT)


def targets(rng):
    """Return (pid, role) of what may be killed: workers, and now and then the fork server."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = []
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in (os.getpid(), os.getppid()):
            continue
        try:
            if mark not in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                continue
            command = Path(f"/proc/{entry}/cmdline").read_bytes()
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        parent, age = int(fields[1]), uptime - int(fields[19]) / TICKS
        if b"resource_tracker" in command:
            continue
        if b"forkserver" in command and parent == os.getppid():
            role = "server"
        else:
            role = "worker"
        if role == "server" and rng.random() < 0.7 or age < AGE and rng.random() < 0.9:
            continue
        found.append((int(entry), role))
    return sorted(found)


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    main()
