"""Programs that put a pickler of their own in the place of multiprocessing's, as is usual with dill."""

from pathlib import Path

import pytest

from goproc import _native

IMPORT = "import multiprocessing as mp\n"

#: The ways in which programs do it.
WAYS = {
    "reduction": "reduction.ForkingPickler = Mine",
    "derived": "reduction.ForkingPickler = Derived",
    "everywhere": """
reduction.ForkingPickler, reduction.dump = Mine, dump
import multiprocessing.queues, multiprocessing.connection
multiprocessing.queues._ForkingPickler = multiprocessing.connection._ForkingPickler = Mine
""",
    "modules": """
import multiprocessing.queues, multiprocessing.connection
multiprocessing.queues._ForkingPickler = multiprocessing.connection._ForkingPickler = Secret
""",
    "queues": """
import multiprocessing.queues
multiprocessing.queues._ForkingPickler = Secret
""",
    "connection": """
import multiprocessing.connection
multiprocessing.connection._ForkingPickler = Secret
""",
    "class": "reduction.ForkingPickler.dumps, reduction.ForkingPickler.loads = Mine.dumps, Mine.loads",
}

#: What the functions of the targets print, each with the ways that it works with. Mine has no reducers of connections.
PARTS = {
    "queues": (
        "Queue 3 1 100000\nJoinableQueue 3 1 100000\nSimpleQueue 3 1 100000\n",
        ["reduction", "derived", "everywhere", "modules", "queues", "class"],
    ),
    "processes": (
        "4 4 ['dumps', 'loads'] None\n",
        ["reduction", "derived", "everywhere", "modules", "queues", "class"],
    ),
    "arguments": ("True True\n0\n7\n", ["reduction", "derived", "everywhere"]),
    "pools": (
        "3 5\n[0, 2, 4, 6] [3, 2, 1, 0, 1, 2]\n[2, 3, 4]\n[0, -1, -2, -3] [1, 2]\n100000 [70000, 80000]\n6\n"
        "['dumps', 'loads']\n",
        ["reduction", "derived", "everywhere", "modules", "class"],
    ),
    "executors": (
        "3 5\n[0, 2, 4, 6]\n100000\n6\n",
        ["reduction", "derived", "everywhere", "modules", "class"],
    ),
    "managers": ("8 9\n", ["derived", "modules", "connection", "class"]),
    "pipes": ("from the parent from the child\n", ["derived", "modules", "connection", "class"]),
}


@pytest.fixture
def run(run_script, tmp_path):
    """Run a program that replaces the pickler, by goproc or by multiprocessing; return what it has printed."""

    def run(way, code, *arguments, begin=IMPORT, how=("-m", "goproc")):
        program = f"""
import sys
{begin}
from multiprocessing import reduction
from replaced_pickler_targets import *
import replaced_pickler_targets as targets
{way}
if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    {code}
"""
        (tmp_path / "program.py").write_text(program)
        folder = str(Path(__file__).parent)
        return run_script(*how, "program.py", *arguments, cwd=tmp_path, PYTHONPATH=folder).stdout

    return run


THROUGH = 'getattr(targets, "through_" + sys.argv[2])(mp.get_context())'


@pytest.mark.part("queues")  # multiprocessing's do not reach spawned children by a pickler that knows no descriptors
@pytest.mark.parametrize(("part", "way"), [(part, way) for part, (_, ways) in PARTS.items() for way in ways])
def test_it_pickles_all(run, method, part, way):
    assert run(WAYS[way], THROUGH, method, part, how=("-m", "goproc", "--futures")) == PARTS[part][0]


@pytest.mark.parametrize("part", PARTS)
def test_the_texts_above_are_multiprocessings(run, part):
    assert run(WAYS["derived"], THROUGH, "fork", part, how=()) == PARTS[part][0]


@pytest.mark.parametrize("how", [(), ("-m", "goproc")], ids=["multiprocessing", "goproc"])
@pytest.mark.parametrize("way", ["queues", "connection"])
def test_each_name_decides_for_its_own(run, method, how, way):
    """A pool sends tasks by a connection, and results by a queue."""
    code = """
    with mp.Pool(1) as pool:
        sends = sent(pool.apply, call, (lambda: 1,))
        print(sends is None, sent(pool.apply, make_lambda, (1,)) is None)
"""
    replaced = WAYS[way].replace("Secret", "Mine")
    expected = "False True\n" if way == "queues" else "True False\n"
    assert run(replaced, code.strip(), method, how=how) == expected


BEGINNINGS = {
    "import as": "import goproc as mp",
    "install": "import goproc; goproc.install(); import multiprocessing as mp",
    "install at last": """
import multiprocessing as mp, multiprocessing.queues
from replaced_pickler_targets import Mine
mp.reduction.ForkingPickler = multiprocessing.queues._ForkingPickler = Mine
import goproc; goproc.install()
""",
    "imported before": "import concurrent.futures.process, multiprocessing.pool, multiprocessing as mp, goproc.queues",
    "goproc.queues": "import goproc as mp, goproc.queues; from replaced_pickler_targets import Mine\n"
    "mp.queues._ForkingPickler = mp.connection._ForkingPickler = Mine",
}


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_before_and_after_goproc(run, method, begin):
    how = ("-m", "goproc") if begin == "imported before" else ()
    way = WAYS["everywhere"] if begin != "goproc.queues" else ""
    for part in "queues", "pools":
        assert run(way, THROUGH, method, part, begin=BEGINNINGS[begin], how=how) == PARTS[part][0]


@pytest.mark.parametrize("how", [(), ("-m", "goproc")], ids=["multiprocessing", "goproc"])
def test_for_a_while(run, how):
    code = """
    import multiprocessing.queues, multiprocessing.connection
    queue = mp.SimpleQueue()
    pool = mp.Pool(1)
    places = [(module, "_ForkingPickler", Mine) for module in (multiprocessing.queues, multiprocessing.connection)]
    forking = reduction.ForkingPickler
    for places in places, [(forking, "dumps", Mine.dumps), (forking, "loads", Mine.loads)]:
        print(sent(queue.put, lambda: 1), sent(pool.apply, call, (lambda: 1,)))
        with replaced(*places), mp.Manager() as manager:
            values = manager.list()
            values.append(lambda: 3)
            queue.put(lambda: 1)
            with mp.Pool(1) as other:
                print(queue.get()(), pool.apply(call, (lambda: 2,)), values[0](), other.apply(make_lambda, (4,))())
        used.clear()
        queue.put([1, {}])
        print(queue.get(), pool.apply(len, (bytes(50_000),)), used)
        print(sent(queue.put, lambda: 1), sent(pool.apply, call, (lambda: 1,)))
    pool.terminate()
"""
    once = "AttributeError AttributeError\n1 2 3 4\n[1, {}] 50000 set()\nAttributeError AttributeError\n"
    printed = run("", code.strip(), "fork", how=how)
    assert printed.replace("PicklingError", "AttributeError") == 2 * once


def test_a_receiver_without_it_reads_what_pickle_reads(run):
    """It is replaced below the guard, so spawned processes do not have it."""
    code = """
    reduction.ForkingPickler = Derived
    with mp.Pool(1) as pool:
        print(pool.apply(call, (lambda: 1,)), pool.map(abs, [-1, -2]), pool.apply(used_here))
"""
    assert run("", code.strip(), "spawn") == "1 [1, 2] []\n"


@pytest.mark.parametrize("way", ["", WAYS["derived"]], ids=["theirs", "derived"])
def test_reducers_that_are_registered_before_and_after(run, method, way):
    code = """
    reduction.ForkingPickler.register(io.StringIO, lambda file: (str, ("before",)))
    queue = mp.SimpleQueue()
    with mp.Pool(1) as pool:
        print(pool.apply(call, (str, io.StringIO())))
        reduction.ForkingPickler.register(io.StringIO, lambda file: (str, ("after",)))
        queue.put(io.StringIO())
        print(pool.apply(call, (str, io.StringIO())), queue.get())
"""
    assert run(way, code.strip(), method) == "before\nafter after\n"


@pytest.mark.parametrize("how", [(), ("-m", "goproc")], ids=["multiprocessing", "goproc"])
def test_the_ends_of_a_queue(run, how):
    code = """
    queue = mp.SimpleQueue()
    queue._writer.send(lambda: 1)
    queue._writer.send_bytes(Secret.dumps(2))
    print(queue.get()(), queue.get())
    queue.put(lambda: 3)
    print(queue._reader.poll(30) and Secret.loads(queue._reader.recv_bytes())())
"""
    assert run(WAYS["modules"], code.strip(), "fork", how=how) == "1 2\n3\n"


def test_an_object_that_it_cannot_pickle(run, method):
    code = """
    with mp.Pool(1) as pool:
        print(sent(pool.apply, call, (open(__file__),)), sent(pool.apply, open, (__file__,)), pool.apply(abs, (-1,)))
"""
    assert run(WAYS["modules"], code.strip(), method) == "TypeError MaybeEncodingError 1\n"


def test_a_watch():
    """It looks again only after one of the places has changed."""
    place, found = {"name": 1}, []

    def find():
        found.append(dict(place))
        if place.get("name") == 1:
            return None, ((place, "name", 1), (place, "other", None))
        return list, None

    watch = _native.PicklerWatch(find, tuple)
    assert [watch.own(), watch.own(), watch.loads("ab")] == [None, None, ("a", "b")]
    assert len(found) == 1
    place["other"] = 2
    assert watch.own() is None  # and so it is found anew each time, as find() still says None
    place["name"] = 3
    assert [watch.own(), watch.own()] == [list, list] and len(found) == 4
    del place["other"]
    place["name"] = 1
    assert [watch.own(), watch.own()] == [None, None] and len(found) == 5


@pytest.mark.parametrize(
    "answer", [None, (None,), (None, [1]), (None, (1,)), (None, ((1, "x", 2),)), (None, (({}, 1, 2),))]
)
def test_a_watch_whose_places_are_wrong(answer):
    with pytest.raises(TypeError):
        _native.PicklerWatch(lambda: answer, len).own()


def test_a_watch_passes_errors_on():
    with pytest.raises(ZeroDivisionError):
        _native.PicklerWatch(lambda: 1 / 0, len).loads(b"")
    with pytest.raises(AttributeError):
        _native.PicklerWatch(lambda: (object(), None), len).loads(b"")
