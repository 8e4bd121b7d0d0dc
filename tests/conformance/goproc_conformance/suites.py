"""Finds the installed test modules of a suite, and the tests in them that count.

The layout of the test modules differs between versions of Python. Modules that are missing are skipped, and named.
Called by the test process (__main__.py) only.
"""

import importlib
import importlib.util
import inspect
import re
import unittest

# In the order in which `--suite all` runs them.
SUITES = ("mp", "main", "futures", "executor", "logging", "threading", "stdlib", "cluster")

# The classes of the suite cluster: the tests of Pool, on a goproc.cluster.Pool.
OF_POOL = (
    "WithProcessesTestPool.",
    "TestPoolWorkerErrors.",
    "TestPoolNotLeakOnFailure.",
    "WithProcessesTestPoolWorkerLifetime.",
)

# Modules of the standard library's suite with a few tests that use multiprocessing, directly or through an executor.
STDLIB_MODULES = (
    "test.test_asyncio.test_events",
    "test.test_asyncio.test_unix_events",
    "test.test_compileall",
    "test.test_fcntl",
    "test.test_genericalias",
    "test.test_importlib.test_threaded_import",
    "test.test_pickle",
    "test.test_re",
    "test.test_runpy",
    "test.test_socket",
)

# Tests of these modules count when their source mentions one of these.
# "workers" as an argument: threads are called so, too.
USES_MULTIPROCESSING = re.compile(
    r"multiprocessing|ProcessPoolExecutor|\bProcess\(|new_process|\bworkers=|['\"]workers\b"
)

# Every test of these counts: they use multiprocessing's classes through tables at module level.
WHOLE_MODULES = ("test.test_genericalias",)


class NotInstalled(Exception):
    """There are no such tests for this interpreter or start method; the text names what is missing."""


def load(suite, method, modules=()):
    """Collect a suite's tests.

    Arguments: suite, one of SUITES, or "modules" for the modules given; method, the start method; modules, names of
    modules. Returns a list of pairs (id, test), in the loader's order. The id is the same for all versions and start
    methods: ``Class.test``, behind ``module:`` where a suite has several modules.
    Raises NotInstalled when the interpreter has none of it.
    """
    if not _exists("test.support"):
        raise NotInstalled("package test (CPython's own tests)")
    return {
        "mp": _load_mp,
        "main": _load_main,
        "futures": _load_futures,
        "executor": _load_futures,  # with goproc's executor in the place of concurrent.futures'
        "logging": lambda m: _load_users(("test.test_logging",)),
        "threading": lambda m: _load_users(("test.test_threading",)),
        "cluster": _load_cluster,
        "stdlib": lambda m: _load_users(STDLIB_MODULES),
        "modules": lambda m: [(_qualified_id(test), test) for name in modules for test in _tests(name)],
    }[suite](method)


def replaces_executor(suite):
    """Is concurrent.futures.ProcessPoolExecutor goproc's in this suite?"""
    return suite == "executor"


def sets_start_method(suite):
    """Does the test process have to choose the start method for this suite? The others do so themselves."""
    return suite in ("logging", "threading", "stdlib", "modules")


def _load_mp(method):
    if not _exists("test._test_multiprocessing"):
        raise NotInstalled("test._test_multiprocessing")
    return [(_id(test), test) for test in _tests(f"test.test_multiprocessing_{method}")]


def exists(suite, method):
    """Whether a suite has tests with a start method. The workers of a cluster's machines are started by forkserver."""
    return suite != "cluster" or method == "forkserver"


def _load_cluster(method):
    if not exists("cluster", method):
        raise NotInstalled("pool of a cluster by fork or spawn")
    if not _exists("distributed"):
        raise NotInstalled("package distributed")
    return [(name, test) for name, test in _load_mp(method) if name.startswith(OF_POOL)]


def _load_main(method):
    name = "test.test_multiprocessing_main_handling"
    if not _exists(name):
        raise NotInstalled(name)
    return [(_id(test), test) for test in _tests(name) if getattr(test, "start_method", method) == method]


def _load_futures(method):
    name = "test.test_concurrent_futures"
    if not _exists(name):
        raise NotInstalled(name)
    return [(_id(test), test) for test in _tests(name) if _uses_process_pool(test, method)]


def _uses_process_pool(test, method):
    """Executors' tests bear their start method as ``ctx``; a few others in their names."""
    ctx = getattr(test, "ctx", None)
    if ctx is not None:
        return ctx == method
    return getattr(test, "_testMethodName", "").endswith(f"_{method}")


def _load_users(names):
    installed = [name for name in names if _exists(name)]
    tests = [
        (_qualified_id(test), test)
        for name in installed
        for test in _tests(name)
        if name in WHOLE_MODULES or _mentions_multiprocessing(test)
    ]
    if not tests:
        raise NotInstalled(f"tests that use multiprocessing in {', '.join(names)}")
    return tests


def _mentions_multiprocessing(test):
    function = getattr(test, getattr(test, "_testMethodName", ""), None)
    if function is None:
        return False
    try:
        return USES_MULTIPROCESSING.search(inspect.getsource(function)) is not None
    except (OSError, TypeError):
        return False


def _exists(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _tests(name):
    """The tests of a module or package, one by one."""
    try:
        module = importlib.import_module(name)
    except unittest.SkipTest as reason:
        raise NotInstalled(f"{name} ({reason})") from None
    return _flat(unittest.defaultTestLoader.loadTestsFromModule(module))


def _flat(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from _flat(item)
        else:
            yield item


def _id(test):
    method = getattr(test, "_testMethodName", None)
    return f"{type(test).__qualname__}.{method}" if method else test.id()


def _qualified_id(test):
    return f"{type(test).__module__.removeprefix('test.')}:{_id(test)}"
