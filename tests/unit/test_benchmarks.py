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


@pytest.fixture
def published(results, tmp_path):
    """A function that returns the figures that the measurements become."""
    from benchmarks.figures import Figures

    def take():
        figures = Figures(tmp_path / "figures.json")
        figures.take(results, {name: "title" for name in results.rows})
        return figures

    return take


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
    assert again.libraries("apply") == ["goproc"]
    with pytest.raises(OtherMachine):
        Results(tmp_path / "results.json", {"cores": "64"})


def test_a_part_of_the_rows_leaves_the_other_figures(results, tmp_path):
    from benchmarks.figures import Figures
    from benchmarks.results import OtherMachine, Results

    titles = {"apply": "title", "imap": "title"}
    results.put("apply", "title", {"goproc": measured(1, 2, None, 3)}, {}, {"goproc": "1"})
    results.put("imap", "title", {"goproc": measured(5)}, {}, {})
    results.put_parts("stream", {"step": [1.0, 2.0]})
    figures = Figures(tmp_path / "figures.json")
    assert figures.take(results, titles) == []
    figures.write()
    again = Figures(tmp_path / "figures.json")
    assert (again.spread("apply", "goproc").median, again.spread("apply", "goproc", "processor").high) == (2, 5)
    assert again.part("stream")["step"].median == 1.5

    results.rows["apply"]["measured"]["goproc"] = measured(8)
    results.rows["apply"]["when"] -= 60
    again.take(results, titles)
    assert again.spread("apply", "goproc").median == 2  # the published ones are newer

    part = Results(tmp_path / "part.json", {"cores": "2"})
    part.put("apply", "title", {"goproc": measured(7)}, {}, {"goproc": "1"})
    assert again.take(part, {**titles, "imap": "other work"}) == ["imap"]
    assert again.spread("apply", "goproc").median == 7 and again.libraries("imap") == []

    elsewhere = Results(tmp_path / "elsewhere.json", {"cores": "64"})
    elsewhere.put("apply", "title", {"goproc": measured(9)}, {}, {"goproc": "1"})
    with pytest.raises(OtherMachine, match="missing: imap"):
        again.take(elsewhere, titles)
    elsewhere.put("imap", "title", {"goproc": measured(9)}, {}, {})
    again.take(elsewhere, titles)
    assert again.machine == {"cores": "64"} and again.part("stream") == {}


def test_curves_and_traces_are_kept(results, published):
    from benchmarks import report

    curve = [{"points": {"1e-06": value, "0.001": 2 * value, "1": 0.9}} for value in (0.2, 0.3, 0.4)]
    results.put("efficiency_map", "title", {"goproc": curve}, {}, {})
    trace = {"seconds": [0.1] * 1000, "results": list(range(1000)), "memory": [9.0, 5.0] * 500, "finished": True}
    results.put("memory_goproc", "title", {"goproc": [trace]}, {}, {})
    figures = published()
    points = figures.points("efficiency_map", "goproc")
    assert [spread.median for spread in points.values()] == [0.3, 0.6, 0.9]
    assert 1e-6 < report.crossing(points, 0.5) < 1e-3
    assert report.crossing(points, 0.1) == 1e-6 and report.crossing(points, 0.95) is None
    thin = figures.trace("memory_goproc", "goproc")
    assert (thin["results"][-1], thin["peak"], thin["finished"]) == (999, 9.0, True) and len(thin["memory"]) < 200


@pytest.mark.slow
def test_measures_the_new_curves_of_a_library(tmp_path):
    path = tmp_path / "results.json"
    names = ("efficiency_map", "sizes")
    words = ("--only", ",".join(names), "--peers", "goproc", "--repetitions", "1")
    done = benchmarks("run", *words, "--results", str(path))
    assert (done.stderr, done.returncode) == ("", 0)
    rows = json.loads(path.read_text())["rows"]
    for name in names:
        (once,) = rows[name]["measured"]["goproc"]
        assert len(once["points"]) > 6 and all(value > 0 for value in once["points"].values())


def test_what_cannot_be_seen_is_no_difference(results, published):
    """The bold figure and the ratio are those of the medians that are shown."""
    from benchmarks import report, rows

    row = rows.ROWS["program_fork"]
    figures = {"goproc": measured(0.0120), "multiprocessing": measured(0.01204), "billiard": measured(0.0130)}
    results.put(row.name, "title", figures, {}, {})
    assert report.medians_ratio(row, published(), "multiprocessing") == 1
    assert report.losses(row, published()) == []
    assert "**" not in report.summary(published()) and "| 1.00× |" in report.summary(published())


def test_published_figures_are_of_present_rows(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.__main__ import FIGURES, titles

    rows = json.loads(FIGURES.read_text(encoding="utf-8"))["rows"]
    assert {name: row["title"] for name, row in rows.items()}.items() <= titles().items()


@pytest.mark.parametrize(
    "cell, drawn",
    [
        ("`WorkerLostError` in 67 ms", ("well", "✓", "error in 67 ms")),
        ("`WorkerLostError` after 11 s", ("well", "✓", "error after 11 s")),
        ("returned in 13 ms", ("well", "✓", "returned in 13 ms")),
        ("all gone in 6 ms", ("well", "✓", "all gone in 6 ms")),
        ("**hangs**", ("lost", "✗", "hangs")),
        ("`RuntimeError` in 80 ms; then **hangs**", ("lost", "✗", "error in 80 ms,\nthen hangs")),
        ("**2 processes left behind**", ("lost", "✗", "2 left behind")),
        (
            "`BrokenProcessPool` in 47 ms; **pool broken**; 2 of 4 other tasks lost",
            ("broken", "!", "error in 47 ms,\npool broken"),
        ),
        ("`OwnError` in 4 ms; 2 of 4 other tasks lost", ("broken", "!", "error in 4 ms,\ntasks lost")),
    ],
)
def test_how_a_fault_is_drawn(cell, drawn, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.report import verdict

    assert verdict(cell) == drawn


def test_the_picture_of_the_faults_has_the_tables_cells():
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    content = json.loads((ROOT / "docs/plots/faults.json").read_text(encoding="utf-8"))
    for fault, row in content["cells"].items():
        assert f"| {content['faults'][fault]} | {' | '.join(row.values())} |\n" in page


def test_pages_show_the_published_figures(monkeypatch, tmp_path):
    """The test fails for a table edited by hand, and for new figures without `make plots`."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import report
    from benchmarks.__main__ import DOCUMENTS, FIGURES
    from benchmarks.figures import Figures

    for page in DOCUMENTS:
        copy = tmp_path / page.parent.name / page.name
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
        report.write(Figures(FIGURES), [copy])
        assert copy.read_text(encoding="utf-8") == page.read_text(encoding="utf-8"), page.name


def test_report_writes_between_its_marks_only(results, published, tmp_path):
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
    assert report.write(published(), [page]) == 1
    before, *lines, after = page.read_text().splitlines()
    assert (before, after) == ("before", "after")
    assert "old" not in lines
    row = "| `Pool(2)` to its first result, fork, ms | 1.00<br><sub>1.00–1.00</sub> | 2.00<br><sub>2.00–2.00</sub> |"
    assert [line for line in lines if line.startswith(row) and line.endswith("| 2.00× |")]
    assert ["**" in line for line in lines if line.startswith(row)] == [True]
    assert report.slower(published()) == "- `Pool(2)` to its first result, fork: goproc 1.00 ms; billiard 0.50 ms"


def test_report_has_no_ratio_that_contradicts_its_medians(results, published, tmp_path):
    from benchmarks import report

    # The median of the ratios, repetition by repetition, is 2; the medians say that goproc is the slower one.
    figures = {"goproc": measured(0.001, 0.006, 0.007), "multiprocessing": measured(0.002, 0.0123, 0.0051)}
    results.put("program_fork", "title", figures, {}, dict.fromkeys(figures, "1"))
    page = tmp_path / "page.md"
    page.write_text("<!-- figures: summary -->\n<!-- end of figures -->\n")
    report.write(published(), [page])
    (line,) = [line for line in page.read_text().splitlines() if "a whole program" in line]
    assert line == "| a whole program with a `Pool(2)`, fork | 6.00 ms | **5.10** ms | 0.85× | – |"
