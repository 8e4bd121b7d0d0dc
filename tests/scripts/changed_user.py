"""A program that starts as root, and becomes nobody: changed_user.py METHOD"""

import os
import sys
import time

import goproc
from goproc import pool  # noqa: F401 - nobody may not read the modules

NOBODY = 65534


def succeed(value):
    return value + 1


def pid_of(_):
    return os.getpid()


def main(method):
    context = goproc.get_context(method)
    used, busy = context.Pool(2), context.Process(target=time.sleep, args=(3600,))
    while len(set(used.map(pid_of, range(10), 1))) < 2:
        pass  # one that still comes up cannot end by itself
    busy.start()
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, -1)
    os.setresuid(NOBODY, NOBODY, 0)  # root can be had back
    assert used.map(succeed, [2]) == [3]
    used.terminate()  # its workers, which may not be sent signals, end by themselves
    used.join()
    for send in (busy.terminate, busy.kill):
        try:
            send()
        except PermissionError as error:
            assert "kill" in str(error), error
        else:
            raise AssertionError("a stranger's process was sent a signal")
    assert busy.is_alive()
    if method == "forkserver":  # its server would give a child root's rights
        try:
            context.Process(target=succeed, args=(1,)).start()
        except PermissionError as error:
            assert f"started by user 0, and this process is user {NOBODY} now" in str(error), error
        else:
            raise AssertionError("the child has root's rights")
    if method == "fork":
        daemon = context.Process(target=succeed, args=(1,), daemon=True)
        daemon.start()
        daemon.join()
        assert daemon.exitcode == 0, daemon.exitcode
        with context.Pool(2) as another:
            assert another.map(succeed, range(4)) == [1, 2, 3, 4]
    os.setresuid(0, 0, 0)
    another = context.Process(target=succeed, args=(1,))
    another.start()
    another.join()
    assert another.exitcode == 0, another.exitcode
    busy.kill()
    busy.join()
    assert busy.exitcode == -9, busy.exitcode
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
