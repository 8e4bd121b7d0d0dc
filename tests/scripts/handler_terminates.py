"""Blocks in the given call; a signal handler terminates the pool. Prints what the call returns or raises."""

import signal
import sys

import blocking

import goproc


def main(method, call):
    pool = goproc.get_context(method).Pool(2)
    pool.map(abs, range(2))
    signal.signal(signal.SIGALRM, lambda *_: pool.terminate())
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        returned = blocking.CALLS[call](pool, blocking.sleep)
        print(returned[-1] if call == "join" else returned)
    except Exception as error:
        print(type(error).__name__)
    pool.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
