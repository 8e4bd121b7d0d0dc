"""pickler="cloudpickle": functions and classes that pickle cannot find travel by value, all others by their names."""

import copyreg
import os
import pickle
import re
import sys
import threading
import weakref
from multiprocessing.reduction import ForkingPickler

import pytest
from pickler_targets import call, nested, twice, variable

import goproc
from goproc.futures import ProcessPoolExecutor

pytest.importorskip("cloudpickle", reason="cloudpickle is not installed for this Python")

NOTES = sys.version_info >= (3, 11)
NEW_INTERPRETERS = pytest.mark.parametrize("method", ["spawn", "forkserver"])


@pytest.fixture
def by_value(method):
    """The context of each start method, with cloudpickle."""
    return goproc.get_context(method, pickler="cloudpickle")


@pytest.fixture
def pool(method):
    """A pool by each start method, with cloudpickle, as a proxy: pytest keeps what a fixture yields."""
    with goproc.get_context(method).Pool(2, pickler="cloudpickle") as pool:
        yield weakref.proxy(pool)
    pool.join()


def test_each_method_of_a_pool(pool):
    step = 3

    def add(number, other=step):
        return number + other

    assert pool.apply(lambda: step) == 3
    assert pool.apply(add, (1,), {"other": 2}) == 3
    assert pool.apply_async(add, (1,)).get() == 4
    assert pool.map(add, range(40)) == pool.map_async(add, range(40)).get() == list(range(3, 43))
    assert pool.map(add, range(4), chunksize=2) == pool.map(add, range(4), task_timeout=60) == [3, 4, 5, 6]
    assert pool.starmap(add, [(1, 2), (3, 4)]) == pool.starmap_async(add, [(1, 2), (3, 4)]).get() == [3, 7]
    assert list(pool.imap(add, range(4))) == list(pool.imap(add, iter(range(4)), chunksize=3)) == [3, 4, 5, 6]
    assert sorted(pool.imap_unordered(add, range(4))) == [3, 4, 5, 6]
    assert pool.map(twice, range(40)) == [2 * number for number in range(40)]


class Counted:
    """Counts how often it is pickled."""

    pickled = 0

    def __reduce__(self):
        Counted.pickled += 1
        return int, (5,)


def test_a_function_without_state_is_pickled_once_for_each_call(pool, monkeypatch):
    import cloudpickle

    pickled = []
    reduce = cloudpickle.Pickler.reducer_override

    def reducer_override(self, obj):
        pickled.append(obj)
        return reduce(self, obj)

    monkeypatch.setattr(cloudpickle.Pickler, "reducer_override", reducer_override)
    step = 3
    adds, both = lambda number: number + step, lambda *numbers: sum(numbers) + step
    calls = (
        lambda: pool.map(adds, range(20), chunksize=1),
        lambda: pool.starmap(both, [(number,) for number in range(20)], chunksize=1),
        lambda: list(pool.imap(adds, range(20))),
        lambda: sorted(pool.imap_unordered(adds, iter(range(20)))),
        lambda: pool.map(adds, range(20), return_exceptions=True),
    )
    for call_it in calls:
        pickled.clear()
        assert call_it() == list(range(3, 23))
        assert len([obj for obj in pickled if obj in (adds, both)]) == 1


def test_a_function_with_state_is_pickled_for_each_task(pool):
    value = Counted()
    several: list = []

    def number_of(item):
        return value

    def is_several(item):
        return item is several

    def values():
        for number in range(20):
            several.append(number)
            yield several

    Counted.pickled = 0
    assert pool.map(number_of, range(20), chunksize=1) == [5] * 20
    assert Counted.pickled == 20
    assert pool.map(is_several, values(), chunksize=1) == [True] * 20


def test_parts_of_a_stream(pool):
    def yield_functions(number):
        for _ in range(2):
            yield lambda: number

    assert [(index, value()) for index, value in pool.stream(yield_functions, [3])] == [(0, 3), (0, 3)]


def test_arguments_and_results(pool):
    step = 3

    class Local:
        def __init__(self, value):
            self.value = value

        def get(self):
            return self.value + step

    assert pool.apply(call, (lambda number: number + step, 1)) == 4
    assert pool.apply(lambda number: lambda: number + step, (1,))() == 4
    made = pool.apply(Local, (5,))
    assert type(made) is Local and made.get() == 8
    assert pool.map(Local.get, [made, made]) == [8, 8]
    assert pool.map(made.get.__func__, [made]) == pool.starmap(made.get, [()]) == [8]


def test_exceptions(pool):
    class Refused(Exception):
        pass

    def refuse(number):
        raise Refused(number, lambda: number)

    with pytest.raises(Refused) as caught:
        pool.apply(refuse, (3,))
    assert caught.value.args[0] == caught.value.args[1]() == 3
    assert "Refused" in str(caught.value.__cause__)
    assert [error.args[0] for error in pool.map(refuse, range(3), return_exceptions=True)] == [0, 1, 2]
    with pytest.raises(TypeError, match="cannot pickle '_thread.lock' object"):
        lock = threading.Lock()
        pool.apply(lambda: lock)
    with pytest.raises(goproc.pool.MaybeEncodingError, match="cannot pickle '_thread.lock' object"):
        pool.apply(threading.Lock)
    assert pool.apply(twice, (2,)) == 4


def test_arguments_of_a_lost_task(pool):
    class Local:
        pass

    with pytest.raises(goproc.WorkerLostError) as caught:
        pool.apply(lambda number, *others, **named: os._exit(number), (5, lambda: 1, Local()), {"name": "x"})
    assert caught.value.argument == "5, <function>, <Local object>, name='x'"
    with pytest.raises(goproc.WorkerLostError) as caught:
        pool.map(lambda number: os._exit(number), [7], chunksize=1)
    assert caught.value.argument == "7"


def test_initializer_and_workers_that_are_replaced(by_value):
    name = "GOPROC_TEST_OF_PICKLER"

    def begin(value):
        os.environ[name] = value()

    with by_value.Pool(1, begin, (lambda: "begun",), maxtasksperchild=1) as pool:
        assert pool.map(variable, [name] * 3, chunksize=1) == ["begun"] * 3
    pool.join()
    with ProcessPoolExecutor(1, by_value, begin, (lambda: "begun",)) as executor:
        assert executor.submit(variable, name).result() == "begun"


@pytest.mark.parametrize("of_context", [True, False])
def test_executor(method, of_context):
    context = goproc.get_context(method, pickler="cloudpickle") if of_context else goproc.get_context(method)
    step = 3
    with ProcessPoolExecutor(2, context, pickler=None if of_context else "cloudpickle") as executor:
        assert executor.submit(lambda number: lambda: number + step, 1).result()() == 4
        assert list(executor.map(lambda a, b: a + b + step, [1, 2], [3, 4])) == [7, 9]
        assert list(executor.map(lambda a: a + step, range(4), chunksize=2)) == [3, 4, 5, 6]
        assert list(executor.map(lambda a: a + step, range(4), buffersize=1)) == [3, 4, 5, 6]
        assert executor.with_options(timeout=60).submit(lambda: step).result() == 3
        with pytest.raises(ZeroDivisionError):
            executor.submit(lambda: 1 // 0).result()


def test_worker_that_has_a_pool_of_its_own(by_value):
    with ProcessPoolExecutor(1, by_value) as executor:
        assert executor.submit(nested, lambda number: number * 10, [1, 2]).result() == [11, 21]


def test_targets_with_shared_objects(by_value):
    """Objects that can be sent to a process only at its start are found in closures, too."""
    lock, queue, array, event = by_value.Lock(), by_value.SimpleQueue(), by_value.Array("i", 2), by_value.Event()
    reader, writer = by_value.Pipe(duplex=False)

    def work(number, function):
        with lock:
            array[number] += function(number)
        queue.put(array[number])
        writer.send(event.is_set())

    event.set()
    processes = [by_value.Process(target=work, args=(number, lambda x: x + 5)) for number in range(2)]
    for process in processes:
        process.start()
        process.join()
        assert process.exitcode == 0
        process.close()
    assert array[:] == [5, 6]
    assert [queue.get(), queue.get()] == [5, 6]
    assert reader.recv() and reader.recv()
    reader.close()
    writer.close()
    queue.close()


def test_class_of_processes(by_value):
    class Adding(by_value.Process):
        def __init__(self, queue, function):
            super().__init__(name="adding")
            self.queue, self.function = queue, function

        def run(self):
            super().run()
            self.queue.put((self.function(1), self.name))

    queue = by_value.SimpleQueue()
    process = Adding(queue, lambda number: number + 1)
    assert isinstance(process, goproc.get_context(by_value.get_start_method()).Process)
    assert repr(process) == f"<Adding name='adding' parent={os.getpid()} initial>"
    process.start()
    assert queue.get() == (2, "adding")
    process.join()
    process.close()
    queue.close()


class Registered:
    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        raise AssertionError("its reducer is registered")


@pytest.mark.parametrize("register", [ForkingPickler.register, copyreg.pickle])
def test_registered_reducers(by_value, register):
    register(Registered, lambda obj: (str, (f"reduced {obj.value}",)))
    try:
        with by_value.Pool(1) as pool:
            assert pool.apply(lambda value: value, (Registered(1),)) == "reduced 1"
        pool.join()
        queue = by_value.SimpleQueue()
        value = Registered(2)
        if by_value.get_start_method() != "fork":
            process = by_value.Process(target=lambda: queue.put(value))
            process.start()
            assert queue.get() == "reduced 2"
            process.join()
            process.close()
        queue.close()
    finally:
        ForkingPickler._extra_reducers.pop(Registered, None)
        copyreg.dispatch_table.pop(Registered, None)


def test_large_buffers(pool):
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(1 << 20)
    assert pool.apply(lambda a: int(a.sum()) + int(array[-1]), (array,)) == int(array.sum()) + (1 << 20) - 1
    result = pool.apply(lambda: (array, lambda: 1))[0]
    assert (result == array).all() and result.flags.writeable
    assert len(pool.apply(lambda data: data, (bytes(1 << 20),))) == 1 << 20


def test_large_buffers_are_out_of_band(monkeypatch):
    numpy = pytest.importorskip("numpy")
    from goproc._pool import submitter

    sizes = []
    encode = submitter.encode

    def noting(*arguments):
        stream, buffers = encode(*arguments)
        sizes.append((len(stream if type(stream) is bytes else b"".join(stream)), len(buffers or ())))
        return stream, buffers

    monkeypatch.setattr(submitter, "encode", noting)
    array = numpy.zeros(1 << 20)
    with goproc.get_context("fork").Pool(1, pickler="cloudpickle") as pool:
        assert pool.apply(lambda: array.shape) == (1 << 20,)
    pool.join()
    ((size, buffers),) = sizes
    assert size < 10_000 and buffers == 1


SCRIPT = """
import goproc, sys

variable = "of the module"

def top(number):
    global variable
    variable = "of the worker"
    return number, __name__

def seen(_):
    return variable

class Kind:
    pass

def same(obj):
    return type(obj) is Kind, __name__

if __name__ == "__main__":
    variable = "of the program"

    def below(number):
        return top(number)[0], seen(0)

    for method in sys.argv[1:]:
        context = goproc.get_context(method, pickler="cloudpickle")
        with context.Pool(1) as pool:
            print(pool.map(top, [1]), pool.map(seen, [1]), pool.map(below, [1]), pool.apply(same, (Kind(),)))
            print(type(pool.apply(Kind)) is Kind, pool.apply(lambda: below(1)))
            def later(number): return below(number)
            print(pool.map(later, [1, 2]))
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_names_of_a_script(method, run_script, tmp_path):
    """A function that a worker finds by name has the worker's variables. Others have the program's, or fail."""
    script = tmp_path / "program.py"
    script.write_text(SCRIPT)
    lines = run_script(script, method).stdout.splitlines()
    name = "__main__" if method == "fork" else "__mp_main__"
    assert lines == [
        f"[(1, '{name}')] ['of the worker'] [(1, 'of the worker')] (True, '{name}')",
        "True (1, 'of the worker')",
        "[(1, 'of the worker'), (2, 'of the worker')]",
    ]


@pytest.mark.parametrize("way", ["code", "stdin", "package", "goproc"])
def test_main_modules_that_are_not_imported(way, method, run_script, tmp_path):
    program = (
        "import multiprocessing as mp, goproc\n"
        "def add(x): return x + step\n"
        "step = 1\n"
        "if __name__ == '__main__':\n"
        f"    with goproc.get_context('{method}', pickler='cloudpickle').Pool(1) as pool:\n"
        "        print(pool.map(add, [1, 2]))\n"
    )
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(program)
    arguments = {
        "code": ["-c", program],
        "stdin": ["-m", "goproc", "-"],
        "package": ["-m", "package"],
        "goproc": ["-m", "goproc", "-c", program],
    }[way]
    assert run_script(*arguments, input=program, cwd=tmp_path).stdout == "[2, 3]\n"


UNCHANGED = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(1, lambda: None) as pool:
        print(pool.map(lambda x: x + 1, [1]))
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        print(executor.submit(lambda: 2).result())
    process = context.Process(target=lambda: sys.exit(3))
    process.start()
    process.join()
    print(process.exitcode)
"""


def test_unchanged_program(method, run_script, tmp_path):
    (tmp_path / "program.py").write_text(UNCHANGED)
    arguments = ["-m", "goproc", "--futures", tmp_path / "program.py", method]
    assert run_script(*arguments, GOPROC_PICKLER="cloudpickle").stdout == "[2]\n2\n3\n"


def test_the_choice(monkeypatch):
    """An argument goes before the context's pickler, and that before the environment's."""
    spawn = goproc.get_context("spawn")
    by_value, by_name = spawn.get_context(pickler="cloudpickle"), spawn.get_context(pickler="pickle")
    assert by_value is goproc.get_context("spawn", pickler="cloudpickle") is by_value.get_context()
    assert by_value is by_value.get_context("forkserver").get_context("spawn")
    assert by_value.get_start_method() == "spawn" and isinstance(by_value, type(spawn))
    assert spawn is goproc.get_context("spawn")

    def works(context, **options):
        with ProcessPoolExecutor(1, context, **options) as executor:
            assert executor.submit(twice, 1).result() == 2
            return executor.submit(lambda: 1).exception() is None

    assert works(by_value) and not works(by_name) and not works(spawn)
    assert works(spawn, pickler="cloudpickle") and not works(by_value, pickler="pickle")
    monkeypatch.setenv("GOPROC_PICKLER", "cloudpickle")
    assert works(by_value) and not works(by_name) and works(spawn)
    assert not works(spawn, pickler="pickle")
    with pytest.raises((AttributeError, pickle.PicklingError), match="Can't"):
        by_name.Process(target=lambda: 1).start()


@pytest.mark.parametrize(
    "make",
    [
        lambda name: goproc.Pool(1, pickler=name),
        lambda name: ProcessPoolExecutor(1, pickler=name),
        lambda name: goproc.get_context("spawn", pickler=name),
        lambda name: goproc.get_context(pickler=name),
    ],
)
def test_wrong_names(make):
    with pytest.raises(ValueError, match="pickler must be one of 'pickle', 'cloudpickle', not 'dill'"):
        make("dill")


def test_wrong_name_in_the_environment(monkeypatch):
    monkeypatch.setenv("GOPROC_PICKLER", "dill")
    for start in goproc.get_context("fork").Pool, goproc.get_context("spawn").Process(target=print).start:
        with pytest.raises(ValueError, match="GOPROC_PICKLER must be one of 'pickle', 'cloudpickle', not 'dill'"):
            start()


def test_no_cloudpickle(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    advice = re.escape('pip install "goproc[cloudpickle]"')
    for make in (
        lambda: goproc.Pool(1, pickler="cloudpickle"),
        lambda: ProcessPoolExecutor(1, pickler="cloudpickle"),
        lambda: goproc.get_context("spawn", pickler="cloudpickle"),
    ):
        with pytest.raises(ImportError, match=advice):
            make()
    monkeypatch.setenv("GOPROC_PICKLER", "cloudpickle")
    for make in goproc.get_context("fork").Pool, goproc.get_context("spawn").Process(target=print).start:
        with pytest.raises(ImportError, match="GOPROC_PICKLER='cloudpickle' needs.*" + advice):
            make()


def test_pools_that_cannot_have_it():
    class Own(goproc.pool.Pool):
        def _setup_queues(self):
            super()._setup_queues()

    with pytest.raises(TypeError, match="pickler"):
        Own(1, pickler="cloudpickle")

    class OwnExecutor(ProcessPoolExecutor):
        def _spawn_process(self):
            super()._spawn_process()

    with pytest.raises(TypeError, match="pickler is not for executors with parts of their own: _spawn_process"):
        OwnExecutor(1, pickler="cloudpickle")


def test_without_need_cloudpickle_is_not_imported(run_script):
    program = (
        "import sys, goproc\n"
        "with goproc.get_context('fork').Pool(1) as pool: pool.apply(len, ([],))\n"
        "print('cloudpickle' in sys.modules)\n"
        "with goproc.get_context('spawn').Pool(1, pickler='cloudpickle') as pool:\n"
        '    print(pool.apply(eval, (\'"cloudpickle" in __import__("sys").modules\',)))\n'
    )
    assert run_script("-c", program).stdout == "False\nFalse\n"


def test_modules_that_are_registered_by_value(pool):
    import cloudpickle
    import pickler_targets

    cloudpickle.register_pickle_by_value(pickler_targets)
    try:
        assert pool.map(pickler_targets.twice, [1]) == [2]
        named = pool.apply(lambda f: f.__globals__ is vars(sys.modules.get(f.__module__, sys)), (twice,))
        assert not named
    finally:
        cloudpickle.unregister_pickle_by_value(pickler_targets)


# ---- the advice, where another pickler would help

ADVICE = 'pip install "goproc[cloudpickle]"'


def last_line(error):
    return getattr(error, "__notes__", [str(error)])[-1].splitlines()[-1]


def test_advice_for_tasks(context):
    with context.Pool(1) as pool:
        for submit in (
            lambda: pool.apply(lambda: 1),
            lambda: pool.map(lambda x: x, [1]),
            lambda: list(pool.imap(lambda x: x, [1])),
            lambda: pool.starmap(call, [(lambda x: x, 1)]),
        ):
            with pytest.raises((AttributeError, pickle.PicklingError), match="^Can't (pickle|get) .*lambda") as caught:
                submit()
            assert ADVICE in last_line(caught.value)
        text = "^Error sending result: '<function .*Can't pickle"
        with pytest.raises(goproc.pool.MaybeEncodingError, match=text) as caught:
            pool.apply(eval, ("lambda: 1",))
        assert ADVICE in last_line(caught.value)
        with pytest.raises(TypeError) as caught:
            pool.apply(call, (threading.Lock(),))
        assert ADVICE not in last_line(caught.value)
    pool.join()


def test_advice_for_executors(context):
    with ProcessPoolExecutor(1, context) as executor:
        for future in executor.submit(lambda: 1), executor.submit(eval, "lambda: 1"):
            with pytest.raises((AttributeError, pickle.PicklingError), match="^Can't (pickle|get) .*lambda") as caught:
                future.result()
            assert ADVICE in last_line(caught.value)


@NEW_INTERPRETERS
def test_advice_for_processes(method):
    context = goproc.get_context(method)
    for start in context.Process(target=lambda: 1).start, lambda: context.Pool(1, lambda: 1):
        with pytest.raises((AttributeError, pickle.PicklingError), match="^Can't (pickle|get) .*lambda") as caught:
            start()
        assert ADVICE in last_line(caught.value)


@NEW_INTERPRETERS
def test_advice_for_functions_of_a_prompt(method, run_script):
    program = f"""
import goproc
from goproc.futures import ProcessPoolExecutor
def function(): pass
context = goproc.get_context({method!r})
process = context.Process(target=function)
process.start()
process.join()
print(process.exitcode)
with context.Pool(1) as pool, ProcessPoolExecutor(1, context) as executor:
    for error in pool.apply_async(function), executor.submit(function):
        try:
            (getattr(error, "get", None) or error.result)()
        except Exception as error:
            print(type(error).__name__, *getattr(error, "__notes__", [str(error)]), sep="|")
"""
    done = run_script("-c", program)
    status, of_pool, of_executor = done.stdout.splitlines() if NOTES else re.split(r"\n(?=1|[A-Z])", done.stdout)
    assert status == "1"
    assert of_pool.startswith("AttributeError|") and of_pool.rpartition("|" if NOTES else "\n")[2].count(ADVICE) == 1
    assert of_executor.startswith("BrokenProcessPool|") and (not NOTES or ADVICE in of_executor)
    errors = done.stderr.rstrip().splitlines()
    texts = "Can't get attribute 'function' on", "module '__main__' has no attribute 'function'"  # from Python 3.14 on
    assert any(line.startswith(tuple(f"AttributeError: {text}" for text in texts)) for line in errors)
    assert ADVICE in errors[-1]
