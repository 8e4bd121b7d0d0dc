"""Runs one row's work in one subject for each library, in turn: A B C A B C ...

So a change of the machine's speed affects all libraries alike.
"""

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
SUBJECT = Path(__file__).with_name("subject.py")

#: After this many seconds in a round, a library does no further repetitions, except for LEAST repetitions.
BUDGET = 12.0
LEAST = 2


def with_benchmarks() -> dict[str, str]:
    """Return an environment in which a script can import the package benchmarks."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


class Subject:
    """A process in which one library does one row's work, in a session of its own.

    failure: why the library cannot do the work; None while it can. limit: seconds that one repetition may take. script:
    the process's program, as subject.py.
    """

    def __init__(self, library: str, row: str, limit: float, script: Path):
        self.failure: str | None = None
        self.spent = 0.0
        self._limit = limit
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, script, library, row],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=with_benchmarks(),
            start_new_session=True,
        )

    def warm_up(self) -> None:
        """Wait until the subject has done the work for the first time."""
        self._answer()

    def repeat(self) -> dict | None:
        """Let the subject do the work once more; return the measurement, or None if it fails."""
        if self.failure is not None:
            return None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # the subject has ended: _answer() finds out why
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
        """Let the subject exit by itself, within 5 seconds; then kill all processes that are left in its session."""
        assert self._process.stdin is not None
        if self.failure is None:
            self._process.stdin.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def kill(self) -> None:
        """Kill all processes of the subject's session."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()


@dataclass
class Outcome:
    """The measurements of one row.

    measured: by library, a list with one element for each repetition; it is None for a repetition that was left out
    because the library is slow. failed: by library, why it could not do the work.
    """

    measured: dict[str, list[dict | None]]
    failed: dict[str, str]


def alternate(
    row: str,
    libraries: Iterable[str],
    rounds: int,
    repetitions: int,
    limit: float,
    tell: Callable[[str], None],
    script: Path = SUBJECT,
) -> Outcome:
    """Measure a row. In each round, each library has a new subject, which warms up; then the subjects work in turn.

    repetitions: how often each subject works in a round. limit: seconds that one repetition may take. tell: called with
    a text about the progress. script: the program of the subjects.
    """
    outcome = Outcome({library: [] for library in libraries}, {})
    for _ in range(rounds):
        subjects: dict[str, Subject] = {}
        try:
            for library in outcome.measured:
                tell(f"{library} warms up")
                subjects[library] = Subject(library, row, limit, script)
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
