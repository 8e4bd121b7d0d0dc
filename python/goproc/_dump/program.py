"""Which processes belong to a program, what each is, and what each of its threads waits for."""

import os
import threading
from types import SimpleNamespace

from .. import _native
from . import kernel
from .record import NotGoproc, OtherVersion, Process, Unreadable
from .stacks import read_threads

__all__ = [
    "CONDITION",
    "EVENT",
    "FORKED",
    "HELPER",
    "JOIN",
    "LOCK",
    "MAIN",
    "OTHER",
    "QUEUE_GET",
    "QUEUE_JOIN",
    "QUEUE_PUT",
    "RESULT",
    "ROOM",
    "TASK",
    "Holder",
    "Lock",
    "View",
    "close",
    "look_at",
    "look_at_program",
    "read_lock",
]

# What a process is: it was executed, and started by nobody through goproc; the program has forked it by os.fork(); a
# Process object runs in it; it is a server, a standby or a template.
MAIN, FORKED, CHILD, HELPER = range(4)

# What a thread waits for: the numbers of capi/native/dump/waits.h.
LOCK, CONDITION, EVENT, JOIN, RESULT, TASK, ROOM, QUEUE_GET, QUEUE_PUT, QUEUE_JOIN, OTHER = range(1, 12)

_CELL_LOCK, _CELL_SEMAPHORE, _CELL_BOUNDED = 1, 2, 3

_TRIES = 5


class Holder:
    """Who holds a lock. pid: 0 if nobody can be named. thread: 0 if it is not known. since: ns of CLOCK_MONOTONIC."""

    def __init__(self, pid, thread=0, name="", since=0, permits=1):
        self.pid, self.thread, self.name, self.since, self.permits = pid, thread, name, since, permits


class Lock:
    """A lock or semaphore that a thread waits for.

    where: identifies it in all processes alike. is_semaphore: whether its permits have no owner. most: their number.
    """

    def __init__(self, where, is_semaphore, most, holders):
        self.where, self.is_semaphore, self.most, self.holders = where, is_semaphore, most, holders

    def state(self):
        """Return what must stay the same for a holder to have held the lock all the time."""
        return [(holder.pid, holder.thread, holder.since) for holder in self.holders]


class View:
    """What is known of a process.

    pid, status, command: see kernel.py. process: its record.Process; None if it cannot be read: then why says why.
    is_foreign: whether it is not on goproc. is_late: whether its memory could not be read in time.
    role: what it is. name, method: of a child, its Process's name and its start method.
    threads: of stacks.Thread, each with its kernel status, its waits, and the locks that it waits for by its waits.
    task: of a worker, its task; None if it has none.
    """

    def __init__(self, pid):
        self.pid = pid
        self.status = kernel.status(pid)
        self.command = kernel.command_line(pid) if not self.status.has_ended else ""
        self.process = None
        self.why = ""
        self.role, self.name, self.method = MAIN, "", ""
        self.is_foreign = False
        self.is_late = False
        self.threads = []
        self.task = None

    @property
    def is_worker(self):
        """Whether it is a pool's worker."""
        return bool(self.process and self.process.control)

    def thread(self, id):
        """Return the thread of this id, None if there is none."""
        return next((thread for thread in self.threads if thread.id == id), None)


def look_at(pid):
    """Return the View of a process. Raises OSError if there is no such process."""
    view = View(pid)
    if view.status.has_ended:
        return view
    try:
        view.process = Process(pid)
    except NotGoproc:
        view.is_foreign = True
    except OtherVersion:
        view.why = "it runs another version of goproc"
    except PermissionError:
        view.why = "the kernel does not let this user read its memory"
    except (OSError, Unreadable) as error:
        view.why = f"it cannot be read: {error}"
    if view.process is not None:
        for _ in range(_TRIES):  # a thread that has just ended leaves nonsense
            try:
                _look_inside(view)
                view.why = ""
                break
            except (Unreadable, OSError) as error:
                view.why = f"not all of it can be read: {error}"
    return view


def _look_inside(view):
    process = view.process
    view.threads = []
    view.role = HELPER if process.helper else CHILD if view.is_worker else FORKED if process.is_forked else MAIN
    waits = process.waits()
    for thread in read_threads(process):
        try:
            thread.status, thread.place = kernel.thread_status(view.pid, thread.id)
        except OSError:
            continue  # it has ended meanwhile
        thread.waits = [wait for wait in waits if wait.thread == thread.id]
        thread.locks = {wait.place: read_lock(process, wait) for wait in thread.waits if wait.kind == LOCK}
        view.threads.append(thread)
        _read_names(view, thread.frames)
    if process.slot:
        view.task = _task(view)


#: The calls in which a Process object runs; they have its name and its start method.
_RUNNERS = {"run_child": "goproc/popen_fork.py", "run_spawned": "goproc/_common/start_methods.py"}


def _read_names(view, frames):
    for frame in frames:
        if frame.name in _RUNNERS and frame.filename.endswith(_RUNNERS[frame.name]):
            view.role = CHILD
            try:
                name, method = frame.local("name"), frame.local("method")
                view.name, view.method = (view.process.string(at) if at else "" for at in (name, method))
            except (Unreadable, ValueError):
                pass
            return  # a fork has the calls of its parent behind these


def read_lock(process, wait):
    """Return the Lock that a note is about, in its present state. Raises Unreadable."""
    layout, at = process.layout, wait.object
    kind = process.number(at + layout.cell_kind, "I")
    most = process.number(at + layout.lock_most, "I")
    holders = []
    if kind == _CELL_LOCK:
        pid = process.number(at + layout.lock_word, "I")
        if pid == layout.somebody:
            holders.append(Holder(0))
        elif pid and process.number(at + layout.lock_holder + layout.who_pid, "I") == pid:
            thread = process.number(at + layout.lock_holder + layout.who_thread, "I")
            name = process.text_at(at + layout.lock_name, layout.name_size)
            holders.append(Holder(pid, thread, name, process.number(at + layout.lock_since)))
        elif pid:
            holders.append(Holder(pid))  # the process has just taken the lock
    elif kind == _CELL_BOUNDED:
        for i in range(layout.most_holders):
            place = at + layout.bounded_holders + i * layout.holder_size
            if permits := process.number(place + layout.holder_permits, "I"):
                pid = process.number(place + layout.holder_who + layout.who_pid, "I")
                name = process.text_at(place + layout.holder_name, layout.name_size)
                holders.append(Holder(pid, 0, name, process.number(place + layout.holder_since), permits))
        if permits := process.number(at + layout.bounded_unnamed, "I"):
            holders.append(Holder(0, permits=permits))
    return Lock(wait.where, kind == _CELL_SEMAPHORE, most, holders)


def _task(view):
    process = view.process
    started = process.number(process.slot + process.layout.slot_started)
    if started == 0:
        return None
    name = ""
    for thread in view.threads:
        for frame in thread.frames:
            if frame.name == "worker" and frame.filename.endswith(os.path.join("goproc", "_pool", "worker.py")):
                try:
                    function = frame.local("func")
                    name = process.callable_name(function) if function else ""
                except (Unreadable, ValueError):
                    pass
    return SimpleNamespace(
        job=process.number(process.slot + process.layout.slot_job),
        index=process.number(process.slot + process.layout.slot_index),
        since=started,
        name=name,
    )


# ---- the program


def _main_of(pid, views, seconds):
    """Return the pid of the main program that a process belongs to. Adds the Views of its parents to views."""
    while views[pid].process is not None and views[pid].role != MAIN:
        parent = views[pid].status.parent
        _look_at_all([parent], views, seconds)
        if parent not in views or views[parent].is_foreign:
            break  # it has ended, or has executed another program
        pid = parent
    return pid


def _descendants(pid, children):
    found = [pid]
    for child in sorted(children.get(pid, ())):
        found += _descendants(child, children)
    return found


def look_at_program(pid, seconds):
    """Return the Views of all processes of the program that a process belongs to, the main program first.

    A process that holds a lock for which one of them waits belongs to the program, too. If the given process cannot be
    read, its View is the only one. seconds: how long to wait for the memory of the processes. Raises OSError if there
    is no such process.
    """
    views: dict[int, View] = {}
    _look_at_all([pid], views, seconds)
    if pid not in views:
        raise ProcessLookupError
    if views[pid].process is None:
        return [views[pid]]
    todo = _descendants(_main_of(pid, views, seconds), kernel.children())
    close(views.values())
    views = {}
    if os.getpid() in todo:  # the program itself runs this command
        todo = [at for at in todo if at not in _descendants(os.getpid(), kernel.children())]
    while todo:
        _look_at_all(todo, views, seconds)
        holders = {holder.pid for view in views.values() for holder in _holders_for(view)}
        todo = [at for at in sorted(holders) if at and at not in views and os.path.exists(f"/proc/{at}")]
    return [view for view in views.values() if not view.is_foreign or _is_child(view, views)]


def close(views):
    """Close the memory of the processes."""
    for view in views:
        if view.process is not None:
            view.process.close()


def _is_child(view, views):
    """Whether it is a child of a process on goproc: its own children are of no interest."""
    parent = views.get(view.status.parent)
    return parent is not None and not parent.is_foreign


def _holders_for(view):
    return [holder for thread in view.threads for lock in thread.locks.values() for holder in lock.holders]


def _look_at_all(pids, views, seconds):
    """Add the Views of processes. Reading one may take for ever: a page of its memory may be on a lost file server."""
    results: dict[int, View] = {}

    def look(pid):
        try:
            results[pid] = look_at(pid)
        except OSError:
            pass  # it has ended meanwhile

    threads = [threading.Thread(target=look, args=(pid,), daemon=True) for pid in pids]
    deadline = _native.monotonic() + seconds
    for pid, thread in zip(pids, threads, strict=True):
        thread.start()
        thread.join(max(deadline - _native.monotonic(), 0.05))
        if pid in results:
            views[pid] = results[pid]
        elif thread.is_alive():
            views[pid] = _unanswered(pid, seconds)


def _unanswered(pid, seconds):
    view = View.__new__(View)
    view.pid, view.status, view.command = pid, kernel.status(pid), ""
    view.process, view.threads, view.task = None, [], None
    view.role, view.name, view.method = MAIN, "", ""
    view.is_foreign, view.is_late = False, True
    view.why = f"its memory could not be read in {seconds:g} s: the kernel keeps the reader waiting"
    return view
