# Pool.apply_async(): submit a task and go on; the result object has its result later.
#
# The two tasks here wait for each other at a barrier, so they can only end if they run at the same time. With
# apply(), which waits for the first before it submits the second, they never would.
"""
Submitted: left, right
left met the other task
right met the other task
Called back with: left, right
"""

import multiprocessing


def keep_barrier(shared):
    # Runs once in each worker, as it starts. A barrier can be given to a process, but not sent along with a task.
    global barrier
    barrier = shared


def meet(name):
    barrier.wait(timeout=30)
    return name


if __name__ == "__main__":
    called_back = []
    shared = multiprocessing.Barrier(2)
    with multiprocessing.Pool(processes=2, initializer=keep_barrier, initargs=(shared,)) as pool:
        results = [pool.apply_async(meet, (name,), callback=called_back.append) for name in ("left", "right")]
        print("Submitted: left, right")
        for result in results:
            print(result.get(), "met the other task")
    # Which of the two came first is chance. The callback has been called by the time get() returns.
    print("Called back with:", ", ".join(sorted(called_back)))
