"""Poisons the engine while processes run: no process can be started, running ones can be ended, the program ends."""

import sys
import time

import goproc
from goproc._common import engine
from goproc.errors import EngineError


def sleep():
    time.sleep(60)


if __name__ == "__main__":
    context = goproc.get_context(sys.argv[1])
    process, daemon = context.Process(target=sleep), context.Process(target=sleep, daemon=True)
    process.start()
    daemon.start()
    for call in (lambda: engine.call("DebugPanic", "call"), context.Process(target=sleep).start):
        try:
            call()
        except EngineError as error:
            print(error)
    print(process.is_alive(), process.exitcode)
    process.terminate()
    process.join()
    print(process.exitcode)
    process.close()
    print(daemon.pid)
