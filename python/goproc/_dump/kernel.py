"""The kernel's information on any process, from /proc. The process need not answer."""

import os
import pwd

__all__ = ["Status", "children", "command_line", "status", "thread_status", "user_of", "yama_scope"]


class Status:
    """A line of /proc/PID/stat. name: the command's name. state: a letter, see proc(5). parent: a pid."""

    def __init__(self, name, state, parent):
        self.name, self.state, self.parent = name, state, parent

    @property
    def is_stopped(self):
        """Whether a signal, or a debugger, has stopped it."""
        return self.state in "Tt"

    @property
    def has_ended(self):
        """Whether it has ended, and its parent has not reaped it yet."""
        return self.state in "ZX"


def status(pid):
    """Return the Status of a process. Raises OSError if there is no such process."""
    return _status(f"/proc/{pid}/stat")


def thread_status(pid, thread):
    """Return the Status of a thread, and in which function of the kernel it sleeps: "" if that is not known."""
    folder = f"/proc/{pid}/task/{thread}"
    try:
        with open(f"{folder}/wchan") as file:
            place = file.read().strip()
    except OSError:
        place = ""
    return _status(f"{folder}/stat"), place if place != "0" else ""


def _status(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        head, _, rest = file.read().rpartition(")")
    fields = rest.split()
    return Status(head.partition("(")[2], fields[0], int(fields[1]))


def command_line(pid):
    """Return the command line of a process, as a text; "" if it cannot be read."""
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            text = file.read().replace("\0", " ").strip()
            return "".join(char if char.isprintable() else "?" for char in text)
    except OSError:
        return ""


def children():
    """Return the pids of the children of each process, by its pid."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found.setdefault(status(int(name)).parent, []).append(int(name))
            except OSError:
                pass  # it has ended meanwhile
    return found


def user_of(pid):
    """Return the name of the user that a process belongs to. Raises OSError if there is no such process."""
    number = os.stat(f"/proc/{pid}").st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def yama_scope():
    """Return the setting kernel.yama.ptrace_scope, 0 if the kernel has none."""
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
