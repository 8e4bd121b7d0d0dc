"""The process in which one library is measured at one row: PYTHONPATH=. python benchmarks/subject.py LIBRARY ROW

First it does the row's work once, to warm up. Then, for each line on its standard input, it does the work once. Each
time it prints the measurement as a line of JSON. At the end of its input it ends its pool and exits. alternation.py
starts it.

It is a script, like a user's program: its import only defines functions. main() imports all other modules, so that a
child does not pay for the benchmark.
"""

import sys

from benchmarks import peers


def main():
    import json
    import os
    from dataclasses import asdict

    from benchmarks import growth, rows

    peer = peers.load(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # so that the output of a library does not mix with the answers
    row = {**rows.ROWS, **growth.ROWS}[sys.argv[2]]
    row.open(peer)
    print(json.dumps(asdict(row.warm_up(peer))), file=answers)
    for _ in sys.stdin:
        print(json.dumps(asdict(row.once(peer))), file=answers)
    row.close(peer)


if __name__ == "__main__":
    main()
