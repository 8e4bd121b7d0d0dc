"""The verdict on a run: counts, excepted tests, goproc's warnings, proof that the engine was used; the summary line.

exceptions.toml is read here. An entry names a test that cannot pass, or should not; while the entry applies, a failure
of the test is "excepted". An entry is stale if its test does not exist, or passes (unless the test fails only
sometimes). A stale entry is an error, too.
"""

import dataclasses
import re
from pathlib import Path

from goproc_conformance import startup

FAILING = ("failed", "error")

_WARNING = re.compile(r"^.*?:\d+: (\w*Warning: .*)$")
_VARIABLE = re.compile(r"0x[0-9a-f]+|\d+|'[^']*/[^']*'|/\S+/\S+")
_HEADER = "=== "
_SECONDS = re.compile(r"(\d+\.\d+s )*")  # some tests print how long they took, and end no line


class BadExceptions(Exception):
    """exceptions.toml cannot be used; the text says why."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of exceptions.toml."""

    suite: str
    test: str
    reason: str
    methods: tuple = startup.START_METHODS
    versions: tuple = ()  # "3.12": all of 3.12; none: all
    sometimes: bool = False  # it fails now and then, so passing does not make the entry stale
    run: bool = True  # False: it is not even run, as it takes minutes, or ends the machine

    def applies(self, suite, method, version):
        """Does the entry speak of this suite, under this start method, in this version of Python?"""
        minor = ".".join(version.split(".")[:2])
        known = not self.versions or minor in self.versions or version in self.versions
        return suite == self.suite and method in self.methods and known

    def __str__(self):
        return f"{self.suite} {self.test}"


def load_exceptions(path):
    """Read exceptions.toml. Returns [Entry]. Raises BadExceptions for an invalid entry."""
    toml = _toml()
    try:
        document = toml.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadExceptions(f"{path}: {error}") from error
    if unknown := set(document) - {"exception"}:
        raise BadExceptions(f"{path}: unknown tables: {', '.join(sorted(unknown))}; entries are [[exception]]")
    return [_entry(path, table) for table in document.get("exception", [])]


def _entry(path, table):
    fields = {field.name for field in dataclasses.fields(Entry)}
    where = f"{path}: exception for {table.get('test', '(no test)')!r}"
    if unknown := set(table) - fields:
        raise BadExceptions(f"{where}: unknown keys: {', '.join(sorted(unknown))}")
    for key in ("suite", "test", "reason"):
        if not isinstance(table.get(key), str) or not table[key].strip():
            raise BadExceptions(f"{where}: {key} is missing")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    if wrong := set(values.get("methods", ())) - set(startup.START_METHODS):
        raise BadExceptions(f"{where}: unknown start methods: {', '.join(sorted(wrong))}")
    for key in ("sometimes", "run"):
        if not isinstance(values.get(key, False), bool):
            raise BadExceptions(f"{where}: {key} is true or false")
    return Entry(**values)


def _toml():
    """tomllib, or its ancestor tomli, which Python 3.10 has inside pip."""
    try:
        import tomllib
    except ModuleNotFoundError:
        try:
            from pip._vendor import tomli as tomllib
        except ImportError:
            raise BadExceptions("reading exceptions.toml takes Python 3.11, or pip for its tomli") from None
    return tomllib


@dataclasses.dataclass
class Verdict:
    """A run, judged. The lists hold test ids or sentences."""

    suite: str
    method: str
    version: str
    mode: str
    seconds: float
    log: str
    missing: str = ""
    ran: int = 0
    passed: int = 0
    failed: list = dataclasses.field(default_factory=list)
    errors: list = dataclasses.field(default_factory=list)
    skipped: list = dataclasses.field(default_factory=list)
    skipped_too: list = dataclasses.field(default_factory=list)  # by plain multiprocessing
    fails_too: list = dataclasses.field(default_factory=list)  # on plain multiprocessing
    excepted: list = dataclasses.field(default_factory=list)
    dangling: list = dataclasses.field(default_factory=list)
    warnings: list = dataclasses.field(default_factory=list)  # that multiprocessing would not give
    problems: list = dataclasses.field(default_factory=list)  # of the run as a whole
    started: dict = dataclasses.field(default_factory=dict)  # processes, by start method
    tasks: int = 0
    baseline_seconds: float | None = None
    seconds_by_test: dict = dataclasses.field(default_factory=dict)

    @property
    def wrong(self):
        """How many things are wrong."""
        return sum(map(len, (self.failed, self.errors, self.dangling, self.warnings, self.problems)))

    def line(self):
        """The run in one line."""
        who = f"{self.version} {self.method} {self.suite}"
        if self.missing:
            return f"{who}: skipped, there is no {self.missing}"
        plain = self.mode == startup.BASELINE
        too = "" if plain else f" ({len(self.skipped_too)} by the standard library too)"
        parts = [
            f"{self.ran} ran",
            f"{len(self.failed)} failed",
            f"{len(self.errors)} errors",
            f"{len(self.skipped)} skipped{too}",
        ]
        if not plain:
            parts.append(f"{len(self.excepted)} excepted")
            parts.append(f"{len(self.warnings)} new warnings")
        parts.append(f"{len(self.dangling)} dangling")
        than = f" (multiprocessing {self.baseline_seconds} s)" if self.baseline_seconds is not None else ""
        parts.append(f"{self.seconds} s{than}")
        text = f"{who}{' on multiprocessing' if plain else ''}: {', '.join(parts)}"
        if not plain:
            counts = ", ".join(f"{count} by {method}" for method, count in self.started.items() if count)
            text += f"; the engine started {counts or 'nothing'}, {self.tasks} tasks"
        return text


def left_out(entries, suite, method, version):
    """Ids of the tests of a run that exceptions.toml says not to run."""
    return [entry.test for entry in entries if not entry.run and entry.applies(suite, method, version)]


def needs_comparison(record, log):
    """Ids of the tests whose outcome on plain multiprocessing matters: skipped, failing, or with warnings.

    The resource tracker warns when it ends, long after the tests that it warns of. Then all tests count.
    """
    ids = [name for name, result in record.results.items() if result["outcome"] != "passed"]
    warned = warnings_by_test(log)
    if any("resource_tracker:" in text for texts in warned.values() for text in texts):
        return sorted(record.planned)
    return sorted((set(ids) | set(warned)) & set(record.planned))


def judge(plan, record, version, entries, comparison=None, comparison_log=None):
    """Turn a run's record into a Verdict.

    Arguments: plan, record, of the run; version, Python's; entries, of exceptions.toml; comparison and comparison_log,
    the record and log of a run of needs_comparison()'s tests on plain multiprocessing, if one was made.
    """
    verdict = Verdict(plan.suite, plan.method, version, plan.mode, record.seconds, str(plan.log), record.missing)
    if record.missing:
        return verdict
    applying = {e.test: e for e in entries if e.applies(plan.suite, plan.method, version)}
    for name, result in record.results.items():
        _count(verdict, name, result["outcome"], name in applying)
    verdict.ran = len(record.results)
    verdict.excepted += record.left_out
    verdict.seconds_by_test = {name: result["seconds"] for name, result in record.results.items()}
    verdict.dangling = [f"something was left dangling: {where}" for where in record.altered]
    verdict.problems += [f"still running at the end: {what}" for what in record.leftover]
    if record.broken:
        verdict.problems.append(record.broken)
    if unseen := [name for name in record.planned if name not in record.results]:
        _count_unseen(verdict, record, unseen)
    if plan.mode == startup.GOPROC:
        _judge_engine(verdict, plan, record)
        _judge_exceptions(verdict, plan, record, applying)
    if comparison is not None:
        _compare(verdict, plan, comparison, comparison_log)
    return verdict


def _count(verdict, name, outcome, excepted):
    if outcome == "skipped":
        verdict.skipped.append(name)
    elif outcome == "passed":
        verdict.passed += 1
    elif excepted:
        verdict.excepted.append(name)
    else:
        (verdict.failed if outcome == "failed" else verdict.errors).append(name)


def _count_unseen(verdict, record, unseen):
    """Tests without a result: a class or module whose set-up skips has one for all of its tests."""
    outside = set(record.results) - set(record.planned)
    if not record.broken and any(record.results[name]["outcome"] == "skipped" for name in outside):
        verdict.skipped += unseen
    else:
        verdict.problems.append(f"{len(unseen)} tests did not run, the first of them {unseen[0]}")


def _judge_engine(verdict, plan, record):
    """The engine did the work: no trap tripped, every trap was set, the counters say so."""
    for counters in record.counters:
        for method, count in counters["started"].items():
            verdict.started[method] = verdict.started.get(method, 0) + count
        verdict.tasks += counters["tasks"]
    for what in sorted({trap["what"] for trap in record.traps}):
        times = sum(trap["what"] == what for trap in record.traps)
        verdict.problems.append(f"the standard library did the work, {times} times: {what}")
    verdict.problems += [f"loaded without its trap: {name}" for name in record.untrapped]
    whole = not plan.match and plan.only is None
    expected = plan.method if plan.suite in ("mp", "main", "futures", "executor") else None
    count = verdict.started.get(expected, 0) if expected else sum(verdict.started.values())
    if whole and plan.suite not in ("modules", "cluster") and not count:
        verdict.problems.append(f"the engine started no process{f' by {expected}' if expected else ''}")
    if whole and plan.suite == "mp" and not verdict.tasks:
        verdict.problems.append("the engine's pools did no task")


def _judge_exceptions(verdict, plan, record, applying):
    for name, entry in applying.items():
        result = record.results.get(name)
        if result is not None and result["outcome"] == "passed" and not entry.sometimes:
            verdict.problems.append(f"stale exception, the test passes: {entry}")
        elif result is None and name not in record.left_out and not plan.match and plan.only is None:
            verdict.problems.append(f"stale exception, there is no such test: {entry}")


def _compare(verdict, plan, comparison, comparison_log):
    there = {name: result["outcome"] for name, result in comparison.results.items()}
    verdict.skipped_too = [name for name in verdict.skipped if there.get(name, "skipped") == "skipped"]
    verdict.fails_too = [name for name in verdict.failed + verdict.errors if there.get(name) in FAILING]
    ours, theirs = warnings_by_test(plan.log), warnings_by_test(comparison_log)
    for name, texts in ours.items():
        # Which of a class's tests a warning falls into can differ, so what multiprocessing gives anywhere is its own.
        known = set().union(*theirs.values()) if theirs else set()
        verdict.warnings += [f"{name}: {text}" for text in sorted(texts - known)]


def warnings_by_test(log):
    """Python's warnings in a log. Returns {test id: {text with numbers, addresses and paths blotted out}}."""
    found: dict = {}
    current = ""
    for line in Path(log).read_text(encoding="utf-8", errors="replace").splitlines():
        before, header, name = line.partition(_HEADER)
        if header and _SECONDS.fullmatch(before):
            current = name
        elif match := _WARNING.match(line):
            found.setdefault(current, set()).add(_VARIABLE.sub("*", match[1]))
    return found
