"""goproc.logging: log records, warnings and tracebacks of child processes reach the main program's handlers."""

import functools
import logging
import os
import signal
import sys
import threading
import warnings
from collections import Counter

import logging_targets as targets
import pytest
from helpers import THREADS_ARE_MEANT, wait_until

import goproc
import goproc.logging


def run(context, target, *args, name=None, **options):
    process = context.Process(target=target, args=args, kwargs=options, name=name)
    process.start()
    process.join()
    return process


# ---- the ways to start a process


def test_process(context, relay, handler):
    process = run(context, targets.say, "hello", name="somebody")
    assert relay.flush()
    (record,) = handler.records
    assert record.name == "relayed.targets"
    assert (record.getMessage(), record.levelname, record.args) == ("hello", "INFO", None)
    assert (record.processName, record.process) == ("somebody", process.pid)
    assert (record.taskFunction, record.funcName, record.threadName) == ("say", "say", "MainThread")


def test_pool(context, relay, handler):
    with context.Pool(2) as pool:
        pids = pool.map(targets.say_number, range(6), chunksize=1)
        pids.append(pool.apply(functools.partial(targets.say, "partial")))
        pids += pool.map(targets.say_number, range(6, 8), chunksize=1, return_exceptions=True)
        assert relay.flush()
        names = {process.pid: process.name for process in pool._pool}
    assert sorted(handler.texts) == [*(f"number {number}" for number in range(8)), "partial"]
    assert [record.process for record in handler.records] != []
    assert Counter(record.process for record in handler.records) == Counter(pids)
    for record in handler.records:
        assert record.processName == names[record.process]
        assert record.taskFunction == ("say" if record.getMessage() == "partial" else "say_number")


def test_executor(context, relay, handler):
    with goproc.futures.ProcessPoolExecutor(2, context) as executor:
        pids = list(executor.map(targets.say_number, range(4)))
    assert relay.flush()
    assert sorted(handler.texts) == [f"number {number}" for number in range(4)]
    assert Counter(record.process for record in handler.records) == Counter(pids)
    assert {record.taskFunction for record in handler.records} == {"say_number"}


def test_manager(context, relay, handler):
    with goproc.managers.SyncManager(ctx=context) as manager:
        pass
    manager = goproc.managers.SyncManager(ctx=context)
    manager.start(targets.say, ("from the server",))
    manager.shutdown()
    assert relay.flush()
    assert handler.texts == ["from the server"]


@pytest.mark.parametrize("inner", ["fork", "spawn", "forkserver"])
def test_grandchildren(context, relay, handler, inner):
    process = run(context, targets.start_another, inner)
    assert process.exitcode == 0
    relay.flush()
    (record,) = handler.records
    assert (record.getMessage(), record.processName) == (f"by {inner}", f"grandchild by {inner}")
    assert record.process not in (process.pid, os.getpid())


def test_relay_in_a_child(context, relay, handler):
    assert run(context, targets.relay_here).exitcode == 0
    relay.flush()
    assert handler.texts == ["by fork", "still"]


def test_os_fork_in_a_child(relay, handler):
    assert run(goproc.get_context("fork"), targets.fork_here).exitcode == 0
    relay.flush()
    assert handler.texts == ["from os.fork()"]


def test_workers_forked_ahead(relay, handler):
    """Workers that were forked before relay() do not take the place of those that are started after it."""
    with goproc.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        pool.map(targets.say_number, range(40), chunksize=1)
        relay.flush()
    assert sorted(handler.texts) == sorted(f"number {number}" for number in range(40))


# ---- nothing is lost


def test_many(context, relay, handler):
    """10,000 records of 4 workers: all are there, in the order of each process."""
    with context.Pool(4) as pool:
        pool.starmap(targets.say_many, [(producer, 2500) for producer in range(4)], chunksize=1)
    relay.flush()
    told = [tuple(map(int, text.split())) for text in handler.texts]
    for producer in range(4):
        assert [number for who, number in told if who == producer] == list(range(2500))
    assert len(told) == 10_000


def test_slow_handler(relay, handler):
    """A process that logs waits for room, and loses nothing."""
    reached, going_on = threading.Event(), threading.Event()
    handler.addFilter(lambda record: reached.set() or going_on.wait())
    process = goproc.get_context("fork").Process(target=targets.say_many, args=(0, 5000))
    process.start()
    reached.wait()
    in_time = relay.flush(timeout=0.1)
    going_on.set()
    assert not in_time
    process.join()
    assert relay.flush()
    assert len(handler.records) == 5000


@pytest.mark.parametrize(("target", "status"), [("say_and_leave", 3), ("say_and_die", -9)])
def test_sudden_end(context, relay, handler, target, status):
    """A record is there when the call has returned, whatever happens to the process."""
    for number in range(5):
        assert run(context, getattr(targets, target), f"last words {number}").exitcode == status
    relay.flush()
    assert handler.texts == [f"last words {number}" for number in range(5)]


def test_killed_worker(context, relay, handler):
    with context.Pool(1) as pool:
        with pytest.raises(goproc.WorkerLostError):
            pool.apply(targets.say_and_die, ("last words",))
        pool.apply(targets.say, ("another worker",))
        relay.flush()
    assert handler.texts == ["last words", "another worker"]


def test_killed_while_it_logs(context, relay, handler):
    """A process that is killed while it logs leaves whole records only, and the others go on."""
    process = context.Process(target=targets.say_many, args=(1, 1_000_000))
    process.start()
    wait_until(lambda: len(handler.records) > 20)
    process.kill()
    process.join()
    run(context, targets.say, "after")
    relay.flush()
    assert handler.texts[-1] == "after"
    assert handler.texts[:-1] == [f"1 {number}" for number in range(len(handler.texts) - 1)]


def test_exit_functions(context, relay, handler):
    """Records that workers log at their end arrive: of an idle worker that is terminated, and of an executor's."""
    with context.Pool(1) as pool:
        pool.apply(targets.say_at_exit, ("the pool's",))
    with goproc.futures.ProcessPoolExecutor(1, context) as executor:
        executor.submit(targets.say_at_exit, "the executor's").result()
    relay.flush()
    assert handler.texts == ["the pool's", "the executor's"]


@pytest.mark.parametrize("size", [60_000, 70_000, 1_000_000, 20_000_000])
def test_large(relay, handler, size):
    context = goproc.get_context("fork")
    run(context, targets.log_large, size)
    run(context, targets.say, "after")
    relay.flush()
    assert [len(text) for text in handler.texts] == [size, 5]


LIMITED = """
import logging, resource, signal, sys
import goproc.logging
def work():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    logging.warning("x" * 200_000)
if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout)
    goproc.logging.relay()
    process = goproc.get_context("fork").Process(target=work)
    process.start()
    process.join()
"""


def test_large_without_files(run_script):
    """Where no file can carry a large record, it arrives in its short form."""
    done = run_script("-c", LIMITED)
    assert done.stdout == f"WARNING:root:{'x' * 2000} [...]\n"
    assert done.stderr == ""


# ---- what a record has


def test_exception(context, relay, handler):
    run(context, targets.log_error)
    relay.flush()
    (record,) = handler.records
    assert record.getMessage() == "caught"
    assert record.exc_info is None
    assert record.exc_text.startswith("Traceback")
    assert record.exc_text.endswith("ValueError: wrong")
    assert logging.Formatter("%(message)s").format(record) == f"caught\n{record.exc_text}"


def test_stack(context, relay, handler):
    run(context, targets.log_stack)
    relay.flush()
    (record,) = handler.records
    assert record.getMessage() == "here"
    assert "in log_stack" in record.stack_info
    assert logging.Formatter("%(message)s").format(record) == f"here\n{record.stack_info}"


def test_extra(context, relay, handler):
    run(context, targets.log_extra)
    relay.flush()
    (record,) = handler.records
    assert record.user == "anna"
    assert record.pair == targets.Pair(1, 2)
    assert "lock" in record.lock
    assert record.stranger == "<cannot be unpickled here: LookupError('not in this process')>"


def test_arguments_that_cannot_be_pickled(context, relay, handler):
    run(context, targets.log_arguments)
    relay.flush()
    first, second = handler.texts
    assert first.startswith("a lock: <unlocked _thread.lock object")
    assert first.endswith(", 7")
    assert second.startswith("<logging_targets.Pair object")


def test_malformed(context, relay, handler, capfd):
    """A record that cannot be formatted is reported where it is made, as without the relay."""
    run(context, targets.log_malformed)
    relay.flush()
    assert handler.texts == ["after"]
    assert "--- Logging error ---" in capfd.readouterr().err


def test_thread_of_a_child(context, relay, handler):
    with context.Pool(1) as pool:
        pool.apply(targets.log_from_thread)
        relay.flush()
    (record,) = handler.records
    assert record.threadName.startswith("Thread-")
    assert record.taskFunction == "log_from_thread"


def test_format(relay, handler):
    """taskFunction can be used in formats, also for the main program's own records."""
    handler.setFormatter(logging.Formatter("[%(taskFunction)s] %(message)s"))
    run(goproc.get_context("fork"), targets.say, "there")
    relay.flush()
    targets.say("here")
    assert [handler.format(record) for record in handler.records] == ["[say] there", "[] here"]


def test_record_factories(handler):
    """The program's own factory makes its records, before, during and after a relay."""

    class Own(logging.LogRecord):
        pass

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Own)
    try:
        with goproc.logging.relay() as relay:
            targets.say("one")
            run(goproc.get_context("fork"), targets.say, "two")
            relay.flush()
            logging.setLogRecordFactory(Own)  # does not know taskFunction
            run(goproc.get_context("fork"), targets.say, "three")
            relay.flush()
        assert logging.getLogRecordFactory() is Own
    finally:
        logging.setLogRecordFactory(before)
    assert [type(record) for record in handler.records] == [Own, Own, Own]
    assert [record.taskFunction for record in handler.records] == ["", "say", "say"]


# ---- levels, filters and handlers of the main program


def test_levels(context, handler):
    """A child sends what the main program would log."""
    loud, silent = logging.getLogger("relayed.loud"), logging.getLogger("relayed.silent")
    logging.addLevelName(25, "NOTICE")
    loud.setLevel(logging.DEBUG)
    silent.setLevel(logging.CRITICAL + 1)
    try:
        with goproc.logging.relay() as relay:
            run(context, targets.log_each_level)
            relay.flush()
            logging.disable(logging.INFO)
            run(context, targets.log_each_level)
            relay.flush()
    finally:
        logging.disable(logging.NOTSET)
        loud.setLevel(logging.NOTSET)
        silent.setLevel(logging.NOTSET)
    assert handler.texts == ["level 20", "level 25", "level 30", "loud", "level 25", "level 30"]
    assert [record.levelname for record in handler.records if record.levelno == 25] == ["NOTICE"] * 2


def test_levels_are_looked_at_again(relay, handler):
    """The main program's levels count when a record arrives."""
    context = goproc.get_context("fork")
    ready, told = context.Event(), context.Event()
    process = context.Process(target=targets.say_when_told, args=(ready, told))
    process.start()
    ready.wait()
    logging.getLogger("relayed").setLevel(logging.ERROR)
    told.set()
    process.join()
    relay.flush()
    assert handler.texts == []


def test_filters(context, relay, handler):
    logger = logging.getLogger("relayed.targets")

    def only_even(record):
        return os.getpid() != main or record.getMessage()[-1] in "02468"

    main = os.getpid()
    logger.addFilter(only_even)
    try:
        run(context, targets.say, "number 1")
        run(context, targets.say, "number 2")
        relay.flush()
    finally:
        logger.removeFilter(only_even)
    assert handler.texts == ["number 2"]


def test_inherited_handlers_do_not_write(relay, handler, tmp_path):
    """A forked child does not write to the main program's file a second time, nor what was in a buffer."""
    path = tmp_path / "log"
    file = logging.StreamHandler(open(path, "w"))
    file.flush = lambda: None
    logging.getLogger("relayed").addHandler(file)
    try:
        targets.say("in the buffer")
        run(goproc.get_context("fork"), targets.say, "of the child")
        relay.flush()
    finally:
        logging.getLogger("relayed").removeHandler(file)
        file.stream.close()
    assert path.read_text() == "in the buffer\nof the child\n"
    assert handler.texts == ["in the buffer", "of the child"]


def test_handler_that_raises(relay, handler, capfd):
    """An error in a handler is reported, and the next record is handled."""

    class Raising(logging.Handler):
        def emit(self, record):
            if record.getMessage() == "exit":
                sys.exit(3)
            raise LookupError(record.getMessage())

    raising = Raising()
    logging.getLogger("relayed.targets").addHandler(raising)
    try:
        with goproc.get_context("fork").Pool(1) as pool:
            pool.map(targets.say, ["one", "exit", "two"])
            assert relay.flush()
    finally:
        logging.getLogger("relayed.targets").removeHandler(raising)
    assert capfd.readouterr().err.count("--- Logging error ---") == 3


@THREADS_ARE_MEANT
def test_handler_that_uses_a_pool(context, relay, handler):
    """A handler may use a pool whose workers log."""

    class Using(logging.Handler):
        def emit(self, record):
            if record.levelno >= logging.ERROR:
                with context.Pool(1) as pool:
                    pool.apply(targets.say, ("from the handler",))

    using = Using()
    logging.getLogger("relayed.targets").addHandler(using)
    try:
        run(context, targets.say, "an error", logging.ERROR)
        assert relay.flush()
        assert relay.flush()
        targets.say("another", logging.ERROR)  # in the main thread, with the handler's lock
        assert relay.flush()
    finally:
        logging.getLogger("relayed.targets").removeHandler(using)
    assert sorted(handler.texts) == ["an error", "another", "from the handler", "from the handler"]


def test_flush_in_a_handler(relay, handler):
    """A handler that waits for itself is not waited for."""
    answers = []
    handler.addFilter(lambda record: answers.append(relay.flush()) or True)
    run(goproc.get_context("fork"), targets.say, "hello")
    assert relay.flush()
    assert answers == [False]


@pytest.mark.slow
@THREADS_ARE_MEANT
def test_forks_while_records_are_handled(relay, handler):
    """Children that are forked while a handler has its lock do not find it taken."""
    context = goproc.get_context("fork")
    busy = context.Process(target=targets.say_many, args=(0, 20_000))
    busy.start()
    for number in range(30):
        assert run(context, targets.say, f"forked {number}").exitcode == 0
    busy.join()
    relay.flush()
    assert [text for text in handler.texts if text.startswith("forked")] == [f"forked {n}" for n in range(30)]
    assert len(handler.texts) == 20_030


# ---- children that set up logging themselves


def test_own_configuration(context, relay, handler, tmp_path, monkeypatch):
    """What a child sets up by force is used, too, and its records are still sent."""
    monkeypatch.setattr(logging.getLogger("relayed"), "propagate", True)
    path = tmp_path / "own"
    with context.Pool(1, targets.configure, (str(path),)) as pool:
        pool.apply(targets.say, ("both", logging.WARNING))
        relay.flush()
    assert handler.texts == ["both"]
    assert path.read_text() == "both\n"


def test_basic_configuration(context, relay, handler, capfd):
    """basicConfig() in a child does nothing, as in a process that is set up already: no record appears twice."""
    with context.Pool(1, targets.configure_softly) as pool:
        pool.apply(targets.say, ("once", logging.WARNING))
        relay.flush()
    assert handler.texts == ["once"]
    assert "once" not in capfd.readouterr().err


def test_handlers_of_a_child(context, relay):
    with context.Pool(1) as pool:
        assert pool.apply(targets.handlers_of, ("relayed",)) == []
        assert len(pool.apply(targets.handlers_of, ("root",))) == 1


# ---- warnings and tracebacks


def test_warnings(context, relay, handler, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with context.Pool(1) as pool:
            pool.apply(targets.warn)
            relay.flush()
    (record,) = handler.records
    assert (record.name, record.levelname, record.taskFunction) == ("py.warnings", "WARNING", "warn")
    assert "UserWarning: take care" in record.getMessage()
    assert "take care" not in capfd.readouterr().err


def test_traceback_of_a_process(context, relay, handler, capfd):
    process = run(context, targets.fail, name="failing")
    assert process.exitcode == 1
    relay.flush()
    (record,) = handler.records
    assert (record.name, record.levelname) == ("goproc.tracebacks", "ERROR")
    assert (record.getMessage(), record.process) == ("Process failing:", process.pid)
    assert record.exc_text.startswith("Traceback")
    assert record.exc_text.endswith("ValueError: wrong")
    assert "_relay" not in record.exc_text
    assert capfd.readouterr().err == ""


@pytest.fixture
def standard_hook(monkeypatch):
    """The program has no hook of its own for threads, as under pytest."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)


@pytest.mark.usefixtures("standard_hook")
def test_traceback_of_a_thread(context, relay, handler, capfd):
    assert run(context, targets.fail_in_thread).exitcode == 0
    relay.flush()
    (record,) = handler.records
    assert (record.name, record.levelname) == ("goproc.tracebacks", "ERROR")
    assert record.getMessage() == "Exception in thread failing:"
    assert record.exc_text.endswith("ValueError: wrong")
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("standard_hook")
def test_traceback_that_is_not_wanted(context, relay, handler, capfd):
    """If the levels let no traceback through, it is printed, as without the relay."""
    logging.getLogger("goproc.tracebacks").setLevel(logging.CRITICAL)
    assert run(context, targets.fail).exitcode == 1
    assert run(context, targets.fail_in_thread).exitcode == 0
    relay.flush()
    assert handler.records == []
    printed = capfd.readouterr().err
    assert printed.count("ValueError: wrong") == 2
    assert "Exception in thread failing" in printed


def test_exit_status_is_not_a_traceback(context, relay, handler):
    assert run(context, sys.exit, 5).exitcode == 5
    relay.flush()
    assert handler.records == []


def test_main_module_that_cannot_be_imported(run_script, tmp_path):
    """The error of a child that cannot begin is a record, too, and is not printed by the child."""
    program = tmp_path / "program.py"
    program.write_text(
        "import logging, sys, warnings\nimport goproc, goproc.logging\n"
        "if __name__ == '__mp_main__':\n    warnings.warn('early')\n    raise LookupError('not in a child')\n"
        "def work(): pass\n"
        "if __name__ == '__main__':\n"
        "    logging.basicConfig(stream=sys.stdout, format='%(name)s %(message)s')\n"
        "    goproc.logging.relay()\n"
        "    process = goproc.get_context('spawn').Process(target=work)\n"
        "    process.start()\n    process.join()\n    print(process.exitcode)\n    goproc.logging.flush()\n"
    )
    done = run_script(program)
    assert done.stderr == ""
    assert "UserWarning: early" in done.stdout
    assert "goproc.tracebacks Exception:\nTraceback" in done.stdout
    assert "LookupError: not in a child" in done.stdout


# ---- one pool's workers


def test_pool_with_log(context, handler):
    with context.Pool(2, log=True) as pool:
        pool.map(targets.say_number, range(4), chunksize=1)
        run(context, targets.say, "of another process")  # with fork, it has the handler
    assert sorted(handler.texts) == [f"number {number}" for number in range(4)]


def test_two_pools(context, handler):
    with context.Pool(1, log=True) as one, context.Pool(1, log=True) as other, context.Pool(1) as third:
        one.apply(targets.say, ("one",))
        other.apply(targets.say, ("other",))
        third.apply(targets.say, ("third",))
        other.terminate()
        other.join()
        one.apply(targets.say, ("one again",))
    assert sorted(handler.texts) == ["one", "one again", "other"]


def test_pool_with_log_while_all_is_relayed(context, relay, handler):
    with context.Pool(1, log=True) as pool:
        pool.apply(targets.say, ("pool",))
    run(context, targets.say, "process")
    relay.flush()
    assert handler.texts == ["pool", "process"]


def test_replaced_worker_of_a_pool_with_log(context, handler):
    with context.Pool(1, log=True, maxtasksperchild=1) as pool:
        pool.map(targets.say_number, range(3), chunksize=1)
    assert handler.texts == [f"number {number}" for number in range(3)]


def test_pool_that_nobody_ends(handler):
    pool = goproc.get_context("fork").Pool(1, log=True)
    pool.apply(targets.say, ("hello",))
    with pytest.warns(ResourceWarning):
        del pool
    wait_until(lambda: handler.texts == ["hello"])


def test_joined_pool(context, handler):
    pool = context.Pool(2, log=True)
    result = pool.map_async(targets.say_number, range(4), chunksize=1)
    pool.close()
    pool.join()
    assert result.successful()
    assert len(handler.texts) == 4


def test_pool_driven_by_queues(context, handler):
    """A class that replaces private parts of Pool has the option, too."""

    class Own(goproc.pool.Pool):
        def _help_stuff_finish(*arguments):
            goproc.pool.Pool._help_stuff_finish(*arguments)

    pool = Own(1, context=context, log=True)
    pool.map(targets.say_number, range(2))
    pool.close()
    pool.join()
    assert handler.texts == ["number 0", "number 1"]


# ---- the ends


def test_again_and_again(handler):
    context = goproc.get_context("fork")
    for number in range(3):
        relay = goproc.logging.relay()
        assert goproc.logging.relay() is relay
        run(context, targets.say, f"round {number}")
        relay.stop()
        relay.stop()
        assert handler.texts[-1] == f"round {number}"
        assert goproc.logging.flush()
    factory = logging.getLogRecordFactory()
    assert factory is logging.LogRecord


def test_stopped_while_children_run(context, handler, capfd):
    """After stop(), a child prints warnings and errors on its standard error."""
    ready, told = context.Event(), context.Event()
    with goproc.logging.relay():
        process = context.Process(target=targets.say_when_told, args=(ready, told))
        process.start()
        ready.wait()
    told.set()
    process.join()
    assert process.exitcode == 0
    assert handler.texts == []
    assert capfd.readouterr().err == "late\n"


def test_after_the_relay(handler):
    """Processes that are started after stop() do as without it."""
    goproc.logging.relay().stop()
    with goproc.get_context("spawn").Pool(1) as pool:
        assert pool.apply(targets.handlers_of, ("root",)) == []


def test_fork_of_the_main_program(relay, handler):
    """A copy that os.fork() makes keeps its handlers and has no second reader; its children relay to the first."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pid = os.fork()
    if not pid:
        code = 1
        try:
            threads = [thread.name for thread in threading.enumerate()]
            targets.say("in the copy")
            assert handler.texts == ["in the copy"]
            assert threads == ["MainThread"], threads
            assert run(goproc.get_context("fork"), targets.say, "by the copy's child").exitcode == 0
            code = 0
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(code)
    os.close(writing)
    said = os.read(reading, 1000)
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    assert (os.waitstatus_to_exitcode(status), said) == (0, b"")
    relay.flush()
    assert handler.texts == ["by the copy's child"]


EXIT = """
{imports}
import time
class Last(logging.StreamHandler):
    def emit(self, record):
        time.sleep(0.01)
        super().emit(record)
    def close(self):
        super().close()
        print("closed", flush=True)
def work():
    time.sleep(0.2)
    for number in range(50):
        logging.info("%d", number)
def early(number):
    logging.info("early")
if __name__ == "__main__":
    handler = Last(sys.stdout)
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(message)s")
    goproc.logging.relay()
    context = goproc.get_context("{method}")
    context.Process(target=work).start()
    pool = context.Pool(2, log=True)
    pool.map(early, range(20))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import logging, sys\nimport goproc.logging",
        "import goproc.logging, multiprocessing.util\nimport logging, sys",
        "import sys, multiprocessing.util\nimport logging\nimport goproc.logging",
    ],
)
def test_end_of_the_program(run_script, tmp_path, method, imports):
    """The records of all children are handled before the handlers are closed, whatever was imported first."""
    program = tmp_path / "program.py"
    program.write_text(EXIT.format(imports=imports, method=method))
    done = run_script(program, options=["-W", "ignore::ResourceWarning"])
    lines = done.stdout.split()
    assert lines[-1] == "closed"
    assert Counter(lines) == Counter(["closed", *["early"] * 20, *map(str, range(50))])
    assert done.stderr == ""


KILLED = """
import logging, os, signal, sys, time
import goproc, goproc.logging
def work(pid, path):
    logging.warning("first")
    os.kill(pid, signal.SIGKILL)
    while os.getppid() == pid:
        time.sleep(0.001)
    for number in range(2000):
        logging.warning("after %d", number)
    open(path, "w").close()
if __name__ == "__main__":
    goproc.logging.relay()
    process = goproc.get_context("fork").Process(target=work, args=(os.getpid(), sys.argv[1]))
    process.start()
    process.join()
"""


def test_main_program_is_killed(run_script, tmp_path):
    """A child whose main program is gone does not wait for it: it prints on its standard error."""
    path = tmp_path / "done"
    done = run_script("-c", KILLED, path, status=-signal.SIGKILL)
    wait_until(path.exists)
    assert done.stderr.endswith("after 1999\n")  # the first ones may have been sent while the program was ending


STOPPED = """
import logging, os, signal, sys, time
import goproc, goproc.logging
def work():
    logging.warning("before the end")
if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    goproc.logging.relay()
    main = os.getpid()
    process = goproc.get_context("fork").Process(target=work)
    helper = os.fork()
    if not helper:
        os.kill(main, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(main, signal.SIGCONT)
        os._exit(0)
    process.start()
    process.join()
    os.waitpid(helper, 0)
"""


def test_main_program_is_stopped(run_script):
    done = run_script("-c", STOPPED)
    assert done.stdout == "before the end\n"


CLOSED = """
import logging, os
import goproc, goproc.logging
def work():
    os.closerange(3, 1000)
    files = [os.open("/dev/null", os.O_WRONLY) for _ in range(50)]
    logging.warning("all closed")
if __name__ == "__main__":
    with goproc.logging.relay():
        process = goproc.get_context("fork").Process(target=work)
        process.start()
        process.join()
        print(process.exitcode)
"""


def test_closed_descriptors(run_script):
    """A child that closes all descriptors, as daemons do, prints on standard error, and writes into no other file."""
    done = run_script("-c", CLOSED)
    assert (done.stdout, done.stderr) == ("0\n", "all closed\n")


def test_import(run_script):
    """`import goproc` imports neither the relay nor logging. goproc.logging is not the standard library's module."""
    code = "import sys, goproc; print('logging' in sys.modules, 'goproc.logging' in sys.modules, goproc.logging.relay)"
    done = run_script("-c", code, options=["-X", "frozen_modules=on"])
    assert done.stdout.startswith("False False <function relay")


def test_log_of_goproc(run_script, tmp_path):
    """multiprocessing's own log of children is written once, by the main program's handler."""
    program = tmp_path / "program.py"
    program.write_text(
        "import logging, sys\nimport goproc, goproc.logging\n"
        "def work(): goproc.get_logger().warning('of the child')\n"
        "if __name__ == '__main__':\n"
        "    goproc.log_to_stderr(logging.WARNING)\n"
        "    goproc.logging.relay()\n"
        "    for method in ('fork', 'spawn', 'forkserver'):\n"
        "        process = goproc.get_context(method).Process(target=work, name=method)\n"
        "        process.start()\n        process.join()\n"
    )
    done = run_script(program)
    assert done.stderr == "".join(f"[WARNING/{method}] of the child\n" for method in ("fork", "spawn", "forkserver"))
