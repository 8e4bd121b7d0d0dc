"""The benchmarks: they measure, and compute their figures as documented."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def benchmarks(*words):
    command = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)


@pytest.fixture
def results(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.results import Results

    return Results(tmp_path / "results.json", {"cores": "2"})


def measured(*seconds):
    return [each and {"seconds": each, "processor": 2 * each} for each in seconds]


@pytest.mark.slow
def test_measures_rows_of_every_kind(tmp_path):
    path = tmp_path / "results.json"
    rows = "map_ints,bytes_100kB,start_fork,pool_spawn,maxtasksperchild,program_fork,processor_idle"
    done = benchmarks("quick", "--only", rows, "--repetitions", "2", "--results", str(path))
    assert (done.stderr, done.returncode) == ("", 0)
    kept = json.loads(path.read_text())
    assert set(kept["rows"]) == set(rows.split(","))
    for name, row in kept["rows"].items():
        assert row["failed"] == {}, name
        assert set(row["measured"]) == {"goproc", "multiprocessing"}
        for values in row["measured"].values():
            assert len(values) == 2
            assert all(value["seconds"] > 0 and value["processor"] > 0 for value in values)
        assert f"\n{name} " in done.stdout


@pytest.mark.slow
def test_takes_a_task_apart(tmp_path):
    path = tmp_path / "results.json"
    for what in ("round-trip", "stream"):
        done = benchmarks("parts", "--only", what, "--repetitions", "1", "--results", str(path))
        assert (done.stderr, done.returncode) == ("", 0)
    parts = json.loads(path.read_text())["parts"]
    whole, *steps = [values[0] for values in parts["round-trip"].values()]
    assert len(steps) == 10 and all(step >= 0 for step in steps) and whole > 0
    assert len(parts["stream"]) == 3 * 8  # ways to hand tasks in, and what a task costs in each


def test_says_which_rows_there_are():
    done = benchmarks("quick", "--only", "appl", "--list")
    assert done.returncode == 1
    assert done.stderr.startswith("no such row: appl (there are: apply, apply_async, ")
    assert benchmarks("quick", "--only", "apply*", "--list").stdout.split("\n")[1].startswith("apply_async ")
    assert "no such library: threading" in benchmarks("quick", "--peers", "goproc,threading").stderr


def test_ratios_are_taken_repetition_by_repetition(results):
    results.put("apply", "title", {"goproc": measured(1, 2, None, 1), "billiard": measured(2, 8, 100, 3)}, {}, {})
    ratio = results.ratio("apply", "goproc", "billiard")
    assert (ratio.low, ratio.median, ratio.high) == (2.5, 3, 3.5)
    assert results.ratio("apply", "goproc", "mpire") is None
    assert results.spread("apply", "goproc", "processor").median == 2


def test_a_row_takes_the_place_of_the_one_before(results, tmp_path):
    from benchmarks.results import OtherMachine, Results

    results.put("apply", "title", {"goproc": measured(1)}, {}, {"goproc": "1"})
    results.put("imap", "title", {"goproc": measured(2)}, {"mpire": "not done after 60 s"}, {})
    results.put("apply", "title", {"goproc": measured(3)}, {}, {})
    again = Results(tmp_path / "results.json", {"cores": "2"})
    assert again.spread("apply", "goproc").median == 3
    assert again.failed("imap") == {"mpire": "not done after 60 s"}
    assert again.keep({"apply": "title", "imap": "another title"}) == ["imap"]
    assert again.libraries("imap") == [] and again.libraries("apply") == ["goproc"]
    with pytest.raises(OtherMachine):
        Results(tmp_path / "results.json", {"cores": "64"})


def test_report_writes_between_its_marks_only(results, tmp_path):
    from benchmarks import report

    figures = {
        "goproc": measured(0.001, 0.001),
        "multiprocessing": measured(0.002, 0.002),
        "mpire": measured(0.0005, 1),
    }
    figures["billiard"] = measured(0.0005, 0.0005)
    versions = dict.fromkeys(figures, "1")
    results.put("pool_fork", "title", figures, {}, versions)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures: starting -->\nold\n<!-- end of figures -->\nafter\n")
    assert report.write(results, [page]) == 1
    before, *lines, after = page.read_text().splitlines()
    assert (before, after) == ("before", "after")
    assert "old" not in lines
    row = "| `Pool(2)` to its first result, fork, ms | 1.00<br><sub>1.00–1.00</sub> | 2.00<br><sub>2.00–2.00</sub> |"
    assert [line for line in lines if line.startswith(row) and line.endswith("| 2.00× |")]
    assert ["**" in line for line in lines if line.startswith(row)] == [True]
    assert report.slower(results) == "- `Pool(2)` to its first result, fork: billiard (2.00 times as fast)"


def test_report_has_no_ratio_that_contradicts_its_medians(results, tmp_path):
    from benchmarks import report

    # The median of the ratios, repetition by repetition, is 2; the medians say that goproc is the slower one.
    figures = {"goproc": measured(0.001, 0.006, 0.007), "multiprocessing": measured(0.002, 0.0123, 0.0051)}
    results.put("program_fork", "title", figures, {}, dict.fromkeys(figures, "1"))
    page = tmp_path / "page.md"
    page.write_text("<!-- figures: summary -->\n<!-- end of figures -->\n")
    report.write(results, [page])
    (line,) = [line for line in page.read_text().splitlines() if "a whole program" in line]
    assert line == "| a whole program with a `Pool(2)`, fork | 6.00 ms | **5.10** ms | 0.85× | – |"
