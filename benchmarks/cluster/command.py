"""The command `python -m benchmarks cluster`: measures, and writes docs/plots/cluster.json and the tables."""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

from .. import machine
from ..alternation import ROOT, alternate
from ..figures import Figures
from ..results import Results
from . import peers, report
from .rows import ROWS

RESULTS = ROOT / "build" / "bench" / "cluster.json"
FIGURES = ROOT / "docs" / "plots" / "cluster.json"
PAGE = ROOT / "docs" / "benchmarks-cluster.md"
SUBJECT = Path(__file__).with_name("subject.py")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", metavar="ROW,...", default="*", help="only these rows; * and ? are wildcards")
    parser.add_argument("--peers", metavar="LIBRARY,...", default=",".join(peers.KINDS), help="only these libraries")
    parser.add_argument("--repetitions", type=int, help="for all rows")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="the file of the figures")
    parser.add_argument("--no-write", action="store_true", help="leave the documentation as it is")
    parser.add_argument("--write", action="store_true", help="only write the documentation, from the measurements")
    parser.add_argument("--list", action="store_true", help="only print the names of the rows")


def measure(options: argparse.Namespace, chosen, tell) -> int:
    """Measure the rows; print a line for each. chosen, tell: functions of ../__main__.py."""
    rows = chosen(options.only, list(ROWS.values()))
    if options.list:
        print("\n".join(f"{row.name:<18}{row.title}" for row in rows))
        return 0
    if options.write:
        return put(Results(options.results, {}))
    libraries = installed(options.peers)
    results = Results(options.results, machine.describe())
    versions = machine.versions({"goproc", *(peers.KINDS[library].package for library in libraries)} & PACKAGES)
    began = time.monotonic()
    print(report.heading(libraries))
    for row in rows:
        able = [library for library in libraries if row.can(library)]
        if not able:
            continue
        repetitions = options.repetitions or row.repetitions
        with temporary_folder():
            outcome = alternate(row.name, able, 1, repetitions, row.limit, tell(row), SUBJECT)
        results.put(row.name, row.title, outcome.measured, outcome.failed, versions)
        print(report.line(row, results, libraries), flush=True)
        for library, why in outcome.failed.items():
            print(f"    {library} failed: {why}")
    print(f"\n{time.monotonic() - began:.0f} s; figures in {options.results}")
    return 0 if options.no_write else put(results)


def put(results: Results) -> int:
    """Put measurements into the published figures, and write the tables."""
    figures = Figures(FIGURES)
    figures.take(results, {row.name: row.title for row in ROWS.values()})
    figures.write()
    write()
    return 0


@contextlib.contextmanager
def temporary_folder():
    """Have the subjects put their temporary files into a folder that is removed, also if they are killed."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="goproc-bench-", ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before


def write() -> int:
    """Write the tables again, from the published figures. Returns the number of tables."""
    return report.write(Figures(FIGURES), PAGE) if FIGURES.exists() else 0


PACKAGES = {"goproc", "distributed", "ray"}


def installed(libraries: str) -> list[str]:
    """Return the libraries that are installed; print the names of the others."""
    present = []
    for library in libraries.split(","):
        if library not in peers.KINDS:
            sys.exit(f"no such library: {library} (there are: {', '.join(peers.KINDS)})")
        if peers.is_installed(library):
            present.append(library)
        else:
            print(f"{library} is not installed, and is left out", file=sys.stderr)
    return present
