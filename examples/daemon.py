# Daemon processes: at its end, the main program terminates its daemons, and waits for its other processes.
#
# The daemon here would run for ever. Only the daemon has the write end of a pipe. The worker reads from this pipe, so
# it gets an EOFError when the daemon is gone.
"""
Daemon: started, and will run for ever
Main program: starts the worker and has nothing more to do
Worker: started
Worker: the daemon is gone
Worker: finished
"""

import multiprocessing
import time


def run_for_ever(writer):
    print("Daemon: started, and will run for ever", flush=True)
    writer.send("started")
    while True:
        time.sleep(1)


def outlive_daemon(reader):
    print("Worker: started")
    try:
        reader.recv()
    except EOFError:
        print("Worker: the daemon is gone")
    print("Worker: finished")


if __name__ == "__main__":
    reader, writer = multiprocessing.Pipe(duplex=False)
    daemon = multiprocessing.Process(target=run_for_ever, args=(writer,))
    daemon.daemon = True
    daemon.start()
    writer.close()
    reader.recv()

    worker = multiprocessing.Process(target=outlive_daemon, args=(reader,))
    worker.daemon = False
    print("Main program: starts the worker and has nothing more to do")
    worker.start()
