"""Changes itself step by step, and prints after each step what a spawned child inherits: inherited.py LIBRARY"""

import importlib
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path

library = importlib.import_module(sys.argv[1])


def inherited(connection):
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    connection.send(
        {
            "parent": os.getppid() == library.parent_process().pid,
            "thread": threading.get_native_id() == os.getpid(),
            "main thread": threading.current_thread() is threading.main_thread(),
            "status": {name: status[name] for name in ("Umask", "SigBlk", "SigIgn", "NoNewPrivs", "Cpus_allowed")},
            "SIGINT": str(signal.getsignal(signal.SIGINT)),
            "nice": os.getpriority(os.PRIO_PROCESS, 0),
            "group": os.getpgrp(),
            "variable": os.environ.get("VARIABLE"),
            "limit": resource.getrlimit(resource.RLIMIT_CORE),
            "streams": [stream_of(fd) for fd in (1, 2)],
            "argv": sys.argv,
            "hash": sys.flags.hash_randomization,
        }
    )


def stream_of(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return None


def ask():
    context = library.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=inherited, args=(sender,))
    process.start()
    sender.close()
    answer = receiver.recv()
    process.join()
    assert process.exitcode == 0
    return answer


def in_thread():
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask()))
    thread.start()
    thread.join()
    return answers[0]


def redirect(fd, path):
    new = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(new, fd)
    os.close(new)


CHANGES = {
    "nothing": lambda: None,
    "nothing again": lambda: None,
    "nice": lambda: os.nice(2),
    "affinity": lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}),
    "umask": lambda: os.umask(0o77),
    "environment": lambda: os.environ.update(VARIABLE="1"),
    "mask": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGINT, signal.SIGRTMAX]),
    "no mask": lambda: signal.pthread_sigmask(signal.SIG_SETMASK, []),
    "SIGINT ignored": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    "SIGINT handled": lambda: signal.signal(signal.SIGINT, lambda *_: None),
    "SIGUSR1 ignored": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    "limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    "group": lambda: os.setpgid(0, 0),
    "standard error": lambda: redirect(2, "error.txt"),
    "a closed stream": lambda: os.close(2),
    "folder": lambda: os.chdir("/"),
}

if __name__ == "__main__":
    group = os.getpgrp()
    for name, change in CHANGES.items():
        change()
        for how in (ask, in_thread):
            answer = how()
            answer["streams"] = answer["streams"] == [stream_of(fd) for fd in (1, 2)]
            answer["group"] = {group: "the first", os.getpid(): "its own"}[answer["group"]]
            print(name, json.dumps(answer))
