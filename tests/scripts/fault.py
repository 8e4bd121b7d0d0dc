"""Receives a signal, and ends by it, or not: fault.py METHOD SIGNAL WHAT WHEN HOW [child]

WHAT: the program's reaction to the signal (nothing, handler, ignore, faulthandler). WHEN: whether the program sets it
before or after the engine is loaded. HOW: whether the signal is sent, or raised by a fault. child: a child receives the
signal, instead of the main program.
"""

import ctypes
import faulthandler
import os
import resource
import signal
import sys

import goproc

method, name, what, when, how, *child = sys.argv[1:]
number = signal.Signals[name]

PREPARATIONS = {
    "nothing": lambda: None,
    "handler": lambda: signal.signal(number, lambda *_: print("handled")),
    "ignore": lambda: signal.signal(number, signal.SIG_IGN),
    "default": lambda: signal.signal(number, signal.SIG_DFL),
    "faulthandler": faulthandler.enable,
}


def receive():
    if how == "fault":
        ctypes.string_at(0)
    elif how == "write":
        reader, writer = os.pipe()
        os.close(reader)
        try:
            os.write(writer, b"x")
        except BrokenPipeError:
            print("broken pipe")
    else:
        os.kill(os.getpid(), number)
    print("alive", flush=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    context = goproc.get_context(method)
    if when == "before":
        PREPARATIONS[what]()
    context.Pool(2).map(abs, range(10))
    if when == "after":
        PREPARATIONS[what]()
    if child:
        process = context.Process(target=receive)
        process.start()
        process.join()
        sys.exit(min(process.exitcode, 0))
    receive()
