"""The process in which one library is measured at one row: PYTHONPATH=. python benchmarks/subject.py LIBRARY ROW

For each line on its standard input it does the row's work once and prints what that took, as a line of JSON; before,
once, without a line, to warm up. At the end of its input it ends its pool and itself. alternation.py starts it.

As a user's program, it is a script; and the library is imported at the top, so that a spawned child, which imports the
main module again, pays for that import. All else is imported by main(), so that it does not pay for the benchmark.
"""

import sys

from benchmarks import peers

peer = peers.load(sys.argv[1])


def main():
    import json
    import os
    from dataclasses import asdict

    from benchmarks import growth, work

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    row = {**work.ROWS, **growth.ROWS}[sys.argv[2]]
    row.open(peer)
    print(json.dumps(asdict(row.warm_up(peer))), file=answers)
    for _ in sys.stdin:
        print(json.dumps(asdict(row.once(peer))), file=answers)
    row.close(peer)


if __name__ == "__main__":
    main()
