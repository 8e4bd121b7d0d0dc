"""Runs pytest twice at the same time, each with half of the tests: shares.py ARGUMENT ...

Most tests wait for processes, so one pytest leaves processors idle. Each test is in one process, as with a single
pytest. pytest-xdist does the same, but its processes have a thread more: from Python 3.12 on forking would warn of it.

The first share's output is shown as it comes, the other's after it. The exit status is that of the first share that
failed, or pytest's 5 if no share had a test.
"""

import subprocess
import sys
import tempfile

SHARES = 2
NO_TESTS = 5  # pytest's exit status


def main(arguments):
    """Run all shares with these arguments of pytest; return the exit status."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:

        def command(number):
            # Each share has a folder of its own: at its end, pytest removes old files of others in the usual folder.
            own = [f"--share={number}/{SHARES}", f"--basetemp={folder}/{number}"]
            return [sys.executable, "-m", "pytest", *own, *arguments]

        others = [
            subprocess.Popen([*command(number), "-q"], stdout=output, stderr=output) for number in range(2, SHARES + 1)
        ]
        try:
            statuses = [subprocess.run(command(1)).returncode]
        except KeyboardInterrupt:  # the others have got the signal, too
            statuses = [130]
        statuses += [other.wait() for other in others]
        output.seek(0)
        sys.stdout.write(output.read().decode(errors="replace"))
    if set(statuses) == {NO_TESTS}:
        return NO_TESTS
    return next((status for status in statuses if status not in (0, NO_TESTS)), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
