"""Has no `if __name__ == "__main__"`: with spawn and forkserver its child imports it, and must not start a child."""

import multiprocessing
import sys


def greet():
    print("hello")


if len(sys.argv) > 1:
    multiprocessing.set_start_method(sys.argv[1])
process = multiprocessing.Process(target=greet)
process.start()
process.join()
sys.exit(process.exitcode)
