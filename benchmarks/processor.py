"""Measures the processor time of this process and all its descendants."""

import os
import resource
import time
from pathlib import Path


def members():
    """Return the pids of the processes of this session. A subject is the leader of a session of its own."""
    session, found = os.getsid(0), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == session:
                    found.append(int(entry.name))
            except ProcessLookupError:  # the process has ended meanwhile
                pass
    return found


def clock(pid):
    """Return the clock of a process's processor time, for time.clock_gettime. Source: clock_getcpuclockid(3)."""
    return (~pid << 3) | 2


def of_children(pid):
    """Return the seconds of processor time of the children that a process has waited for. The unit is a clock tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


class Meter:
    """Measures the processor time since the Meter was made, of this process and all its descendants.

    A process that has ended meanwhile counts if this process, or a process that still runs, has waited for it. The time
    for finding the processes is spent by this process, and does not count.
    """

    def __init__(self):
        self._ended = self._of_ended()
        self._others = self._of_others()
        self._own = time.process_time()

    def seconds(self):
        """Return the seconds of processor time since the Meter was made."""
        own = time.process_time() - self._own
        others, ended = self._of_others(), self._of_ended()
        # `ended` includes the whole time of a process that has ended meanwhile: subtract its time before the Meter.
        gone = sum(self._others[pid] for pid in self._others.keys() - others.keys())
        spent = sum(seconds - self._others.get(pid, 0) for pid, seconds in others.items())
        return own + spent + max(ended - self._ended - gone, 0)

    @staticmethod
    def _of_others():
        spent = {}
        for pid in members():
            if pid != os.getpid():
                try:
                    spent[pid] = time.clock_gettime(clock(pid)) + of_children(pid)
                except OSError:  # the process has ended
                    pass
        return spent

    @staticmethod
    def _of_ended():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime
