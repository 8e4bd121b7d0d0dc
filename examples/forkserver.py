# Creating a process with a fork server: the first start() starts the server, which then forks each process on request.
#
# So the parent of all these processes is the server, not the main program.
"""
This is process: 0
This is process: 1
This is process: 2
Forked by the main program: no
Forked by one and the same server: yes
"""

import multiprocessing
import os


def report_parent(number, parents):
    print(f"This is process: {number}")
    parents.put(os.getppid())


if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    parents = context.SimpleQueue()
    for number in range(3):
        process = context.Process(target=report_parent, args=(number, parents))
        process.start()
        process.join()

    pids = {parents.get() for _ in range(3)}
    print("Forked by the main program:", "yes" if os.getpid() in pids else "no")
    print("Forked by one and the same server:", "yes" if len(pids) == 1 else "no")
