# Pool.map_async(): map() that returns at once. Its callback is called once, with the list of all results.
#
# The tasks wait for an event that the main program sets after it has looked at the result object.
"""
Ready: False
Ready: True
Results: [0, 1, 4, 9, 16]
The callback added them up: 30
"""

import multiprocessing


def keep_event(shared):
    # Runs once in each worker, when it starts. An event can be passed to a process that starts, but not with a task.
    global may_run
    may_run = shared


def square(number):
    may_run.wait(timeout=30)
    return number * number


if __name__ == "__main__":
    sums = []
    shared = multiprocessing.Event()
    with multiprocessing.Pool(processes=4, initializer=keep_event, initargs=(shared,)) as pool:
        result = pool.map_async(square, range(5), callback=lambda squares: sums.append(sum(squares)))
        print("Ready:", result.ready())
        shared.set()
        result.wait()
        print("Ready:", result.ready())
        print("Results:", result.get())
    print("The callback added them up:", *sums)
