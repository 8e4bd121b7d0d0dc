"""The command line: python -m benchmarks COMMAND (see __init__.py)."""

import argparse
import fnmatch
import importlib
import importlib.util
import signal
import sys
import time
from pathlib import Path

from . import growth, machine, report, work
from .alternation import ROOT, alternate
from .cluster import command as cluster
from .figures import Figures
from .peers import PEERS
from .results import OtherMachine, Results
from .rows import ROWS

RESULTS = ROOT / "build" / "bench" / "results.json"
QUICK_RESULTS = ROOT / "build" / "bench" / "quick.json"
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/guide/*.md"))]
PLOTS = ROOT / "docs" / "plots"
FIGURES = PLOTS / "figures.json"
FAULTS = PLOTS / "faults.json"
QUICK_PEERS = ("goproc", "multiprocessing")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure goproc against its peers.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure everything: some 25 minutes")
    quick = commands.add_parser("quick", help="the tables' rows, goproc and multiprocessing only: under two minutes")
    for command, peers, path in ((run, PEERS, RESULTS), (quick, QUICK_PEERS, QUICK_RESULTS)):
        command.add_argument("--only", metavar="ROW,...", default="*", help="only these rows; * and ? are wildcards")
        command.add_argument("--peers", metavar="LIBRARY,...", default=",".join(peers), help="only these libraries")
        command.add_argument("--rounds", type=int, help="how often the libraries are started again, for all rows")
        command.add_argument("--repetitions", type=int, help="repetitions in each round, for all rows")
        command.add_argument("--results", type=Path, default=path, metavar="FILE", help="the file of the figures")
        command.add_argument("--list", action="store_true", help="only print the names of the rows")
    parts = commands.add_parser("parts", help="measure the steps of a pool's task, of Pipe and Queue, and of a start")
    parts.add_argument("--repetitions", type=int, default=7)
    parts.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="the file of the figures")
    parts.add_argument("--only", choices=report.PARTS, help="measure only these steps")
    progress = commands.add_parser("progress", help="measure what progress= costs: maps with and without it, in turn")
    progress.add_argument("--repetitions", type=int, default=101, help="pairs of maps")
    cluster.add_arguments(commands.add_parser("cluster", help="goproc.cluster against Dask and Ray: some 20 minutes"))
    write = commands.add_parser("report", help="put the measurements into the documentation: figures, tables, plots")
    write.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    commands.add_parser("plots", help="write the documentation's tables and plots again, without new measurements")
    return parser.parse_args(arguments)


def chosen(patterns: str, rows: list[work.Row]) -> list[work.Row]:
    """Return the rows whose names match any of the patterns. Exits if a pattern matches no row."""
    names = [row.name for row in rows]
    wanted: set[str] = set()
    for pattern in patterns.split(","):
        if not (found := fnmatch.filter(names, pattern)):
            sys.exit(f"no such row: {pattern} (there are: {', '.join(names)})")
        wanted.update(found)
    return [row for row in rows if row.name in wanted]


def installed(libraries: str) -> list[str]:
    """Return the libraries that are installed; print the names of the others."""
    present = []
    for library in libraries.split(","):
        if library not in PEERS:
            sys.exit(f"no such library: {library} (there are: {', '.join(PEERS)})")
        if importlib.util.find_spec(library) is None:
            print(f"{library} is not installed, and is left out", file=sys.stderr)
        else:
            present.append(library)
    return present


def tell(row: work.Row):
    """Return a function that shows the progress on a terminal."""
    if not sys.stderr.isatty():
        return lambda text: None
    return lambda text: print(f"\r\033[K{row.name}: {text}", end="\r", file=sys.stderr, flush=True)


def measure(options: argparse.Namespace) -> int:
    """Measure the chosen rows; print each line of the table when it is measured."""
    rows = list(ROWS.values())
    if options.command == "run":
        rows += growth.ROWS.values()
    rows = chosen(options.only, rows)
    if options.list:
        print("\n".join(f"{row.name:<24}{row.title}" for row in rows))
        return 0
    libraries = installed(options.peers)
    results = Results(options.results, machine.describe())
    versions = machine.versions(libraries)
    began = time.monotonic()
    print(report.heading(libraries))
    for row in rows:
        able = [library for library in libraries if row.can(library) and growth.affordable(row, library, results)]
        rounds = options.rounds or row.rounds or 1
        repetitions = options.repetitions or row.repetitions or 5
        outcome = alternate(row.name, able, rounds, repetitions, row.limit, tell(row))
        results.put(row.name, row.title, outcome.measured, outcome.failed, versions)
        print(report.line(row, results, libraries), flush=True)
        for library, why in outcome.failed.items():
            print(f"    {library} failed: {why}")
    print(f"\n{report.shortfalls(rows, results)}\n{time.monotonic() - began:.0f} s; figures in {options.results}")
    return 0


def take_apart(options: argparse.Namespace) -> int:
    """Measure the steps of a pool's task, of an object through a channel, and of starting a process."""
    results = Results(options.results, machine.describe())
    for name in [options.only] if options.only else report.PARTS:
        module, function = report.PARTS[name]
        measure = getattr(importlib.import_module(f"benchmarks.{module}"), function)
        results.put_parts(name, measure(options.repetitions))
        print(f"{name}\n{report.parts_lines(name, results)}\n")
    return 0


def put(path: Path) -> int:
    """Put the measurements in a file into the published figures, and write the documentation."""
    if not path.exists():
        sys.exit(f"no figures in {path}: measure first (make bench)")
    figures = Figures(FIGURES)
    outdated = figures.take(Results(path, {}), titles())
    if outdated:
        print(f"left out, because these rows now stand for other work: {', '.join(outdated)}")
    figures.write()
    return write()


def titles() -> dict[str, str]:
    """Return the title of each row that has published figures, by its name."""
    return {row.name: row.title for row in [*ROWS.values(), *growth.ROWS.values()]}


def write() -> int:
    """Write the tables and plots of the documentation from the published figures."""
    from . import plots  # here, because only this needs matplotlib

    figures = Figures(FIGURES)
    count = report.write(figures, DOCUMENTS) + cluster.write()
    drawn = plots.write(figures, FAULTS, PLOTS)
    print(f"{count} tables in {len(DOCUMENTS)} files")
    print(f"plots: {', '.join(str(file.relative_to(ROOT)) for file in drawn)}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the finally clauses end the subjects
    try:
        if options.command == "progress":
            print(importlib.import_module("benchmarks.progress").measure(options.repetitions))
            return 0
        if options.command == "parts":
            return take_apart(options)
        if options.command == "cluster":
            return cluster.measure(options, chosen, tell)
        if options.command == "report":
            return put(options.results)
        if options.command == "plots":
            return write()
        return measure(options)
    except OtherMachine as error:
        sys.exit(str(error))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
