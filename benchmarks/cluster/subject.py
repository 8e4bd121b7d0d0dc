"""The process in which one library is measured at one row: subject.py LIBRARY ROW

It starts machines of its own, does a little work to warm up, and then does the row's work for each line on its standard
input. Each time it prints the measurement as a line of JSON. ../alternation.py starts it.
"""

import json
import os
import sys
from dataclasses import asdict

from benchmarks.cluster import peers, rows


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # so that the output of a library does not mix with the answers
    peer = peers.KINDS[sys.argv[1]]()
    row = rows.ROWS[sys.argv[2]]
    peer.start(row.machines)
    try:
        row.open(peer)
        print(json.dumps(asdict(row.warm_up(peer))), file=answers)
        for _ in sys.stdin:
            print(json.dumps(asdict(row.once(peer))), file=answers)
        row.close(peer)
    finally:
        peer.end()


if __name__ == "__main__":
    main()
