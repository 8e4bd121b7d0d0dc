"""Checks that each signal has the effect that the program has set, with an engine loaded: every_signal.py METHOD WHERE

WHERE is "main", or "child": then a child checks it, and loads an engine of its own. Prints each error, and "end".
"""

import faulthandler
import os
import signal
import socket
import sys
import threading
import time

import goproc

CATCHABLE = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD})

#: Go's threads cannot be kept from unblocking these.
NEVER_BLOCKED = {"SIGBUS", "SIGFPE", "SIGSEGV"}

SENDERS = {
    "kill": lambda number: os.kill(os.getpid(), number),
    "raise": signal.raise_signal,
    "pthread_kill": lambda number: signal.pthread_kill(threading.get_ident(), number),
    "queue": lambda number: sigqueue(os.getpid(), number),
}


def sigqueue(pid, number):
    import ctypes

    ctypes.CDLL(None).sigqueue(pid, int(number), None)


def name(number):
    return getattr(number, "name", str(number))


def wrong(*what):
    print("wrong:", *map(str, what), flush=True)


def check_handlers(when):
    """Every signal is handled once each time, and the wakeup descriptor is told."""
    for number in CATCHABLE:
        for how, send in SENDERS.items():
            calls.clear()
            send(number)
            await_call(number)
            if calls != [number]:
                wrong(when, name(number), how, "handled as", calls)
    told = received()
    if sorted(told) != sorted([*map(int, CATCHABLE)] * len(SENDERS)):
        wrong(when, "the wakeup descriptor was told of", len(told))


def received():
    """Return what has been written to the other end of the reader."""
    parts = []
    while True:
        try:
            parts.append(reader.recv(4096))
        except BlockingIOError:
            return b"".join(parts)


def await_call(number):
    """Another thread may be the one that the kernel interrupts; Python calls the handler a moment later."""
    deadline = time.monotonic() + 5
    while not calls and time.monotonic() < deadline:
        pass


def check_ignored(when):
    for number in CATCHABLE:
        signal.signal(number, signal.SIG_IGN)
        for send in SENDERS.values():
            send(number)  # would end this process, or be told
        if signal.getsignal(number) is not signal.SIG_IGN:
            wrong(when, name(number), "is ignored no longer")
    set_handlers()


def check_blocked(when):
    """A signal that all threads of the program block stays pending, and sigwait() gets it."""
    calls.clear()
    numbers = [number for number in [*CATCHABLE, signal.SIGCHLD] if name(number) not in NEVER_BLOCKED]
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        os.kill(os.getpid(), number)
        if number not in signal.sigpending():
            wrong(when, name(number), "is not pending")
        elif signal.sigwait([number]) != number:
            wrong(when, name(number), "sigwait got another")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    if calls:
        wrong(when, "handled although blocked:", calls)


calls = []


def note(number, frame):
    calls.append(number)


def set_handlers():
    for number in CATCHABLE:
        signal.signal(number, note)


def check(context):
    global reader
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    set_handlers()
    check_handlers("without an engine")
    with context.Pool(2) as pool:
        pool.map(abs, range(100), 1)
        check_handlers("set before the engine was loaded")
        check_blocked("with an engine")
        check_ignored("with an engine")
        received()
        check_handlers("set after the engine was loaded")
        check_timer(pool)
        check_ended_children(context)
        faulthandler.register(signal.SIGUSR1, file=writer, all_threads=False, chain=True)
        calls.clear()
        os.kill(os.getpid(), signal.SIGUSR1)
        await_call(signal.SIGUSR1)
        if calls != [signal.SIGUSR1] or b"most recent call first" not in received():
            wrong("faulthandler.register", calls)
        faulthandler.unregister(signal.SIGUSR1)


def check_timer(pool):
    """A profiling timer is not lost to Go's threads."""
    ticks = []
    signal.signal(signal.SIGPROF, lambda *_: ticks.append(1))
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    for _ in range(2000):
        pool.map(abs, range(20), 1)
        if len(ticks) > 20:
            break
    else:
        wrong("SIGPROF came", len(ticks), "times")
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, note)


def check_ended_children(context):
    ended = []
    signal.signal(signal.SIGCHLD, lambda *_: ended.append(1))
    process = context.Process(target=os.abort)
    process.start()
    process.join()
    if process.exitcode != -signal.SIGABRT:
        wrong("exit code", process.exitcode)
    if context.get_start_method() == "fork" and not ended:
        wrong("SIGCHLD was not handled")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


if __name__ == "__main__":
    context = goproc.get_context(sys.argv[1])
    if sys.argv[2:] == ["child"]:
        context.Pool(1).map(abs, [1])  # a forked child inherits this engine, dead
        child = context.Process(target=check, args=[context])
        child.start()
        child.join()
        if child.exitcode:
            wrong("the child ended with", child.exitcode)
    else:
        check(context)
    print("end")
