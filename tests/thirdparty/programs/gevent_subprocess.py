"""gevent: exit codes when its event loop reaps all children, as it does after the first use of subprocess."""

from gevent import monkey

monkey.patch_all()

import multiprocessing  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402


def leave(code):
    time.sleep(0.02 * (code % 3))
    sys.exit(code)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def main():
    for _ in range(5):
        processes = [multiprocessing.Process(target=leave, args=(code,)) for code in (0, 1, 3, 7, 255)]
        processes.append(multiprocessing.Process(target=die))
        for process in processes:
            process.start()
        subprocess.run(["sleep", "0.1"], check=True)
        for process in processes:
            process.join()
        print([process.exitcode for process in processes])


if __name__ == "__main__":
    main()
