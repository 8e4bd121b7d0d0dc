"""Starts processes after each change of this thread's rights: rights.py LIBRARY METHOD HOW.

Each line names the change, and how the children's rights differ from those of the thread that started them. HOW:
"stepwise" starts children after each change; "once" after all changes. "thread" makes all changes in a thread, and
starts one child there, and one in the main thread. "refused" refuses, one after the other, each system call that
starting a child needs, and starts a child each time.
"""

import ctypes
import errno
import importlib
import json
import os
import platform
import resource
import struct
import sys
import tempfile
import threading
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "x86_64": {
        "ioprio_set": 251,
        "ioprio_get": 252,
        "set_mempolicy": 238,
        "get_mempolicy": 239,
        "keyctl": 250,
        "capset": 126,
    }
    | {"getpgid": 121, "sched_getattr": 315},
    "aarch64": {
        "ioprio_set": 30,
        "ioprio_get": 31,
        "set_mempolicy": 237,
        "get_mempolicy": 236,
        "keyctl": 219,
        "capset": 91,
    }
    | {"getpgid": 155, "sched_getattr": 275},
}[platform.machine()] | {"landlock_create_ruleset": 444, "landlock_restrict_self": 446}
CAP_DAC_OVERRIDE, CAP_SYS_BOOT = 1, 22
REFUSED_ONE_BY_ONE = [436, 58] if platform.machine() == "x86_64" else [436]  # close_range; vfork, where there is one
REFUSED = 77  # an errno that nothing else gives


def call(number, *args):
    arguments = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    result = LIBC.syscall(ctypes.c_long(NUMBERS[number]), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), number)
    return result


def prctl(option, *args):
    result = LIBC.prctl(option, *[ctypes.c_ulong(a) if isinstance(a, int) else a for a in (*args, 0, 0, 0, 0)[:4]])
    if result < 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
    return result


def attempt(function, *args):
    try:
        return str(function(*args))
    except OSError as error:
        return f"errno {error.errno}"


def memory_policy():
    mode, mask = ctypes.c_int(), (ctypes.c_ulong * 64)()
    call("get_mempolicy", ctypes.byref(mode), mask, 4096, 0, 0)
    return mode.value, mask[0]


def scheduling():
    attributes = ctypes.create_string_buffer(56)
    call("sched_getattr", 0, attributes, 56, 0)
    policy, nice, priority = struct.unpack_from("<4xI8xiI", attributes)
    return policy, nice, priority


def made_folder():
    path = tempfile.mktemp(dir="/tmp")
    os.mkdir(path)
    os.rmdir(path)


def state():
    """What programs inherit, as this thread has it."""
    content = Path("/proc/thread-self/status").read_text()
    status = dict(line.split(":\t", 1) for line in content.splitlines() if ":\t" in line)
    names = "Umask Uid Gid Groups NSpgid NSsid CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters"
    found = {name: status.get(name) for name in (*names.split(), "Cpus_allowed", "Mems_allowed", "THP_enabled")}
    for space in ("cgroup", "ipc", "mnt", "net", "time_for_children", "user", "uts"):
        found[space] = attempt(os.readlink, f"/proc/thread-self/ns/{space}")
    for file in ("cgroup", "oom_score_adj"):
        found[file + " file"] = attempt(Path(f"/proc/thread-self/{file}").read_text)
    found["core dumps"] = attempt(Path("/proc/self/coredump_filter").read_text)  # threads have no such file
    found["limits"] = [resource.getrlimit(number) for number in range(16)]
    found["root"] = str(os.stat("/")[1:3])
    found["scheduling"] = attempt(scheduling)
    found["I/O priority"] = attempt(call, "ioprio_get", 1, 0)
    found["memory policy"] = attempt(memory_policy)
    found["session keyring"] = attempt(call, "keyctl", 0, -3, 0)
    found["personality"] = LIBC.personality(ctypes.c_ulong(0xFFFFFFFF))
    found["secure bits"] = attempt(prctl, 27)
    found["timer slack"] = attempt(prctl, 30)
    found["Landlock"] = attempt(made_folder)
    found["seccomp"] = attempt(call, "getpgid", 0)[:8]  # a number, or the error
    found["seccomp"] = found["seccomp"] if found["seccomp"].startswith("errno") else "allowed"
    return found


def set_capabilities(permitted, inheritable):
    low = [permitted & 0xFFFFFFFF, permitted & 0xFFFFFFFF, inheritable]
    high = [permitted >> 32, permitted >> 32, 0]
    call("capset", struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *low, *high))


def permitted():
    content = Path("/proc/thread-self/status").read_text()
    return int(content.split("CapPrm:\t")[1].split()[0], 16)


def change_user():
    bits = 1 << CAP_DAC_OVERRIDE  # so that the interpreter is found
    set_capabilities(permitted(), bits)
    prctl(47, 2, CAP_DAC_OVERRIDE)  # ambient
    prctl(28, 1 << 2)  # no changes of capabilities with the user
    os.setgroups([3, 65534])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


def refuse(number, error=REFUSED):
    """Have the kernel answer the system call with the error."""
    load, jump, answer = 0x20, 0x15, 0x06
    code = [(load, 0, 0, 0), (jump, 0, 1, number), (answer, 0, 0, 0x50000 | error), (answer, 0, 0, 0x7FFF0000)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    head = ctypes.create_string_buffer(struct.pack("H6xQ", len(code), ctypes.addressof(program)))
    prctl(22, 2, ctypes.byref(head))


def refuse_getpgid():
    refuse(NUMBERS["getpgid"])


def make_no_folders():
    make_folder = struct.pack("Q", 1 << 7)
    ruleset = call("landlock_create_ruleset", make_folder, len(make_folder), 0)
    call("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)


def unshare(flags):
    if LIBC.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")


#: Rights that are given up last are needed for those before.
CHANGES = {
    "umask": lambda: os.umask(0o037),
    "limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1])),
    "nice": lambda: os.nice(3),
    "policy": lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)),
    "affinity": lambda: os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]),
    "I/O priority": lambda: call("ioprio_set", 1, 0, 2 << 13 | 6),
    "timer slack": lambda: prctl(29, 70_000),
    "memory policy": lambda: call("set_mempolicy", 3, struct.pack("Q", 1), 64),
    "personality": lambda: LIBC.personality(ctypes.c_ulong(0x0040000)),
    "oom": lambda: Path("/proc/self/oom_score_adj").write_text("500"),
    "core dumps": lambda: Path("/proc/self/coredump_filter").write_text("0x1"),
    "session keyring": lambda: call("keyctl", 1, 0),
    "names of the machine": lambda: unshare(0x04000000),
    "other namespaces": lambda: unshare(0x08000000 | 0x40000000 | 0x00020000 | 0x02000000),
    "time": lambda: unshare(0x00000080),
    "group of processes": os.setpgrp,
    "Landlock": make_no_folders,
    "second Landlock": make_no_folders,
    "capability bound": lambda: prctl(24, CAP_SYS_BOOT),
    "capability": lambda: set_capabilities(permitted() & ~(1 << CAP_SYS_BOOT), 0),
    "user": change_user,
    "no new privileges": lambda: prctl(38, 1),
    "Landlock without privileges": make_no_folders,
    "seccomp": refuse_getpgid,
    "second seccomp": refuse_getpgid,
}


def report(own, name):
    found = state()
    different = {key: (own[key], found[key]) for key in own if json.dumps(own[key]) != json.dumps(found[key])}
    print(name, json.dumps(different), flush=True)


def start(context, name, target=report):
    process = context.Process(target=target, args=(state(), name))
    process.start()
    process.join()


def main(library, method, how):
    context = importlib.import_module(library).get_context(method)
    if how == "refused":
        prctl(38, 1)
        for number in REFUSED_ONE_BY_ONE:
            refuse(number, errno.EPERM)
            start(context, f"without system call {number}")
        return
    # Those that change a right once the engine is loaded, and the spawn server runs. The fork server does not run.
    for _ in range(2):
        earlier = importlib.import_module(library).get_context("spawn").Process(target=int)
        earlier.start()
        earlier.join()

    def change_all(after_each):
        for name, change in CHANGES.items():
            if how == "thread" and name == "user":
                continue  # the C library changes it in all threads
            outcome = attempt(change)
            name = f"{name} ({outcome})" if outcome.startswith("errno") else name
            after_each(name)

    def from_thread():
        change_all(lambda name: None)
        start(context, "thread")

    if how == "thread":
        before = state()
        thread = threading.Thread(target=from_thread)
        thread.start()
        thread.join()
        start(context, "main")
        changed = [name for name in before if before[name] != state()[name]]
        print("main thread has new", json.dumps(changed), flush=True)
    elif how == "once":
        change_all(lambda name: print("changed", name, flush=True))
        for _ in range(2):
            start(context, "all")
    else:
        change_all(lambda name: [start(context, name) for _ in range(3)])


if __name__ == "__main__":
    main(*sys.argv[1:])
