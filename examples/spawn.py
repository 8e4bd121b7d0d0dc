# Creating a process with spawn: each process is a new interpreter.
#
# The new interpreter imports this file under another name. So it sees what the import does, but not what the main
# program did later. The last part stands below `if __name__ == "__main__"`, so the children do not run it: otherwise
# each child would try to start children.
"""
This is process: 0. It sees the list: at import
This is process: 1. It sees the list: at import
This is process: 2. It sees the list: at import
The main program sees the list: at import, by the main program
"""

import multiprocessing

filled = ["at import"]


def show_list(number):
    print(f"This is process: {number}. It sees the list: {', '.join(filled)}")


if __name__ == "__main__":
    filled.append("by the main program")
    spawn = multiprocessing.get_context("spawn")
    for number in range(3):
        process = spawn.Process(target=show_list, args=(number,))
        process.start()
        process.join()
    print(f"The main program sees the list: {', '.join(filled)}")
