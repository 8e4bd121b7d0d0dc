"""The command line of `python -m goproc dump PID`, and its exit status."""

import io
import os
import resource
import sys
import time

from . import kernel
from .circles import find_circles
from .program import look_at_program
from .report import Report

__all__ = ["main"]

#: Seconds to wait for the memory of the processes.
_PATIENCE = 5

_USAGE = "usage: {name} dump PID"

_HELP = """{usage}

Print what each process of a running program is, what each of its threads waits for, who holds that, since when, and
the stacks of its Python threads. If threads wait for each other in a circle, say so first.

  PID            the process id of the program, or of any of its processes

The program must run on goproc. It need not be prepared, and goes on as before: no signal is sent, and none of its code
runs for this. This command needs the rights of a debugger: it must be run by the same user, or by root.

Exit status: 0, printed; 1, not possible; 2, wrong usage; 3, printed, and there is a circle."""


def main(arguments: "list[str]", name: str) -> int:
    """Run the command. arguments: those behind `dump`. name: what the command is called. Returns the exit status."""
    usage = _USAGE.format(name=name)
    if arguments and arguments[0] in ("-h", "--help"):
        print(_HELP.format(usage=usage), flush=True)
        return 0
    if len(arguments) != 1 or not arguments[0].isascii() or not arguments[0].isdigit() or int(arguments[0]) < 1:
        return _refuse(2, f"{usage}\ngoproc: error: dump needs the id of one process")
    pid = int(arguments[0])
    _raise_limit()
    try:
        views = look_at_program(pid, _PATIENCE)
    except OSError:
        return _refuse(1, f"goproc: error: {_why_not_there(pid)}")
    asked = next((view for view in views if view.pid == pid), views[0])
    if reason := _why_not(asked):
        return _refuse(1, f"goproc: error: {reason}")
    circles = find_circles(views)
    count = f"{len(views)} process" + ("es" if len(views) != 1 else "")
    title = f"goproc dump of {views[0].pid}, {time.strftime('%Y-%m-%d %H:%M:%S')}, {count}"
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print("\n".join([title, "", *Report(views, circles).lines()]), flush=True)
    except BrokenPipeError:
        pass  # the reader has seen enough
    return 3 if circles else 0


def _as_root(pid):
    return f"sudo {sys.executable} -m goproc dump {pid}"


def _why_not_there(pid):
    """Return why /proc has no folder of a process."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return f"process {pid} belongs to another user, and /proc hides it (its option hidepid). Try: {_as_root(pid)}"
    except (OSError, OverflowError):
        pass
    return f"there is no process {pid}"


def _why_not(view):
    """Return why nothing can be printed about a process, "" if it can."""
    pid = view.pid
    if view.status.has_ended:
        return f"process {pid} has ended, and process {view.status.parent} has not reaped it yet"
    if view.is_foreign:
        return f"process {pid} ({view.command or view.status.name}) does not run on goproc, or has not used it yet"
    if view.process is not None or view.is_late:
        return ""
    try:
        owner, same = kernel.user_of(pid), os.stat(f"/proc/{pid}").st_uid == os.geteuid()
    except OSError:
        return _why_not_there(pid)
    command = _as_root(pid)
    if "does not let" in view.why:
        if not same:
            return f"process {pid} belongs to user {owner}: only that user and root may read its memory. Try: {command}"
        if scope := kernel.yama_scope():
            return (
                f"the kernel lets no process but a debugger of root read the memory of process {pid} "
                f"(kernel.yama.ptrace_scope is {scope}). Try: {command}"
            )
        return f"the kernel does not let this user read the memory of process {pid}. Try: {command}"
    return f"process {pid}: {view.why}"


def _raise_limit():
    """Raise the soft limit of open files: the command opens one for each process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _refuse(status, text):
    print(text, file=sys.stderr)
    return status
