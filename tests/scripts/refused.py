"""A program in which a system call is refused, as by an old container runtime: refused.py CALL ERROR METHOD [killed]

CALL: names of NUMBERS, with "+" between them, or "none". ERROR: such as ENOSYS. This program sets filters (seccomp(2)),
which its children inherit. With "killed" it prints the pids of a daemon and of a pool's workers, and is killed.
"""

import ctypes
import errno
import os
import platform
import signal
import struct
import sys
import time

#: The numbers of the calls on x86-64 and aarch64, and the argument that is looked at, with the value that is refused.
NUMBERS = {
    "pidfd_open": (434, 434, None),
    "pidfd_send_signal": (424, 424, None),
    "waitid": (247, 95, None),
    "memfd_create": (319, 279, None),
    "fcntl F_SETSIG": (72, 25, (1, 10)),
    "fcntl F_ADD_SEALS": (72, 25, (1, 1033)),
    "eventfd2": (290, 19, None),
    "sigaltstack": (131, 132, None),
    "epoll_create1": (291, 20, None),
    "close_range": (436, 436, None),
    "sched_getaffinity": (204, 123, None),
    "clone3": (435, 435, None),
    "prctl PR_GET_TID_ADDRESS": (157, 167, (0, 40)),
    "fallocate": (285, 47, None),
    "ftruncate": (77, 46, None),
    "kill": (62, 129, None),
    "madvise": (28, 233, None),
    "sendmsg": (46, 211, None),
    "recvfrom": (45, 207, None),
}

_SET_NO_NEW_PRIVS, _SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL_WITH = 0x7FFF0000, 0x00050000


def refuse(call, error):
    """Have the kernel refuse the call from now on."""
    x86_64, aarch64, argument = NUMBERS[call]
    number = {"x86_64": x86_64, "aarch64": aarch64}[platform.machine()]
    program = [(_LOAD, 0, 0, 0), (_IF_EQUAL, 0, 3 if argument else 1, number)]
    if argument:
        program += [(_LOAD, 0, 0, 16 + 8 * argument[0]), (_IF_EQUAL, 0, 1, argument[1])]
    program += [(_RETURN, 0, 0, _FAIL_WITH | getattr(errno, error)), (_RETURN, 0, 0, _ALLOW)]
    code = b"".join(struct.pack("HBBI", operation, yes, no, value) for operation, yes, no, value in program)
    buffer = ctypes.create_string_buffer(code)
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_SET_SECCOMP, _MODE_FILTER, described, 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def succeed(value):
    return value + 1


def put(queue):
    queue.put("item")


def locks_and_queues(context):
    lock, event, queue = context.Lock(), context.Event(), context.Queue()
    with lock:
        process = context.Process(target=put, args=(queue,))
        process.start()
        assert queue.get(timeout=60) == "item"
        process.join()
    process = context.Process(target=event.set)
    process.start()
    assert event.wait(60)
    process.join()


def nested():
    import goproc

    with goproc.get_context("fork").Pool(1) as pool:
        assert pool.apply(succeed, (1,)) == 2


def main(call, error, method, end="done"):
    for each in call.split("+") if call != "none" else []:
        refuse(each, error)
    import goproc

    context = goproc.get_context(method)
    if end == "killed":
        daemon = context.Process(target=time.sleep, args=(3600,), daemon=True)
        daemon.start()
        pool = context.Pool(2)
        pool.map(succeed, range(4))
        print(daemon.pid, *[process.pid for process in pool._pool], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    for daemon in (False, True):
        processes = [context.Process(target=succeed, args=(1,), daemon=daemon) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0, process.exitcode
    process = context.Process(target=time.sleep, args=(3600,))
    process.start()
    assert process.is_alive()
    process.join(0.01)
    assert process.exitcode is None
    process.terminate()
    process.join()
    assert process.exitcode == -15, process.exitcode
    for options in ({}, {"maxtasksperchild": 1}):
        with context.Pool(4, **options) as pool:
            assert pool.map(succeed, range(20), chunksize=1) == list(range(1, 21))
            assert pool.apply(len, (b"x" * 1_000_000,)) == 1_000_000
            assert sorted(pool.imap_unordered(succeed, range(4))) == [1, 2, 3, 4]
        pool.join()
    locks_and_queues(context)
    with context.Manager() as manager:
        shared = manager.dict(key=b"x" * 100_000)
        assert len(shared["key"]) == 100_000
    process = context.Process(target=nested)
    process.start()
    process.join()
    assert process.exitcode == 0, process.exitcode
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
