# Terminating a process: terminate() ends it at once, in the middle of its function.
"""
Starting function
The process is alive: True
Terminating the process
The process is alive: False
It was ended by SIGTERM
"""

import multiprocessing
import signal
import time


def slow(started):
    print("Starting function", flush=True)
    started.set()
    time.sleep(600)
    print("Finished function")


if __name__ == "__main__":
    started = multiprocessing.Event()
    process = multiprocessing.Process(target=slow, args=(started,))
    process.start()
    started.wait()
    print("The process is alive:", process.is_alive())

    print("Terminating the process")
    process.terminate()
    process.join()
    print("The process is alive:", process.is_alive())
    # A negative exit code -N means that signal N ended the process.
    print("It was ended by", signal.Signals(-process.exitcode).name)
