"""The test process of a run: ``python -m goproc_conformance CONFIG``; launch.py starts it.

CONFIG is a JSON file (see launch.Plan). Events go to the run's events file, one JSON line each:

    {"event": "suite", "tests": [ids], "left_out": [ids]} the tests that will run, in order, and those left out
    {"event": "missing", "what": text}                    the interpreter lacks the suite
    {"event": "start", "id": id}
    {"event": "result", "id": id, "outcome": passed|failed|error|skipped, "text": text, "seconds": s}
    {"event": "altered", "after": id}                     test.support.environment_altered was set
    {"event": "end", "counters": {...} or null, "untrapped": [names]}

It is the module ``__main__`` of a package, like ``python -m test``; so multiprocessing does not import it again in the
children.
"""

import faulthandler
import json
import os
import resource
import signal
import sys
import time
import unittest

from goproc_conformance import startup, suites

NOT_IN_A_TEST = "(outside any test)"


class Events:
    """Writes the events file. Lines are appended whole, so a killed test process leaves no half of one."""

    def __init__(self, path):
        self._path = path
        self._owner = os.getpid()

    def write(self, **record):
        # A test's forked child that runs into the result object (by leaving os._exit out) must not report as us.
        if os.getpid() != self._owner:
            return
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, json.dumps(record).encode() + b"\n")
        finally:
            os.close(fd)


class Result(unittest.TestResult):
    """One outcome a test: subtests that fail make their test fail."""

    def __init__(self, events):
        super().__init__()
        self._events = events
        self._outcomes = {}
        self._started = 0.0
        self._running = False
        self._last = NOT_IN_A_TEST

    def startTest(self, test):
        self.note_alterations(f"between tests, after {self._last}")
        super().startTest(test)
        name = self._last = test.conformance_id
        self._outcomes = {}
        self._running = True
        self._started = time.monotonic()
        self._events.write(event="start", id=name)
        # The same name in the log puts what children print beside the test that started them.
        print(f"=== {name}", file=sys.__stderr__, flush=True)

    def stopTest(self, test):
        super().stopTest(test)
        self._running = False
        outcome = next((o for o in ("error", "failed", "skipped") if o in self._outcomes), "passed")
        self._report(self._last, outcome, self._outcomes.get(outcome, ""), time.monotonic() - self._started)
        self.note_alterations(self._last)

    def _report(self, name, outcome, text, seconds):
        self._events.write(event="result", id=name, outcome=outcome, text=text, seconds=round(seconds, 3))
        if outcome in ("error", "failed"):
            print(f"--- {outcome}: {name}\n{text}", file=sys.__stderr__, flush=True)

    def _record(self, test, outcome, text):
        if self._running:
            before = self._outcomes.get(outcome)
            self._outcomes[outcome] = f"{before}\n{text}" if before else text
        else:
            # unittest's stand-in for a failed setUpClass, tearDownModule, ...; in CPython 3.12.1 also a test that is
            # skipped, for which it calls neither startTest nor stopTest.
            self._report(getattr(test, "conformance_id", None) or test.id(), outcome, text, 0.0)

    def addSuccess(self, test):
        super().addSuccess(test)
        self._record(test, "passed", "")

    def addError(self, test, err):
        super().addError(test, err)
        self._record(test, "error", self.errors[-1][1])

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._record(test, "failed", self.failures[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            failed = issubclass(err[0], test.failureException)
            kept = self.failures if failed else self.errors
            self._record(test, "failed" if failed else "error", f"{subtest}\n{kept[-1][1]}")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._record(test, "skipped", reason)

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self._record(test, "passed", "")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._record(test, "failed", "unexpected success")

    def note_alterations(self, after):
        """Report and reset the flag by which test.support says that something was left dangling."""
        from test import support

        if support.environment_altered:
            support.environment_altered = False
            self._events.write(event="altered", after=after)


def choose(tests, config):
    """Apply the run's selection: --match, an exact list, what is left out, what an earlier test process has done."""
    match, only, done = config["match"], config["only"], {*config["done"], *config["leave_out"]}
    only = None if only is None else set(only)
    return [
        (name, test)
        for name, test in tests
        if name not in done and (only is None or name in only) and (not match or match in name)
    ]


def prepare(config):
    """Make this process fit to run tests as regrtest does: tracebacks, hooks that notice stray exceptions."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    faulthandler.enable()
    faulthandler.register(signal.SIGRTMAX, all_threads=True)
    if config["mode"] == startup.GOPROC:
        import goproc

        goproc.install(futures=suites.replaces_executor(config["suite"]))
        if config["suite"] == "cluster":
            put_pools_on_a_cluster()
    from test.libregrtest import utils

    utils.setup_unraisable_hook()
    utils.setup_threading_excepthook()


def put_pools_on_a_cluster():
    """Have each context make its pools on one cluster: two machines of two cores, which are processes."""
    import atexit

    from goproc import cluster, context
    from goproc._cluster.address import connect

    connection = connect("local:2x2")
    atexit.register(connection.close)

    def pool(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, **options):
        return cluster.Pool(connection.client, processes, initializer, initargs, maxtasksperchild, **options)

    context.BaseContext.Pool = context.DefaultContext.Pool = pool
    import multiprocessing

    multiprocessing.Pool = context._default_context.Pool


def main():
    with open(sys.argv.pop(1), encoding="utf-8") as file:
        config = json.load(file)
    for folder in config["path"]:
        sys.path.insert(0, folder)
    events = Events(config["events"])
    try:
        if not suites._exists("test.support"):
            raise suites.NotInstalled("package test (CPython's own tests)")
        prepare(config)
        tests = suites.load(config["suite"], config["method"], config["modules"])
    except suites.NotInstalled as missing:
        events.write(event="missing", what=str(missing))
        return
    if suites.sets_start_method(config["suite"]):
        import multiprocessing

        multiprocessing.set_start_method(config["method"], force=True)
    suite = unittest.TestSuite()
    names = []
    for name, test in choose(tests, config):
        test.conformance_id = name
        names.append(name)
        suite.addTest(test)
    left_out = [name for name, _ in tests if name in config["leave_out"]]
    events.write(event="suite", tests=names, left_out=left_out)
    # unittest drops each test when it has run. A reference kept here would keep what the test made, a process say,
    # from being collected, and the suite would rightly call it dangling.
    del tests, test
    result = Result(events)
    suite.run(result)
    print("=== (end of tests)", file=sys.__stderr__, flush=True)
    result.note_alterations("the last test's module")
    with_goproc = config["mode"] == startup.GOPROC
    events.write(
        event="end",
        counters=startup.engine_counters() if with_goproc else None,
        untrapped=startup.untrapped() if with_goproc else [],
    )


if __name__ == "__main__":
    main()
