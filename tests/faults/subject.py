"""One fault in one library: subject.py LIBRARY FAULT. Prints a line of JSON after each step.

    {"pids": [...]}                                       the workers, before the fault
    {"outcome": "<class of the exception>", "ms": 12}     of the faulty task; "result" if it returned
    {"others": 4}                                         how many of the four other tasks returned the right result
    {"usable": true}                                      whether the pool then runs another task

The caller must limit its time, because the library may hang. It exits without cleaning up, which may hang as well.
"""

import json
import os
import sys
import time

import functions
from libraries import open_pool

FAULTS = {
    "kill": functions.kill_self,
    "leave": functions.leave,
    "crash": functions.crash,
    "base exception": functions.raise_base,
    "sys.exit": functions.exit_normally,
    "exception not rebuilt": functions.raise_unbuildable,
    "result not rebuilt": functions.return_bomb,
    "lambda": functions.return_lambda,
}

OTHERS = 4


def say(**what):
    print(json.dumps(what), flush=True)


def outcome_of(get):
    try:
        get()
    except BaseException as error:
        wrapped = getattr(error, "exc", None)  # billiard's ExceptionWithTraceback
        return type(wrapped if isinstance(wrapped, BaseException) else error).__name__
    return "result"


def faulty_task(library, fault):
    pool = open_pool(library)
    warm = [pool.submit(functions.pid_and_wait, 0.1) for _ in range(2)]
    say(pids=sorted({get() for get in warm}))
    others = [pool.submit(functions.double, i) for i in range(OTHERS // 2)]
    begin = time.monotonic()
    bad = pool.submit(FAULTS[fault])
    try:
        others += [pool.submit(functions.double, i) for i in range(OTHERS // 2, OTHERS)]
    except Exception:
        pass  # the pool is broken already
    say(outcome=outcome_of(bad), ms=1000 * (time.monotonic() - begin))
    right = 0
    for i, get in enumerate(others):
        try:
            right += get() == 2 * i
        except BaseException:
            pass
    say(others=right)
    try:
        say(usable=pool.submit(functions.double, 21)() == 42)
    except BaseException:
        say(usable=False)


def faulty_initializer(library):
    begin = time.monotonic()
    say(
        outcome=outcome_of(lambda: open_pool(library, functions.fail).submit(functions.double, 1)()),
        ms=1000 * (time.monotonic() - begin),
    )


def to_be_killed(library, task):
    pool = open_pool(library)
    warm = [pool.submit(functions.pid_and_wait, 0.2) for _ in range(2)]
    pids = sorted({get() for get in warm})
    for _ in range(2):
        if task is not None:
            pool.submit(task)
    time.sleep(0.3)  # until they run
    say(pids=pids)
    time.sleep(120)


if __name__ == "__main__":
    library, fault = sys.argv[1:]
    sys.stderr = open(os.devnull, "w")
    if fault in FAULTS:
        faulty_task(library, fault)
    elif fault == "initializer":
        faulty_initializer(library)
    else:
        to_be_killed(library, functions.loop if fault == "killed busy" else None)
    os._exit(0)
