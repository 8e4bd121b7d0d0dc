"""Tests of how the conformance harness judges a run, reads exceptions.toml and writes the table."""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from goproc_conformance import launch, startup, suites, table, verdict  # noqa: E402


def judge(outcomes, entries=(), suite="mp", **record):
    plan = launch.Plan("python", startup.GOPROC, suite, "fork", Path(os.devnull))
    results = {name: {"outcome": outcome, "text": "", "seconds": 0.0} for name, outcome in outcomes.items()}
    record.setdefault("counters", [{"started": {"fork": 2}, "tasks": 3}])
    return verdict.judge(plan, launch.Record(list(outcomes), results, **record), "3.12.1", entries)


def test_the_engine_must_have_done_the_work():
    assert judge({"A.a": "passed"}).problems == []
    assert judge({"A.a": "passed"}, counters=[{"started": {"spawn": 9}, "tasks": 0}]).problems == [
        "the engine started no process by fork",
        "the engine's pools did no task",
    ]
    assert judge({"A.a": "passed"}, untrapped=["multiprocessing.pool"]).problems == [
        "loaded without its trap: multiprocessing.pool"
    ]


@pytest.mark.parametrize("outcome", ["failed", "error"])
def test_an_excepted_failure_is_no_failure(outcome):
    judged = judge({"A.a": outcome, "A.b": "passed"}, [verdict.Entry("mp", "A.a", "because")])
    assert (judged.excepted, judged.wrong) == (["A.a"], 0)


def test_an_exception_whose_test_passes_is_stale():
    judged = judge({"A.a": "passed"}, [verdict.Entry("mp", "A.a", "because"), verdict.Entry("mp", "A.b", "because")])
    assert judged.problems == [
        "stale exception, the test passes: mp A.a",
        "stale exception, there is no such test: mp A.b",
    ]


def test_an_exception_for_a_test_that_fails_sometimes_is_not_stale_when_it_passes():
    assert judge({"A.a": "passed"}, [verdict.Entry("mp", "A.a", "because", sometimes=True)]).wrong == 0


def test_a_test_that_is_not_run_is_excepted_and_not_stale():
    entry = verdict.Entry("mp", "A.a", "because", run=False)
    assert verdict.left_out([entry], "mp", "fork", "3.12.1") == ["A.a"]
    judged = judge({"A.b": "passed"}, [entry], left_out=["A.a"])
    assert (judged.excepted, judged.wrong) == (["A.a"], 0)
    assert judge({"A.b": "passed"}, [entry]).problems == ["stale exception, there is no such test: mp A.a"]


@pytest.mark.parametrize(
    "entry",
    [
        verdict.Entry("futures", "A.a", "because"),
        verdict.Entry("mp", "A.a", "because", methods=("spawn",)),
        verdict.Entry("mp", "A.a", "because", versions=("3.1", "3.11", "3.12.2")),
    ],
)
def test_an_exception_for_something_else_does_not_apply(entry):
    judged = judge({"A.a": "failed"}, [entry])
    assert (judged.failed, judged.problems) == (["A.a"], [])


def test_exceptions_are_read(tmp_path):
    path = tmp_path / "exceptions.toml"
    path.write_text(
        '[[exception]]\nsuite = "mp"\ntest = "A.a"\nreason = "so"\nmethods = ["fork"]\nversions = ["3.12"]\n'
    )
    (entry,) = verdict.load_exceptions(path)
    assert entry == verdict.Entry("mp", "A.a", "so", ("fork",), ("3.12",))
    assert entry.applies("mp", "fork", "3.12.7")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[exception]]\nsuite = "mp"\ntest = "A.a"\n', "reason is missing"),
        ('[[exception]]\nsuite = "mp"\ntest = "A.a"\nreason = " "\n', "reason is missing"),
        ('[[exception]]\nsuite = "mp"\ntest = "A.a"\nreason = "so"\nmethods = ["vfork"]\n', "unknown start methods"),
        ('[[exception]]\nsuite = "mp"\ntest = "A.a"\nreason = "so"\nmethod = "fork"\n', "unknown keys: method"),
        ('[[exception]]\nsuite = "mp"\ntest = "A.a"\nreason = "so"\nsometimes = 1\n', "true or false"),
        ("[[exceptions]]\n", "unknown tables"),
        ("[[", "exceptions.toml"),
    ],
)
def test_improper_exceptions_are_refused(tmp_path, text, said):
    path = tmp_path / "exceptions.toml"
    path.write_text(text)
    with pytest.raises(verdict.BadExceptions, match=said):
        verdict.load_exceptions(path)


def test_the_repositorys_exceptions_are_proper():
    for entry in verdict.load_exceptions(HERE / "exceptions.toml"):
        assert entry.suite in suites.SUITES
        assert len(entry.reason.split()) > 10


def test_warnings_are_attributed_and_blotted(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "=== A.a\n/x/y.py:12: ResourceWarning: unclosed file <_io '/tmp/pym-1/f'> at 0x7f\n  source line\n"
        "0.12s === A.b\nno warning here\nsys:1: DeprecationWarning: pid 77\n"
    )
    assert verdict.warnings_by_test(log) == {
        "A.a": {"ResourceWarning: unclosed file <_io *> at *"},
        "A.b": {"DeprecationWarning: pid *"},
    }


def test_the_trackers_warning_may_come_from_any_test(tmp_path):
    log = tmp_path / "log"
    names = ["A.a", "B.b", "A.c", "A.d"]
    passed = {"outcome": "passed", "text": "", "seconds": 0}
    record = launch.Record(planned=names, results=dict.fromkeys(names, passed))
    log.write_text("=== A.c\nsys:1: DeprecationWarning: pid 77\n")
    assert verdict.needs_comparison(record, log) == ["A.c"]
    log.write_text("=== A.c\nx.py:1: UserWarning: resource_tracker: There appear to be 3 leaked semaphore objects\n")
    assert verdict.needs_comparison(record, log) == sorted(names)


# The table.


def whole(version, method, **values):
    values = {"seconds": 70.4, "log": "log", "ran": 380, "passed": 379, **values}
    return verdict.Verdict("mp", method, version, startup.GOPROC, **values)


def test_the_table_keeps_the_rows_of_other_interpreters(tmp_path):
    document = tmp_path / "compatibility.md"
    document.write_text(f"# Title\n\n{table.BEGIN}\n{table.END}\n\nMore.\n")
    table.update(document, [whole("3.11.7", "spawn"), whole("3.11.7", "fork", excepted=["A.a"])])
    table.update(document, [whole("3.9.1", "fork"), whole("3.11.7", "spawn", seconds=71.2)])
    text = document.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| 3")]
    assert rows == [
        "| 3.9.1 | mp | fork | 380 | 379 | 0 | 0 | 0 | 0 | 70 |",
        "| 3.11.7 | mp | fork | 380 | 379 | 0 | 0 | 1 | 0 | 70 |",
        "| 3.11.7 | mp | spawn | 380 | 379 | 0 | 0 | 0 | 0 | 71 |",
    ]
    assert text.startswith("# Title\n\n<!--") and text.endswith("-->\n\nMore.\n")
    assert table.HEADER.count("|") == rows[0].count("|") == table.RULE.count("|")


def test_a_document_without_a_place_for_the_table_is_refused(tmp_path):
    document = tmp_path / "compatibility.md"
    document.write_text("# Title\n")
    with pytest.raises(table.NoTable):
        table.update(document, [])
    assert document.read_text() == "# Title\n"


def test_the_repositorys_document_has_a_place_for_the_table():
    text = (HERE.parents[1] / "docs" / "compatibility.md").read_text()
    assert text.count(table.BEGIN) == text.count(table.END) == 1
