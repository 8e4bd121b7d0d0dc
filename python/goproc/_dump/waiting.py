"""Says what a thread waits for, if it has noted nothing: the innermost calls of the standard library tell it."""

__all__ = ["is_barrier", "is_manager", "own_frames", "told_by_stack"]

#: By the end of a file's name: by function, what the thread waits for.
_PLACES = {
    "multiprocessing/queues.py": {"get": "an item of a queue", "put": "room in a queue", "_feed": "an item to send"},
    "multiprocessing/connection.py": {
        "recv": "a message of a connection",
        "recv_bytes": "a message of a connection",
        "_recv": "a message of a connection",
        "send": "room in a connection",
        "send_bytes": "room in a connection",
        "_send": "room in a connection",
        "accept": "a client of a listener",
        "wait": "several objects (connection.wait)",
        "poll": "a message of a connection",
    },
    "multiprocessing/managers.py": {
        "serve_forever": "clients of a manager",
        "_callmethod": "an answer of a manager",
    },
    "goproc/synchronize.py": {"wait": ""},
    "goproc/connection.py": {},
    "goproc/forkserver.py": {"main": "orders of the program"},
    "goproc/_start/spawn_server.py": {"main": "orders of the program"},
    "goproc/_start/prefork.py": {"serve": "orders of the program"},
    "goproc/_pool/dispatch.py": {"_run": "results that no other thread collects"},
    "goproc/_pool/engine_pool.py": {"join": "the end of its pool's workers"},
    "multiprocessing/util.py": {},
    "multiprocessing/process.py": {"join": "the end of a process"},
    "multiprocessing/popen_fork.py": {"wait": "the end of a process"},
    "/threading.py": {
        "join": "the end of a thread",
        "_wait_for_tstate_lock": "the end of a thread",
        "wait": "a threading.Condition or threading.Event",
        "acquire": "a threading.Semaphore",
        "_shutdown": "the end of the other threads",
    },
    "/queue.py": {"get": "an item of a queue.Queue", "put": "room in a queue.Queue", "join": "a queue.Queue's tasks"},
    "/socket.py": {"accept": "a connection to a socket", "readinto": "data of a socket"},
    "/selectors.py": {"select": "input or output (selectors)"},
    "/subprocess.py": {"wait": "the end of a program", "_wait": "the end of a program", "communicate": "a program"},
    "concurrent/futures/_base.py": {"result": "a result of an executor", "wait": "results of an executor"},
}


def _function(frame):
    return frame.name.rpartition(".")[2]


def told_by_stack(frames):
    """Return what the innermost calls of the standard library wait for, "" if they do not tell it."""
    told = ""
    for frame in frames:
        places = next((places for end, places in _PLACES.items() if frame.filename.endswith(end)), None)
        if places is None:
            break
        told = places.get(_function(frame), told)
    return told


#: The calls by which a process or a thread is started: by the end of a file's name, the functions.
_STARTS = {
    "multiprocessing/process.py": ("_bootstrap", "run"),
    "/threading.py": ("_bootstrap", "_bootstrap_inner", "run"),
}


def own_frames(frames):
    """Return the frames of the program itself: without those of a start. A forked child has its parent's, too."""
    for at, frame in enumerate(frames):
        if any(frame.filename.endswith(end) and _function(frame) in names for end, names in _STARTS.items()):
            return frames[:at] or frames
    return frames


def is_barrier(frames):
    """Whether a thread that waits at a condition does so at a barrier."""
    return any(
        _function(frame) in ("_wait", "_enter") and frame.filename.endswith("goproc/synchronize.py") for frame in frames
    )


def is_manager(frames):
    """Whether these are the frames of the main thread of a manager's process."""
    return any(
        _function(frame) in ("serve_forever", "_run_server") and frame.filename.endswith("multiprocessing/managers.py")
        for frame in frames
    )
