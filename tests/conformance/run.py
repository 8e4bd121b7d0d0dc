"""Runs CPython's own tests of multiprocessing on goproc; see ``--help`` and the package goproc_conformance."""

import sys

from goproc_conformance.cli import main

if __name__ == "__main__":
    sys.exit(main())
