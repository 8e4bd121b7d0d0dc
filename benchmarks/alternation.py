"""Runs one row's work in one subject for each library, in turn: A B C A B C ..., so that all see the machine alike."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: A library that has had this many seconds in a round does no more than the least number of repetitions.
BUDGET = 12.0
LEAST = 2


def with_benchmarks() -> dict[str, str]:
    """Return the environment of a script of the benchmarks', which can import them."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


class Subject:
    """A process in which one library does one row's work (subject.py), in a session of its own.

    failure: why it does not do it, None as long as it does.
    """

    def __init__(self, library: str, row: str, limit: float):
        self.failure: str | None = None
        self.spent = 0.0
        self._limit = limit
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("subject.py"), library, row],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=with_benchmarks(),
            start_new_session=True,
        )

    def warm_up(self) -> None:
        """Wait until it has done the work for the first time."""
        self._answer()

    def repeat(self) -> dict | None:
        """Have the work done once more; return what was measured, or None if it fails."""
        if self.failure is not None:
            return None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # there will be no answer
            pass
        return self._answer()

    def _answer(self) -> dict | None:
        assert self._process.stdout is not None
        began = time.monotonic()
        if not select.select([self._process.stdout], [], [], self._limit)[0]:
            self._fail(f"not done after {self._limit:g} s")
            return None
        line = self._process.stdout.readline()
        self.spent += time.monotonic() - began
        if line:
            return json.loads(line)
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip().splitlines()
        self._fail(words[-1] if words else f"ended with status {self._process.wait()}")
        return None

    def _fail(self, why: str) -> None:
        self.failure = why
        self.kill()

    def end(self) -> None:
        """Let it end by itself, then end whatever is left of its session."""
        assert self._process.stdin is not None
        if self.failure is None:
            self._process.stdin.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def kill(self) -> None:
        """End it and whatever it has started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()


@dataclass
class Outcome:
    """What the libraries measured at a row: by their names, a list as long as there were repetitions.

    A repetition in which a library was passed over, because it takes long, is None.
    failed: why there is nothing of those that did not do the work.
    """

    measured: dict[str, list[dict | None]]
    failed: dict[str, str]


def alternate(
    row: str, libraries: Iterable[str], rounds: int, repetitions: int, limit: float, tell: Callable[[str], None]
) -> Outcome:
    """Measure a row: in each of the rounds, new subjects do the work that many times in turn, after a warm-up each.

    limit: seconds that one repetition may take. tell is called with what goes on.
    """
    outcome = Outcome({library: [] for library in libraries}, {})
    for _ in range(rounds):
        subjects: dict[str, Subject] = {}
        try:
            for library in outcome.measured:
                tell(f"{library} warms up")
                subjects[library] = Subject(library, row, limit)
                subjects[library].warm_up()
            for number in range(repetitions):
                for library, subject in subjects.items():
                    tell(f"{library}, {number + 1} of {repetitions}")
                    passed_over = number >= LEAST and subject.spent > BUDGET
                    outcome.measured[library].append(None if passed_over else subject.repeat())
            for subject in subjects.values():
                subject.end()
        finally:
            for library, subject in subjects.items():
                subject.kill()
                if subject.failure is not None:
                    outcome.failed[library] = subject.failure
                    outcome.measured.pop(library, None)
    return outcome
