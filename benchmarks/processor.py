"""Processor time of this process and of all that it has started."""

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
            except ProcessLookupError:  # it ended while we looked
                pass
    return found


def clock(pid):
    """Return the clock of a process's processor time, for time.clock_gettime. Source: clock_getcpuclockid(3)."""
    return (~pid << 3) | 2


def of_children(pid):
    """Return the seconds of processor time of the children that a process has waited for, in the kernel's ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


class Meter:
    """Seconds of processor time spent since it was made, by this process, its children, and theirs.

    Those that have ended in between count if this process, or one that has not ended, has waited for them. Looking for
    the processes takes time of this one, which does not count.
    """

    def __init__(self):
        self._ended = self._of_ended()
        self._others = self._of_others()
        self._own = time.process_time()

    def seconds(self):
        """Return what has been spent."""
        own = time.process_time() - self._own
        others, ended = self._of_others(), self._of_ended()
        # What ended in between is among the ended with all of its time: take off what it had spent before.
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
                except OSError:  # it has ended
                    pass
        return spent

    @staticmethod
    def _of_ended():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime
