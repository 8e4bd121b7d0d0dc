"""Run the slow checks that .ci/run leaves out, one after the other; `make check-weekly` calls this.

    python build_support/check_weekly.py TARGET ...

Each check is a target of the Makefile. When a check fails, or exceeds its time limit, the others still run. The last
lines say how each check ended, and how long it took. The exit status is 0 when all passed, 1 when one did not, 2 for a
target that is not a check.
"""

import os
import signal
import subprocess
import sys
import time

#: The checks, with their time limits in minutes: at least twice what a check takes on two processors.
LIMITS = {
    "chaos": 30,
    "chaos-cluster": 30,
    "faults": 30,
    "fuzz": 60,
    "sanitize": 90,
    "check-models": 20,
    "thirdparty": 90,
    "test-disabled": 240,
    "test-all": 300,
    "test-wheels": 120,
    "test-aarch64": 360,
}

#: Seconds that a check has, after its time limit, to print the stacks of its threads.
GRACE = 30


def main(targets):
    """Run the targets; return the exit status."""
    if unknown := [target for target in targets if target not in LIMITS]:
        print(f"check_weekly.py: no such check: {', '.join(unknown)}. There are: {', '.join(LIMITS)}", file=sys.stderr)
        return 2
    endings = {}
    for target in targets:
        print(f"\n=== make {target} ({time.strftime('%H:%M:%S', time.gmtime())})", flush=True)
        begin = time.monotonic()
        ending = run(target, 60 * LIMITS[target])
        endings[target] = f"{ending}, after {(time.monotonic() - begin) / 60:.1f} minutes"
    print()
    for target, ending in endings.items():
        print(f"make {target}: {ending}")
    return int(any(not ending.startswith("passed") for ending in endings.values()))


def run(target, limit):
    """Run one target for at most limit seconds; return how it ended, in a few words."""
    # An empty FAULTS_PAGE: a check must not change the documentation.
    command = [os.environ.get("MAKE", "make"), target, "FAULTS_PAGE="]
    # In a new session, so that all processes of the check can be ended at once.
    check = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        status = check.wait(limit)
    except subprocess.TimeoutExpired:
        end(check, signal.SIGABRT)  # pytest prints the stack of each thread
        return f"HANGS, ended after its limit of {limit / 60:g} minutes"
    except BaseException:
        end(check, signal.SIGTERM)
        raise
    return "passed" if status == 0 else f"FAILED with status {status}"


def end(check, signum):
    """Send the signal to all processes of a check, and SIGKILL to those that still run GRACE seconds later."""
    os.killpg(check.pid, signum)
    try:
        check.wait(GRACE)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(check.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    check.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
