# Creating a process with fork: the child is a copy of its parent and goes on from the same line.
#
# os.fork() is the system call itself. multiprocessing's start method "fork" makes the same call, and then runs a
# function in the child. The child has a copy of everything that its parent had at that moment.
"""
PID of the parent process is: <parent pid>
PID of the child process is: <child pid>
ForkProcess-1 sees the list: at import, by the main program
"""

import multiprocessing
import os

filled = ["at import"]


def show_list():
    print(f"{multiprocessing.current_process().name} sees the list: {', '.join(filled)}")


def fork_by_hand():
    # Flush before the fork: the child gets a copy of the buffer of sys.stdout, and would print its text again.
    print(f"PID of the parent process is: {os.getpid()}", flush=True)
    pid = os.fork()
    if pid == 0:
        print(f"PID of the child process is: {os.getpid()}", flush=True)
        os._exit(0)  # not sys.exit: the child must not run the parent's exit functions
    os.waitpid(pid, 0)


if __name__ == "__main__":
    fork_by_hand()

    filled.append("by the main program")
    process = multiprocessing.get_context("fork").Process(target=show_list)
    process.start()
    process.join()
