"""The hooks of every interpreter of a conformance run; a .pth file of the run's venv imports this module.

The tests start interpreters of their own, also with ``-I`` or ``-E``. So an argument or PYTHONPATH does not reach all
of them, but the venv does. Outside a run (no ``GOPROC_CONFORMANCE`` in the environment) this module does nothing.
In a run:

* ``test.test_multiprocessing_<method>`` can be imported even if the installation lacks it (see standin.py);
* with goproc, each function of the standard library's multiprocessing that starts processes is trapped when its module
  is loaded: a call raises, and writes a line to the run's folder, so that a test cannot hide the call by catching the
  exception;
* with goproc, an interpreter that a test starts by itself (``python script.py``) calls ``goproc.install()`` when it
  imports multiprocessing, and reports the engine's counters when it ends. Children that goproc starts are not changed:
  the tests must show that they get goproc from their parent.
"""

import json
import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader

BASELINE = "baseline"
GOPROC = "goproc"
MODE = "GOPROC_CONFORMANCE"
FOLDER = "GOPROC_CONFORMANCE_FOLDER"
FUTURES = "GOPROC_CONFORMANCE_FUTURES"  # if set: concurrent.futures' executor is goproc's, too
TRAPS_FILE = "traps.jsonl"
COUNTERS_FILE = "counters.jsonl"
STANDIN_PREFIX = "test.test_multiprocessing_"
START_METHODS = ("fork", "spawn", "forkserver")


class StandardLibraryUsed(RuntimeError):
    """multiprocessing's own machinery ran where goproc should have."""


def append_line(name, record):
    """Append one JSON line to a file of the run's folder; whole lines, whichever processes write at once."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return
    data = json.dumps(record).encode() + b"\n"
    fd = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _trip(what):
    import traceback

    append_line(TRAPS_FILE, {"what": what, "pid": os.getpid(), "stack": "".join(traceback.format_stack()[:-1])})
    raise StandardLibraryUsed(f"{what} was used though goproc is installed")


def _trap_function(owner, name, what):
    """Replace owner.name, a plain function, by one that raises."""

    def trap(*args, **kwargs):
        _trip(what)

    setattr(owner, name, trap)


def _trap_launch(module):
    _trap_function(module.Popen, "_launch", f"{module.__name__}.Popen._launch")


def _trap_forkserver(module):
    for name in ("ensure_running", "connect_to_new_process"):
        # Both also exist as bound methods at module level, which keep the functions they were made of.
        _trap_function(module.ForkServer, name, f"multiprocessing.forkserver.ForkServer.{name}")
        setattr(module, name, getattr(module._forkserver, name))
    _trap_function(module, "main", "multiprocessing.forkserver.main")


def _trap_pool(module):
    """Trap the place where a Pool makes its workers, which ThreadPool (rightly the standard library's) shares."""
    pool, thread_pool = module.Pool, module.ThreadPool
    repopulate = pool._repopulate_pool_static
    thread_process = thread_pool.Process

    def trap(ctx, Process, *args, **kwargs):
        if Process is not thread_process:
            _trip("multiprocessing.pool.Pool's worker processes")
        return repopulate(ctx, Process, *args, **kwargs)

    pool._repopulate_pool_static = staticmethod(trap)


def _goproc_must_be_installed():
    """Is this an interpreter that a test started by itself? (goproc's children import goproc first.)"""
    return "goproc" not in sys.modules and not any(map(_runs_the_tracker, sys.orig_argv))


def _runs_the_tracker(argument):
    """Is this the program of multiprocessing's own resource tracker? It is left alone: it starts no process."""
    before, _, after = argument.partition("from multiprocessing.resource_tracker import main;main(")
    return not before and after.endswith(")") and after[:-1].isdigit()


def _install_goproc(module):
    if not _goproc_must_be_installed():
        return
    import goproc

    goproc.install()
    report_counters_at_exit()


def _replace_executor(module):
    if FUTURES in os.environ and "goproc" in sys.modules:
        import goproc

        goproc.install(futures=True)


def report_counters_at_exit():
    """Have this interpreter write the engine's counters to the run's folder when it ends, if it loaded an engine."""
    import atexit

    owner = os.getpid()

    def report():
        if os.getpid() == owner:
            counters = engine_counters()
            if counters is not None:
                append_line(COUNTERS_FILE, counters)

    atexit.register(report)


def engine_counters():
    """The engine's counters as goproc._common.engine tells them, None if this process never needed an engine."""
    calls = sys.modules.get("goproc._common.calls")
    return calls.stats() if calls is not None else None


_EXECUTORS = os.path.join(os.path.dirname(os.__file__), "concurrent", "futures", "process.py")
_STANDARD = os.path.join(os.path.dirname(os.__file__), "multiprocessing")

TRAPS = {
    os.path.join(_STANDARD, "popen_fork.py"): _trap_launch,
    os.path.join(_STANDARD, "popen_spawn_posix.py"): _trap_launch,
    os.path.join(_STANDARD, "popen_forkserver.py"): _trap_launch,
    os.path.join(_STANDARD, "forkserver.py"): _trap_forkserver,
    os.path.join(_STANDARD, "pool.py"): _trap_pool,
}


_watched: list = []  # the modules whose action has been done; a mark in the module would be seen by tests of its names


def _watch_imports():
    """Have an action follow the execution of each of the files above, under whatever name and by whatever finder."""
    actions = {os.path.join(_STANDARD, "__init__.py"): _install_goproc, _EXECUTORS: _replace_executor, **TRAPS}
    execute = SourceFileLoader.exec_module

    def exec_module(self, module):
        execute(self, module)
        action = actions.get(self.path)
        if action is not None:
            _watched.append(module)
            action(module)

    SourceFileLoader.exec_module = exec_module  # type: ignore[method-assign]


def untrapped():
    """Names of modules of the standard library that are loaded without their trap."""
    return sorted(
        name
        for name, module in list(sys.modules.items())
        if getattr(module, "__file__", None) in TRAPS and not any(module is watched for watched in _watched)
    )


class _StandinFinder:
    """Finds the stand-in for a test module that the installation lacks; last on sys.meta_path, so only then."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if not name.startswith(STANDIN_PREFIX) or name[len(STANDIN_PREFIX) :] not in START_METHODS:
            return None
        location = os.path.join(os.path.dirname(__file__), "standin.py")
        spec = ModuleSpec(name, SourceFileLoader(name, location), origin=location)
        spec.has_location = True
        return spec


def activate():
    """Install the hooks that the environment asks for."""
    mode = os.environ.get(MODE)
    if mode is None:
        return
    sys.meta_path.append(_StandinFinder)
    if mode == GOPROC:
        _watch_imports()


activate()
