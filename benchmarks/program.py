"""A small program, which is measured as a whole: PYTHONPATH=. python benchmarks/program.py LIBRARY START_METHOD"""

import sys

from benchmarks import peers


def main():
    from benchmarks import functions

    peer = peers.load(sys.argv[1])
    peer.open(2, sys.argv[2])
    peer.map(functions.nothing, list(range(10)))
    peer.close()


if __name__ == "__main__":
    main()
