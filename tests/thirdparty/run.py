"""Run programs and tools that others have written for multiprocessing on goproc; `make thirdparty` calls this.

    python tests/thirdparty/run.py [--start-method METHOD] [--time-limit SECONDS] [NAME ...]

The interpreter must have goproc and requirements.txt installed. Each program is run unchanged: once on the standard
library's multiprocessing, then for each start method as `python -m goproc --stats --start-method METHOD ...`. A run
passes if the exit status is 0, the output and the warnings are the same as on multiprocessing (for a tool: they contain
the expected texts), the line of --stats says that the engine started processes, and no process is left.

Prints a line for each run. The exit status is 0 when all runs passed, 1 when one failed, 2 for an unknown name.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
METHODS = ("fork", "spawn", "forkserver")
TIME_LIMIT = 180.0  # seconds for one run; most take less than five
GRACE = 5.0  # seconds that a program's processes may take to go after the main one has gone
STATS = re.compile(
    r"^goproc: processes started: fork (\d+), spawn (\d+), forkserver (\d+); tasks done: (\d+)[,;].*\n", re.M
)
MARK = "GOPROC_THIRDPARTY"  # in the environment of all processes of a run


@dataclass(frozen=True)
class Program:
    """What to run, and how to judge it.

    arguments: what stands behind `python`, or `python -m goproc`; "{method}" in them is the start method. methods:
    start methods to run it with. starts: must the engine have started processes? contains: what its output must
    contain; None: it must be that on multiprocessing. installs: runs as `python -m goproc`; otherwise it uses goproc by
    itself, once. futures: runs with --futures, and the engine's pools must do what executors submit. source: a package
    whose source distribution is downloaded for the tests in it; these are not run on multiprocessing. optional: it is
    not run where its packages are not installed.
    """

    name: str
    packages: tuple[str, ...]
    arguments: tuple[str, ...]
    methods: tuple[str, ...] = METHODS
    starts: bool = True
    contains: str | None = None
    status: int = 0
    installs: bool = True
    futures: bool = False
    source: str | None = None
    optional: bool = False


def script(name: str) -> tuple[str, ...]:
    """The arguments that run one of the programs."""
    return (str(FOLDER / "programs" / f"{name}.py"),)


def pytest(tests: str) -> tuple[str, ...]:
    """The arguments that run tests by pytest."""
    return ("-m", "pytest", "-q", "-p", "no:cacheprovider", tests)


PROGRAMS = (
    Program("concurrent.futures", (), script("futures")),
    Program("concurrent.futures, goproc's contexts", (), script("futures_contexts"), installs=False),
    Program("concurrent.futures, goproc's executor", (), script("futures"), futures=True),
    Program("asyncio, goproc's executor", (), script("asyncio_executor"), futures=True),
    Program("dask, goproc's executor", ("dask",), script("dask_processes"), futures=True),
    Program("tqdm, goproc's executor", ("tqdm",), script("tqdm_process_map"), futures=True),
    Program("joblib, multiprocessing", ("joblib", "numpy"), script("joblib_multiprocessing")),
    Program("joblib, loky", ("joblib", "numpy"), script("joblib_loky"), starts=False),
    Program(
        "joblib, goproc's backend", ("joblib", "scikit-learn", "numpy"), script("joblib_backend"),
        contains="cross_val_score True\nRandomForest True\nGridSearchCV True\narrays True\nlambdas True\nMemory True\n",
        installs=False,
    ),
    # In processes of its own.
    Program(
        "joblib's own tests, goproc's backend", ("joblib", "numpy", "pytest"), script("joblib_own_tests"),
        starts=False, contains=" passed", installs=False,
    ),
    Program("scikit-learn", ("scikit-learn", "joblib"), script("sklearn_models")),
    Program("scipy", ("scipy",), script("scipy_workers")),
    Program("numpy and pandas", ("numpy", "pandas"), script("pandas_pool")),
    Program("dask", ("dask",), script("dask_processes")),
    Program("tqdm", ("tqdm",), script("tqdm_process_map")),
    Program("tqdm, starmap", ("tqdm",), script("tqdm_starmap")),
    Program("parmap", ("parmap",), script("parmap_pool")),
    Program("mpire", ("mpire",), script("mpire_pool")),
    Program("mpire, more of its API", ("mpire", "numpy"), script("mpire_api")),
    Program("pebble", ("pebble",), script("pebble_pool")),
    *(
        Program(
            f"pebble's own tests, {what}", ("pebble", "pytest"), pytest(f"pebble/test/test_{what}_{{method}}.py"),
            contains=" passed", source="pebble",
        )
        for what in ("concurrent_process", "asynchronous_process", "process_pool")
    ),
    Program(
        "s3transfer's own tests", ("s3transfer", "pytest"), pytest("s3transfer/tests/functional/test_processpool.py"),
        contains=" passed", source="s3transfer",
    ),
    Program("loguru", ("loguru",), script("loguru_queue")),
    Program("ray's Pool tests", (), script("ray_pool_api")),
    Program("Django, test --parallel", ("django", "tblib"), script("django_parallel"), ("fork", "spawn")),
    Program("uvicorn, workers", ("uvicorn",), script("uvicorn_workers"), ("spawn",)),
    Program("gymnasium", ("gymnasium", "numpy"), script("gymnasium_vector")),
    Program("emcee", ("emcee", "numpy"), script("emcee_pool")),
    Program("dynesty", ("dynesty", "numpy"), script("dynesty_pool")),
    Program("luigi", ("luigi",), script("luigi_workers")),
    Program("aiomultiprocess", ("aiomultiprocess",), script("aiomultiprocess_pool")),
    Program("torch", ("torch",), script("torch_dataloader"), optional=True),
    Program("gevent", ("gevent",), script("gevent_greenlets")),
    Program("gevent, goproc's executor", ("gevent",), script("gevent_executor"), installs=False),
    Program("gevent, subprocess", ("gevent",), script("gevent_subprocess"), ("fork",)),
    Program("coverage", ("coverage",), script("coverage_children")),
    Program(
        "VizTracer", ("viztracer",),
        ("-m", "viztracer", "--quiet", "-o", "trace.json", "--", *script("traced_children")),
    ),
    Program(
        "debugpy", ("debugpy",),
        ("-m", "debugpy", "--listen", "127.0.0.1:0", *script("traced_children")),
    ),
    # Its workers are interpreters of its own, in which only what the tests' conftest.py installs runs on goproc.
    Program(
        "pytest-xdist", ("pytest", "pytest-xdist"), ("-m", "pytest", "-n", "2", "xdist/checks_on_goproc.py"),
        starts=False, contains="10 passed",
    ),
    Program("green", ("green",), ("-m", "green", "-q", "-s", "2", "unit"), contains="12 tests"),
    Program("isort", ("isort",), ("-m", "isort", "--check-only", "-j", "2", "imports")),
    Program(
        "cutadapt", ("cutadapt",),
        ("-m", "cutadapt", "--quiet", "-j", "2", "--buffer-size", "50000", "-a", "ACGTACGTAC", "reads.fastq"),
    ),
    # Its functions can only be sent to forked processes. Another task of the two processes sums what they return.
    Program(
        "doit", ("doit",),
        ("-m", "doit", "-f", "dodo.py", "--backend", "json", "--db-file", "doit.json", "-n", "2", "-P", "process"),
        ("fork",), contains="the sum is 28\n",
    ),
    Program("flake8", ("flake8",), ("-m", "flake8", "--isolated", "-j", "2", "lint"), status=1),
    Program("pylint", ("pylint",), ("-m", "pylint", "--rcfile=", "-s", "n", "-j", "2", "lint"), status=4),
    # Only its forked readers and writers are parallel: it asks for that context by name.
    Program(
        "sphinx", ("sphinx",), ("-m", "sphinx", "-q", "-E", "-j", "2", "-b", "text", "pages", "out"), ("fork",),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its exit status (None: out of time), what it printed, seconds, and what was left running."""

    status: int | None
    stdout: str
    stderr: str
    seconds: float
    left: list[str]


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says. Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="*", help="only programs whose name contains one of these")
    parser.add_argument("--start-method", action="append", choices=METHODS, help="default: all three")
    parser.add_argument("--time-limit", type=float, default=TIME_LIMIT, metavar="SECONDS", help="for one run")
    chosen = parser.parse_args(argv)
    programs = [p for p in PROGRAMS if not chosen.name or any(name in p.name for name in chosen.name)]
    if not programs:
        print(f"no such program; there are: {', '.join(p.name for p in PROGRAMS)}", file=sys.stderr)
        return 2
    print(f"CPython {platform.python_version()}, goproc {version('goproc')}", flush=True)
    with tempfile.TemporaryDirectory(prefix="gp3-") as work:
        prepare(Path(work), programs)
        results = [run_program(program, chosen, Path(work)) for program in programs]
    failed = sum(not passed for passed in results)
    print(f"{len(results)} programs, {failed} failed")
    return 1 if failed else 0


def prepare(work: Path, programs: list[Program]) -> None:
    """Make what the tools work on in a folder outside any project, whose settings they would find."""
    for source in sorted({program.source for program in programs if program.source}):
        unpack_source(source, work)
    prepare_tools(work)


def unpack_source(package: str, work: Path) -> None:
    """Download the source distribution of the installed version of a package into a folder of its name.

    The waits in its tests are made longer, so that the tests do not fail on a busy machine.
    """
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*download, "--dest", str(work), f"{package}=={version(package)}"], check=True)
    (archive,) = work.glob(f"{package}-*.tar.gz")
    shutil.unpack_archive(archive, work)
    (work / archive.name.removesuffix(".tar.gz")).rename(work / package)
    for test in (work / package).rglob("test_*.py"):
        # A second is not enough for a process to come up on a busy machine.
        text = test.read_text().replace("wait(timeout=1)", "wait(timeout=60)")
        test.write_text(re.sub(r"time\.sleep\([12]\)", "time.sleep(10)", text))


DODO = """
def number(n):
    return {"n": n}


def add(numbers):
    print("the sum is", sum(numbers.values()))


def task_number():
    for n in range(8):
        yield {"name": str(n), "actions": [(number, [n])]}


def task_add():
    return {"actions": [add], "getargs": {"numbers": ("number", "n")}, "uptodate": [False], "verbosity": 2}
"""


def prepare_tools(work: Path) -> None:
    """Make what linters, test runners and the like work on."""
    shutil.copytree(FOLDER / "xdist", work / "xdist", ignore=shutil.ignore_patterns("__pycache__"))
    (work / "lint").mkdir()
    (work / "pages").mkdir()
    (work / "unit").mkdir()
    (work / "imports").mkdir()
    letters = "ACGTTGCAAC"
    reads = ("".join(letters[(n * k + k) % 10] for k in range(60)) + "ACGTACGTAC" * (n % 2) for n in range(3000))
    (work / "reads.fastq").write_text("".join(f"@{n}\n{r}\n+\n{'I' * len(r)}\n" for n, r in enumerate(reads)))
    (work / "dodo.py").write_text(DODO)
    (work / "pages" / "conf.py").write_text('project = "pages"\n')
    names = [f"page_{number}" for number in range(8)]
    for name in names:
        (work / "imports" / f"{name}.py").write_text("import os\nimport sys\n")
        (work / "lint" / f"{name}.py").write_text(f'"""Module {name}."""\n\nimport os\n')
        (work / "pages" / f"{name}.rst").write_text(f"{name}\n======\n\nA page.\n")
    for number in range(4):
        text = "".join(f"    def test_{n}(self):\n        self.assertEqual({n}, {n})\n" for n in range(3))
        case = f"import unittest\n\n\nclass Case{number}(unittest.TestCase):\n{text}"
        (work / "unit" / f"test_{number}.py").write_text(case)
    (work / "unit" / "__init__.py").write_text("")
    index = "pages\n=====\n\n.. toctree::\n\n" + "".join(f"   {name}\n" for name in names)
    (work / "pages" / "index.rst").write_text(index)


def run_program(program: Program, chosen: argparse.Namespace, work: Path) -> bool:
    """Run a program in all its ways and print how it went. Returns whether all passed."""
    if program.optional and (missing := [p for p in program.packages if not is_installed(p)]):
        print(f"{program.name}\n  not run: {', '.join(missing)} is not installed", flush=True)
        return True
    packages = ", ".join(f"{package} {version(package)}" for package in program.packages)
    print(f"{program.name}{f' ({packages})' if packages else ''}", flush=True)
    if not program.installs:
        outcome = execute([sys.executable, *program.arguments], work, chosen.time_limit, GOPROC_STATS="1")
        return report("its own choice", program, outcome, None)
    plain, passed = None, True
    if program.source is None:
        plain = execute([sys.executable, *program.arguments], work, chosen.time_limit)
        passed = report("multiprocessing", program, plain, plain)
    for method in program.methods:
        if chosen.start_method and method not in chosen.start_method:
            continue
        arguments = [argument.replace("{method}", method) for argument in program.arguments]
        options = ["--stats", *["--futures"] * program.futures, "--start-method", method]
        command = [sys.executable, "-m", "goproc", *options, *arguments]
        outcome = execute(command, work, chosen.time_limit)
        passed &= report(method, program, outcome, plain)
    return passed


def is_installed(package: str) -> bool:
    """Whether a package is installed."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def execute(command: list[str], work: Path, time_limit: float, **variables: str) -> Outcome:
    """Run a command to its end, or to the time limit, and end what it leaves running."""
    mark = uuid.uuid4().hex
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "GOPROC_"))}
    environment["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # debugpy's advice for the interpreter's command line
    environment.update(variables, **{MARK: mark})
    begin = time.monotonic()
    # Into files: a pipe that an escaped child holds open would never be at its end.
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen(
            command, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )
        try:
            status: int | None = process.wait(time_limit)
        except subprocess.TimeoutExpired:
            status = None
        seconds = time.monotonic() - begin
        left = end_leftover(mark, 0 if status is None else GRACE)
        process.wait()
        stdout.seek(0)
        stderr.seek(0)
        return Outcome(status, stdout.read(), stderr.read(), seconds, left)


def end_leftover(mark: str, grace: float) -> list[str]:
    """Wait for the end of a run's processes; kill those that have not ended after grace seconds, and name them."""
    deadline = time.monotonic() + grace
    while (running := marked_processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in running:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return list(running.values())


def marked_processes(mark: str) -> dict[int, str]:
    """The processes of this machine that have the mark in their environment: {pid: command line}."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                pass  # it has ended, or belongs to somebody else
    return found


def report(title: str, program: Program, outcome: Outcome, plain: Outcome | None) -> bool:
    """Print the line of a run, and what is wrong with it, if anything. Returns whether it passed."""
    stats = STATS.search(outcome.stderr)
    started = sum(map(int, stats.groups()[:3])) if stats else 0
    if stats and program.futures and title != "multiprocessing" and not int(stats[4]):
        started = 0  # the executor was not goproc's
    problems = list(problems_of(program, outcome, plain, stats is not None, started))
    counts = f"; the engine started {started} processes, did {stats[4]} tasks" if stats else ""
    print(f"  {'FAILED' if problems else 'ok':6} {title:15} {outcome.seconds:5.1f} s{counts}", flush=True)
    for problem in problems:
        print("         " + problem.rstrip().replace("\n", "\n         "))
    return not problems


def problems_of(program, outcome, plain, has_stats, started):
    """Say what is wrong with a run, one text for each thing."""
    if outcome.status is None:
        yield f"out of time\n{outcome.stderr}"
    elif outcome.status != program.status:
        yield f"exit status {outcome.status} instead of {program.status}\n{outcome.stdout}{outcome.stderr}"
    elif program.contains is not None and program.contains not in outcome.stdout:
        yield f"nothing like {program.contains!r} in the output:\n{outcome.stdout}"
    elif program.contains is None and plain is not None and outcome.stdout != plain.stdout:
        yield f"printed\n{outcome.stdout}instead of\n{plain.stdout}"
    complaints = STATS.sub("", outcome.stderr)
    if complaints and outcome.status == program.status and (plain in (None, outcome) or complaints != plain.stderr):
        yield f"on stderr:\n{complaints}"
    if outcome is not plain and program.starts and not started:
        yield "the engine started no process" if has_stats else "no line of statistics"
    for command in outcome.left:
        yield f"left running: {command}"


if __name__ == "__main__":
    sys.exit(main())
