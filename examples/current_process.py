# Identifying the current process: current_process() returns the Process object of the process that calls it.
"""
MainProcess has PID <main pid>
Process-1 has PID <child pid>; its parent MainProcess has PID <main pid>
courier has PID <other pid>; its parent MainProcess has PID <main pid>
"""

import multiprocessing


def identify():
    process = multiprocessing.current_process()
    parent = multiprocessing.parent_process()
    print(f"{process.name} has PID {process.pid}; its parent {parent.name} has PID {parent.pid}")


if __name__ == "__main__":
    main = multiprocessing.current_process()
    print(f"{main.name} has PID {main.pid}")
    for name in (None, "courier"):
        process = multiprocessing.Process(target=identify, name=name)
        process.start()
        process.join()
