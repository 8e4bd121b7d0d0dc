"""The text that the command prints: first the circles, then a block for each process."""

import linecache
import os
import time

from . import kernel, program
from .waiting import is_barrier, is_manager, own_frames, told_by_stack

__all__ = ["Report"]

_NO_JOB = 2**64 - 1

#: How many of a thread's calls are printed.
_MOST_FRAMES = 200


class Report:
    """The text about a program. views: its processes. circles: its circles."""

    def __init__(self, views, circles):
        self._views = {view.pid: view for view in views}
        self._circles = circles
        self._numbers = {}  # by kind and place of a thing: its number in the text
        self._now, self._clock = time.clock_gettime_ns(time.CLOCK_MONOTONIC), time.time()

    def lines(self):
        """Return the lines of the text."""
        lines = [line for circle in self._circles for line in [*self._circle(circle), ""]]
        for view in self._views.values():
            lines += [*self._process(view), ""]
        return lines[:-1]

    # ---- names

    def _name(self, pid, name=""):
        view = self._views.get(pid)
        if view is not None:
            name = _own_name(view) or name
        return f"process {pid} ({name})" if name else f"process {pid}"

    def _number(self, kind, place):
        """Return "kind N": the same number for the same thing in all processes."""
        if place is None:
            return f"a {kind}"
        of_kind = self._numbers.setdefault(kind, {})
        return f"{kind} {of_kind.setdefault(place, len(of_kind) + 1)}"

    def _since(self, since_ns):
        seconds = max(self._now - since_ns, 0) / 1e9
        clock = time.strftime("%H:%M:%S", time.localtime(self._clock - seconds))
        return f"since {clock} ({seconds:.1f} s)"

    def _lock_name(self, lock, view):
        kind = "semaphore" if lock.is_semaphore or lock.most > 1 else "lock"
        return self._number(kind, lock.where or (view.pid, id(lock)))

    # ---- circles

    def _circle(self, circle):
        if len(circle) == 1 and circle[0].lock is not None:
            yield "Deadlock: a thread waits for a lock that it holds itself."
        else:
            yield f"Deadlock: {len(circle)} threads wait for each other, in a circle."
        for link in circle:
            pid, thread = link.holder
            who = self._thread_of(link.view.pid, link.thread.id)
            if link.lock is None:
                yield f"  {who} waits for the end of {self._name(pid)}"
            else:
                name = self._lock_name(link.lock, link.view)
                yield f"  {who} waits for {name}, which {self._thread_of(pid, thread)} holds"

    def _thread_of(self, pid, thread):
        return self._name(pid) + ("" if thread in (0, pid) else f", thread {thread}")

    # ---- processes

    def _process(self, view):
        yield f"process {view.pid}" + "".join(f", {part}" for part in self._what_it_is(view) if part)
        if view.command:
            yield f"  command: {_cut(view.command)}"
        if view.status.has_ended:
            yield f"  has ended, and process {view.status.parent} has not joined it yet"
            return
        if view.status.is_stopped:
            yield "  is stopped (SIGSTOP, or a debugger): it goes on after SIGCONT"
        if view.is_foreign:
            return
        if view.why:
            yield f"  {view.why}"
        if view.process is None:
            yield f"  in the kernel: {_in_kernel(view.pid, view.pid, view.status)}"
            return
        if not view.process.noting:
            yield "  GOPROC_DISABLE=dump: what its threads wait for is known by their stacks only"
        if view.task is not None:
            name = view.task.name or "a function"
            yield f"  runs a task: {name}, {self._since(view.task.since)}"
        for thread in view.threads:
            yield from self._thread(view, thread)

    def _what_it_is(self, view):
        process = view.process
        if process is None:
            is_tracker = "multiprocessing.resource_tracker" in view.command
            return ["the resource tracker" if is_tracker else "not on goproc"] if view.is_foreign else []
        if view.role == program.MAIN:
            return ["the main program"]
        if view.role == program.HELPER:
            return [process.helper.removeprefix("goproc: ")]
        parts = [_own_name(view), f"child of {view.status.parent}"]
        if view.role == program.FORKED:
            return [*parts, "forked by os.fork()"]
        parts.append(f"by {view.method}" if view.method else "")
        if view.is_worker:
            parts.append(f"worker of {self._number('pool', process.where(process.control))}")
        elif any(is_manager(thread.frames) for thread in view.threads):
            parts.append("a manager")
        return parts

    # ---- threads

    def _thread(self, view, thread):
        title = f"  thread {thread.id}"
        if thread.id == view.pid:
            title += ", main"
        elif thread.status.name != view.status.name:  # Python 3.14 and later tell the kernel
            title += f", {thread.status.name}"
        if thread.has_gil:
            title += ", holds the GIL"
        yield title
        for line in self._waits(view, thread):
            yield f"    {line}"
        for line in self._holds(view, thread):
            yield f"    {line}"
        if view.role == program.HELPER and told_by_stack(thread.frames):
            return  # it has nothing to do
        frames = own_frames(thread.frames)
        if len(frames) > _MOST_FRAMES:
            frames = frames[:_MOST_FRAMES]
            yield "      (more calls)"
        elif len(frames) < len(thread.frames):
            yield f"      ({len(thread.frames) - len(frames)} calls by which it was started)"
        for frame in reversed(frames):
            yield f'      File "{frame.filename}", line {frame.line}, in {frame.name}'
            if source := _source(view.pid, frame):
                yield f"        {source}"

    def _waits(self, view, thread):
        if not thread.waits:
            told = told_by_stack(thread.frames) if thread.status.state == "S" else ""
            if told:
                yield f"waits for {told}"
            else:
                yield _in_words(thread.status, thread.place)
            return
        wait = thread.waits[-1]
        text = f"waits for {self._awaited(view, thread, wait)}, {self._since(wait.since)}"
        if wait.deadline:
            text += f", for at most {max(wait.deadline - self._now, 0) / 1e9:.1f} s more"
        yield text
        if wait.kind == program.RESULT and wait.number != _NO_JOB:
            yield from self._tasks(wait)
        if wait.kind in (program.QUEUE_GET, program.QUEUE_PUT) and wait.number:
            yield f"  {self._name(wait.number)} keeps it waiting"
        lock = thread.locks.get(wait.place)
        if lock is not None:
            for holder in lock.holders:
                yield self._holder(lock, holder)
            if lock.is_semaphore:
                yield "  its permits belong to nobody: any process may release one"
            elif not lock.holders:
                yield "  it is free now"

    def _awaited(self, view, thread, wait):
        hint = told_by_stack(thread.frames)
        if wait.kind == program.LOCK and wait.place in thread.locks:
            return self._lock_name(thread.locks[wait.place], view) + (f", for {hint}" if hint else "")
        if wait.kind == program.CONDITION:
            return self._number("barrier" if is_barrier(thread.frames) else "condition", wait.where)
        if wait.kind == program.EVENT:
            return self._number("event", wait.where)
        if wait.kind == program.JOIN:
            return f"the end of {self._name(wait.number)}"
        if wait.kind == program.RESULT:
            pool = self._number("pool", wait.where) if wait.where else "its pool"
            return f"results of {pool}" if wait.number == _NO_JOB else f"a result of {pool}"
        pool = self._number("pool", wait.where)
        if wait.kind == program.TASK:
            return f"a task of {pool}"
        if wait.kind == program.ROOM:
            return f"{pool} to take its result"
        if wait.kind in (program.QUEUE_GET, program.QUEUE_PUT):
            what = "an item of" if wait.kind == program.QUEUE_GET else "room in"
            return f"{what} {self._number('queue', wait.where)}"
        if wait.kind == program.QUEUE_JOIN:
            return f"the tasks of {self._number('queue', wait.where)}"
        return wait.what or "something"

    def _tasks(self, wait):
        """Say which workers run tasks of the job that a thread waits for."""
        found = False
        for view in self._views.values():
            task = view.task
            if task is not None and task.job == wait.number:
                if wait.where is None or view.process.where(view.process.control) == wait.where:
                    found = True
                    yield f"  {self._name(view.pid)} runs its task, {self._since(task.since)}"
        if not found:
            yield "  no worker runs its task"

    def _holder(self, lock, holder):
        if not holder.pid:
            return "  it is held, by nobody who can be named"
        who = self._name(holder.pid, holder.name) + (f", thread {holder.thread}" if holder.thread else "")
        if holder.pid not in self._views:
            who += ", which is not there"
        permits = f" {holder.permits} of {lock.most} permits" if lock.most > 1 else ""
        return f"  held by {who}{permits}" + (f", {self._since(holder.since)}" if holder.since else "")

    def _holds(self, view, thread):
        """Say which locks the thread holds, of those that somebody waits for."""
        waiting: dict[str, list[str]] = {}
        for other in self._views.values():
            for waiter in other.threads:
                for lock in waiter.locks.values():
                    for holder in lock.holders:
                        if (holder.pid, holder.thread) == (view.pid, thread.id):
                            name = self._lock_name(lock, other)
                            waiting.setdefault(name, []).append(self._thread_of(other.pid, waiter.id))
        for name, others in waiting.items():
            yield f"holds {name}, for which {' and '.join(others)} {'wait' if len(others) > 1 else 'waits'}"


def _own_name(view):
    if view.role == program.MAIN and view.process is not None:
        return "the main program"
    return view.name


def _in_words(status, place):
    if status.state == "R":
        return "runs"
    if status.state in "Tt":
        return "is stopped"
    if status.state == "D":
        return f"waits in the kernel, and cannot be interrupted ({place or 'not known where'})"
    return f"sleeps in the kernel ({place or 'not known where'})"


def _in_kernel(pid, thread, status):
    try:
        return _in_words(*kernel.thread_status(pid, thread))
    except OSError:
        return _in_words(status, "")


def _source(pid, frame):
    """Return the source line of a frame, "" if it is not there. A relative name is from the process's own folder."""
    path = frame.filename
    if path.startswith("<"):
        return ""
    if not os.path.isabs(path):
        try:
            path = os.path.join(os.readlink(f"/proc/{pid}/cwd"), path)
        except OSError:
            return ""
    return linecache.getline(path, frame.line).strip()


def _cut(text):
    return text if len(text) <= 160 else text[:157] + "..."
