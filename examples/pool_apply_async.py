# Pool.apply_async(): submit a task and go on. get() of the AsyncResult waits for the task's result.
#
# The two tasks here wait for each other at a barrier, so they can only end if they run at the same time. apply() waits
# for the first task before the second is submitted. With apply(), these tasks would never meet.
"""
Submitted: left, right
left met the other task
right met the other task
Called back with: left, right
"""

import multiprocessing


def keep_barrier(shared):
    # Runs once in each worker, when it starts. A barrier can be passed to a process that starts, but not with a task.
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
    # sorted(): the two results come in any order. The callback is called before get() returns.
    print("Called back with:", ", ".join(sorted(called_back)))
