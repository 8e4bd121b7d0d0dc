"""The command: its options, the order of the runs, its output, its exit status."""

import argparse
import dataclasses
import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from goproc_conformance import environment, launch, processes, startup, suites, table, verdict

REPOSITORY = environment.HARNESS.parents[1]
BUILD = REPOSITORY / "build" / "conformance"
DOCUMENT = REPOSITORY / "docs" / "compatibility.md"
EXCEPTIONS = environment.HARNESS / "exceptions.toml"


def options(argv):
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="tests/conformance/run.py",
        description="Run CPython's own tests of multiprocessing, those of the interpreter given, on goproc.",
        epilog="Exit status 0: nothing failed outside exceptions.toml. Logs with all tracebacks: build/conformance/.",
    )
    parser.add_argument(
        "--python", action="append", metavar="PY", help="interpreter (default: this one; may be repeated)"
    )
    parser.add_argument("--method", action="append", choices=startup.START_METHODS, help="default: all three")
    parser.add_argument("--suite", action="append", choices=(*suites.SUITES, "all"), help="default: all")
    parser.add_argument("--module", action="append", metavar="NAME", help="run this module's tests instead of a suite")
    parser.add_argument("--path", action="append", metavar="FOLDER", help="where modules given by --module are")
    parser.add_argument("--match", default="", metavar="TEXT", help="only tests whose id contains it")
    parser.add_argument("--baseline", action="store_true", help="run on plain multiprocessing, for comparison")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run everything N times in a row")
    parser.add_argument("--load", action="store_true", help="keep all cores busy meanwhile")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at the same time (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdicts there")
    parser.add_argument("--update-docs", action="store_true", help="write the table in docs/compatibility.md")
    parser.add_argument(
        "--time-limit", type=float, default=1800, metavar="S", help="seconds for one run (default 1800)"
    )
    parser.add_argument(
        "--stall-limit", type=float, default=360, metavar="S", help="seconds for one test (default 360)"
    )
    parser.add_argument(
        "--source",
        type=Path,
        metavar="FOLDER",
        help="folder of the package goproc (default: as installed, else python/)",
    )
    parser.add_argument("--build", type=Path, default=BUILD, help=argparse.SUPPRESS)
    parser.add_argument("--exceptions", type=Path, default=EXCEPTIONS, help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.repeat < 1 or chosen.jobs < 1:
        parser.error("--repeat and --jobs take numbers from 1 on")
    return chosen


def main(argv=None):
    """Do what the command line says. Returns the exit status."""
    chosen = options(argv)
    try:
        entries = verdict.load_exceptions(chosen.exceptions)
        targets = [target(chosen, python) for python in chosen.python or [sys.executable]]
    except (verdict.BadExceptions, environment.EnvironmentFailed) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    # Also where SIGINT is ignored, as in a shell's background job: tests send it, and would inherit that it is ignored.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.default_int_handler)
    work = list(plans(chosen, targets))
    with processes.load(chosen.load), ThreadPoolExecutor(chosen.jobs) as pool:
        futures = [pool.submit(carry_out, chosen, plan, version, entries) for plan, version in work]
        verdicts = []
        try:
            for future in futures:
                verdicts.append(future.result())
                show(verdicts[-1])
        except KeyboardInterrupt:
            launch.interrupted.set()
            pool.shutdown(cancel_futures=True)
            return 130
    return conclude(chosen, verdicts)


def target(chosen, python):
    """The venv for an interpreter, as (its python, the interpreter's version); says which goproc it has."""
    about = environment.describe(python)
    source = (chosen.source or Path(about["goproc"] or REPOSITORY / "python")).resolve()
    if not chosen.baseline:
        print(f"{about['version']} ({about['executable']}) with goproc from {source}", flush=True)
    return environment.venv_for(python, about, source, chosen.build.resolve()), about["version"]


def plans(chosen, targets):
    """All runs asked for, as (plan, version of Python), in order."""
    wanted = chosen.suite or ["all"]
    names = ["modules"] if chosen.module else list(suites.SUITES) if "all" in wanted else wanted
    mode = startup.BASELINE if chosen.baseline else startup.GOPROC
    for turn in range(1, chosen.repeat + 1):
        for python, version in targets:
            for suite in names:
                for method in chosen.method or startup.START_METHODS:
                    name = f"{mode}-{version}-{suite}-{method}{f'-{turn}' if turn > 1 else ''}.log"
                    yield (
                        launch.Plan(
                            python, mode, suite, method, chosen.build / name, chosen.match,
                            modules=chosen.module or [],
                            path=[os.path.abspath(folder) for folder in chosen.path or []],
                            time_limit=chosen.time_limit,
                            stall_limit=chosen.stall_limit,
                        ),
                        version,
                    )  # fmt: skip


def carry_out(chosen, plan, version, entries):
    """One run; for what was skipped, failed or warned, the same tests on multiprocessing too. Returns a Verdict."""
    plan.leave_out = verdict.left_out(entries, plan.suite, plan.method, version)
    record = launch.run(plan)
    comparison = comparison_log = None
    if plan.mode == startup.GOPROC and not record.missing:
        log = plan.log.with_name(plan.log.name.replace(startup.GOPROC, "comparison", 1))
        only = verdict.needs_comparison(record, plan.log)
        if only:
            comparison = launch.run(dataclasses.replace(plan, mode=startup.BASELINE, only=only, log=log))
            comparison_log = log
    judged = verdict.judge(plan, record, version, entries, comparison, comparison_log)
    remember(chosen, plan, judged)
    return judged


def remember(chosen, plan, judged):
    """Keep the time of a whole run on multiprocessing; a whole run on goproc gets it, to be shown beside its own."""
    if plan.match or plan.modules or judged.missing:
        return
    # Times under load and times without are different things.
    kind = "-load" if chosen.load else ""
    path = chosen.build / f"baseline-{judged.version}-{plan.suite}-{plan.method}{kind}.json"
    if plan.mode == startup.BASELINE:
        path.write_text(json.dumps(dataclasses.asdict(judged), indent=1))
    elif path.exists():
        judged.baseline_seconds = json.loads(path.read_text())["seconds"]


def show(judged):
    """Print a run: its line, then what is wrong, by name."""
    print(judged.line())
    for kind in ("failed", "errors"):
        for name in getattr(judged, kind):
            too = "   (on multiprocessing too)" if name in judged.fails_too else ""
            print(f"    {'failed' if kind == 'failed' else 'error '}: {name}{too}")
    for kind in ("dangling", "warnings", "problems"):
        for text in getattr(judged, kind):
            print(f"    {kind.removesuffix('s')}: {text}")
    if judged.wrong:
        print(f"    tracebacks: {judged.log}")
    sys.stdout.flush()


def conclude(chosen, verdicts):
    """Write what was asked for, print the closing line. Returns the exit status."""
    if chosen.json:
        chosen.json.write_text(json.dumps([dataclasses.asdict(v) for v in verdicts], indent=1) + "\n")
    status = 0
    if chosen.update_docs:
        if chosen.match or chosen.baseline:
            print("conformance: the table is only written from whole runs on goproc", file=sys.stderr)
            status = 2
        else:
            table.update(DOCUMENT, verdicts)
    passed = sum(v.passed + len(v.excepted) for v in verdicts)
    wrong = sum(v.wrong for v in verdicts)
    skipped = sum(len(v.skipped) + bool(v.missing) for v in verdicts)
    if not any(v.ran for v in verdicts):
        if all(v.missing for v in verdicts):
            hint = "Linux distributions have them in a package of their own, as Debian in libpython3-testsuite"
            print(
                f"conformance: this Python has none of CPython's own tests that were asked for ({hint})",
                file=sys.stderr,
            )
        else:
            print("conformance: no test was chosen", file=sys.stderr)
            status = 1
    print(f"{passed} passed, {wrong} failed, {skipped} skipped")
    return 1 if wrong else status
