"""Keeps the figures of one machine in a JSON file, row by row; computes medians, spreads and ratios."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class OtherMachine(Exception):
    """The file has figures of another machine or interpreter, with which new figures cannot be compared."""


@dataclass
class Spread:
    """The median of some values, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        import statistics  # here, so that subjects do not import it: it imports random, which each fork seeds again

        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


class Results:
    """The measurements, by row and library, in the order of the repetitions."""

    def __init__(self, path: Path, machine: dict[str, str]):
        """Read the file at path, if it exists. Raises OtherMachine if it has figures of another machine."""
        self._path = path
        self._content: dict[str, Any] = {"machine": machine, "versions": {}, "rows": {}, "parts": {}}
        if path.exists():
            self._content = json.loads(path.read_text())
            if machine and self._content["machine"] != machine:
                raise OtherMachine(f"{path} has figures of another machine or interpreter: remove it, or name another")

    @property
    def machine(self) -> dict[str, str]:
        return self._content["machine"]

    @property
    def versions(self) -> dict[str, str]:
        return self._content["versions"]

    @property
    def rows(self) -> dict[str, dict]:
        return self._content["rows"]

    @property
    def parts(self) -> dict[str, dict[str, list[float]]]:
        """The seconds of each step, by the name of the measurement (report.PARTS), and by the name of the step."""
        return self._content["parts"]

    def put_parts(self, name: str, measured: dict[str, list[float]]) -> None:
        """Replace the steps of one measurement, and write the file."""
        self.parts[name] = measured
        self._write()

    def put(
        self, row: str, title: str, measured: dict[str, list], failed: dict[str, str], versions: dict[str, str]
    ) -> None:
        """Replace a row's figures, and write the file. title: describes the work that was measured."""
        self.rows[row] = {"title": title, "when": round(time.time()), "measured": measured, "failed": failed}
        self.versions.update(versions)
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(self._content, indent=1))
        os.replace(temporary, self._path)

    def libraries(self, row: str) -> list[str]:
        """Return the libraries that have figures at a row."""
        return list(self.rows.get(row, {"measured": {}})["measured"])

    def failed(self, row: str) -> dict[str, str]:
        return self.rows.get(row, {"failed": {}})["failed"]

    def spread(self, row: str, library: str, clock: str = "seconds") -> Spread:
        """Return the spread of a library's measurements, in seconds. clock: a field of work.Measurement."""
        return Spread.of([each[clock] for each in self.rows[row]["measured"][library] if each])

    def ratio(self, row: str, library: str, to: str, clock: str = "seconds") -> Spread | None:
        """Return the spread of the ratios, time of `to` / time of library, of each repetition.

        None if one of the two has no figures.
        """
        measured = self.rows[row]["measured"]
        if library not in measured or to not in measured:
            return None
        pairs = zip(measured[library], measured[to], strict=True)
        ratios = [theirs[clock] / ours[clock] for ours, theirs in pairs if ours and theirs and ours[clock] > 0]
        return Spread.of(ratios) if ratios else None
