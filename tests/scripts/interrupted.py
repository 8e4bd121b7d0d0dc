"""Waits in join(); a Ctrl-C raises KeyboardInterrupt there, and the program can go on."""

import signal
import sys
import time

import goproc


def sleep():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(60)


if __name__ == "__main__":
    process = goproc.get_context(sys.argv[1]).Process(target=sleep)
    process.start()
    print("started", flush=True)
    try:
        process.join()
    except KeyboardInterrupt:
        print("interrupted", process.is_alive())
        process.terminate()
        process.join()
        print(process.exitcode)
