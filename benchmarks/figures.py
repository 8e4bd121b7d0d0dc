"""The published figures: what the tables and plots of the documentation show, in docs/plots/figures.json.

`python -m benchmarks report` condenses the measurements (results.py) to medians and quartiles, and puts them into this
file. So the tables and plots can be made anew without measuring, and a run of some rows replaces those rows only.
"""

import json
import re
from pathlib import Path
from typing import Any

from .results import OtherMachine, Results, Spread

#: A trace of more samples makes the files large, and does not show more.
SAMPLES = 150


class Figures:
    """The figures of one machine: by row and library, and by step of a measurement."""

    def __init__(self, path: Path):
        """Read the file at path, if it exists."""
        self._path = path
        self._content: dict[str, Any] = {"machine": {}, "versions": {}, "rows": {}, "parts": {}}
        if path.exists():
            self._content = json.loads(path.read_text(encoding="utf-8"))

    @property
    def machine(self) -> dict[str, str]:
        return self._content["machine"]

    @property
    def versions(self) -> dict[str, str]:
        return self._content["versions"]

    def libraries(self, row: str) -> list[str]:
        """Return the libraries that have figures at a row."""
        return list(self._content["rows"].get(row, {"measured": {}})["measured"])

    def failed(self, row: str) -> dict[str, str]:
        return self._content["rows"].get(row, {"failed": {}})["failed"]

    def spread(self, row: str, library: str, clock: str = "seconds") -> Spread:
        """Return the spread of a library's measurements, in seconds. clock: a field of work.Measurement."""
        return Spread(*self._content["rows"][row]["measured"][library][clock])

    def points(self, row: str, library: str) -> dict[float, Spread]:
        """Return the points of a library's curve at a row whose measurements are growth.Curve."""
        points = self._content["rows"][row]["measured"][library]["points"]
        return {float(x): Spread(*values) for x, values in points.items()}

    def trace(self, row: str, library: str) -> dict[str, Any] | None:
        """Return the fields of a library's growth.Trace; None without one."""
        return self._content["rows"].get(row, {"measured": {}})["measured"].get(library)

    def part(self, name: str) -> dict[str, Spread]:
        """Return the steps of one measurement of report.PARTS, in seconds; empty without one."""
        return {what: Spread(*values) for what, values in self._content["parts"].get(name, {}).items()}

    def take(self, results: Results, titles: dict[str, str]) -> list[str]:
        """Put new measurements in the place of the old figures. Does not write the file.

        titles: the present titles, by row. A row with another title stands for other work, and is dropped; the names of
        dropped rows are returned. Raises OtherMachine if the figures are of another machine, and results lacks a row.
        """
        if self.machine and self.machine != results.machine:
            if missing := sorted(titles.keys() - results.rows.keys()):
                raise OtherMachine(
                    f"{self._path} has figures of another machine or interpreter. To replace them, measure all rows; "
                    f"these are missing: {', '.join(missing)}"
                )
            self._content = {"machine": {}, "versions": {}, "rows": {}, "parts": {}}
        self._content["machine"] = results.machine
        self._content["versions"] = {**self.versions, **results.versions}
        for name, row in results.rows.items():
            when = row.get("when", 0)
            if when >= self._content["rows"].get(name, {}).get("when", 0):  # else another clone has newer ones
                measured = {library: condensed(values) for library, values in row["measured"].items()}
                self._content["rows"][name] = {**row, "measured": measured}
        for name, steps in results.parts.items():
            self._content["parts"][name] = {what: three(values) for what, values in steps.items()}
        outdated = [name for name, row in self._content["rows"].items() if row["title"] != titles.get(name)]
        for name in outdated:
            del self._content["rows"][name]
        return outdated

    def write(self) -> None:
        """Write the file, each list of numbers on one line."""
        text = json.dumps(self._content, indent=1, ensure_ascii=False)
        text = re.sub(r"\[[^][{}\"]*\]", lambda numbers: " ".join(numbers[0].split()), text)
        self._path.write_text(text + "\n", encoding="utf-8")


def three(values: list[float]) -> list[float]:
    """Return the median and the quartiles of some values."""
    spread = Spread.of(values)
    return [float(f"{value:.6g}") for value in (spread.median, spread.low, spread.high)]


def condensed(measured: list[dict | None]) -> dict[str, Any]:
    """Return the repetitions of a library at a row as one: spreads, or of a growth.Trace fewer samples."""
    done = [each for each in measured if each]
    if "points" in done[0]:
        return {"points": {x: three([each["points"][x] for each in done]) for x in done[0]["points"]}}
    if "finished" not in done[0]:
        return {clock: three([each[clock] for each in done]) for clock in done[0]}
    (trace,) = done
    last = len(trace["seconds"]) - 1
    kept = [*range(0, last, last // SAMPLES + 1), last]
    columns = [name for name, values in trace.items() if isinstance(values, list)]
    thin = {name: [round(trace[name][place], 3) for place in kept] for name in columns}
    return {**thin, "peak": round(max(trace["memory"]), 3), "finished": trace["finished"]}
