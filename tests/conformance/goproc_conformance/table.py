"""Writes the table of docs/compatibility.md from verdicts.

The rows of interpreters that were not part of the run are kept, so that each interpreter can be run by itself.
"""

import re
from pathlib import Path

from goproc_conformance import startup, suites

BEGIN = "<!-- conformance: begin, written by tests/conformance/run.py --update-docs -->"
END = "<!-- conformance: end -->"
HEADER = (
    "| Python | suite | start method | ran | passed | skipped | of them by multiprocessing too | excepted |"
    " failed | seconds |"
)
RULE = "|---|---|---|---:|---:|---:|---:|---:|---:|---:|"


class NoTable(Exception):
    """The document has no place for the table; the text names it."""


def update(path, verdicts):
    """Put the rows for the verdicts into the document, in place of the older rows. Raises NoTable."""
    path = Path(path)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise NoTable(f"{path} has no part between {BEGIN!r} and {END!r}")
    before, _, rest = text.partition(BEGIN)
    old, _, after = rest.partition(END)
    rows = {tuple(_cells(line)[:3]): line for line in old.splitlines() if re.match(r"\| \d", line)}
    for verdict in verdicts:
        if (
            verdict.mode == startup.GOPROC
            and verdict.suite in suites.SUITES
            and suites.exists(verdict.suite, verdict.method)
        ):
            rows[verdict.version, verdict.suite, verdict.method] = row(verdict)
    lines = [BEGIN, "", HEADER, RULE, *(rows[key] for key in sorted(rows, key=_order)), "", END]
    path.write_text(before + "\n".join(lines) + after, encoding="utf-8")


def row(verdict):
    """One row of the table."""
    key = f"| {verdict.version} | {verdict.suite} | {verdict.method} |"
    if verdict.missing:
        return f"{key} not installed | | | | | | |"
    failed = len(verdict.failed) + len(verdict.errors)
    return (
        f"{key} {verdict.ran} | {verdict.passed} | {len(verdict.skipped)} | {len(verdict.skipped_too)} |"
        f" {len(verdict.excepted)} | {failed} | {verdict.seconds:.0f} |"
    )


def _cells(line):
    return [cell.strip() for cell in line.strip("| \n").split("|")]


def _order(key):
    version, suite, method = key
    numbers = [int(part) for part in re.findall(r"\d+", version)]
    return numbers, suites.SUITES.index(suite), startup.START_METHODS.index(method)
