"""multiprocessing.queues.Queue after install(): it is the type of queues, and programs derive from it."""

import pytest

pytestmark = pytest.mark.part("queues")

PROGRAM = """
import abc, concurrent.futures.process, multiprocessing, multiprocessing.queues, pickle, sys
from multiprocessing.queues import JoinableQueue, Queue, SimpleQueue
from unittest import mock

class Counted(multiprocessing.queues.Queue):
    def __init__(self, *args, **keywords):
        super().__init__(*args, ctx=multiprocessing.get_context(), **keywords)
        self.size = multiprocessing.Value("i", 0)

    def __getstate__(self):
        return super().__getstate__(), self.size

    def __setstate__(self, state):
        super().__setstate__(state[0])
        self.size = state[1]

    def put(self, *args, **keywords):
        with self.size.get_lock():
            self.size.value += 1
        super().put(*args, **keywords)

class ByClass(Queue):
    def __init__(self, maxsize=0):
        Queue.__init__(self, maxsize, ctx=multiprocessing.get_context())
        self.label = "label"

    def __getstate__(self):
        return Queue.__getstate__(self), self.label

    def __setstate__(self, state):
        Queue.__setstate__(self, state[0])
        self.label = state[1]

    def put(self, item):
        Queue.put(self, item)

    def get(self, *args, **keywords):
        return Queue.get(self, *args, **keywords)

class Abstract(Queue, abc.ABC):
    def __init__(self):
        super().__init__(ctx=multiprocessing.get_context())

class Simple(SimpleQueue):
    pass

class Joinable(JoinableQueue):
    pass

class Twice(Joinable):
    def put(self, item):
        super().put(item)
        super().put(item)

def put_names(queues):
    for queue in queues:
        queue.put(type(queue).__name__)

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    context = multiprocessing.get_context()
    made = [multiprocessing.Queue(), multiprocessing.JoinableQueue(3), multiprocessing.SimpleQueue()]
    made += [Queue(ctx=context), SimpleQueue(ctx=context)]
    derived = [Counted(), ByClass(), Abstract(), Simple(ctx=context), Joinable(ctx=context), Twice(ctx=context)]
    for queue in made + derived:
        kinds = multiprocessing.queues.Queue, JoinableQueue, SimpleQueue
        print(type(queue).__name__, *[type(queue) is kind for kind in kinds], *[type(queue) == kind for kind in kinds])
        print(*[isinstance(queue, kind) for kind in kinds], *[issubclass(type(queue), kind) for kind in kinds])
        print({Queue: 1, JoinableQueue: 2, SimpleQueue: 3}.get(type(queue)), "multiprocessing" in str(type(made[0])))
    process = multiprocessing.Process(target=put_names, args=(made + derived,))
    process.start()
    print([queue.get() for queue in made + derived], derived[-1].get(timeout=60))
    process.join()
    print(derived[0].size.value, derived[1].label)
    print(pickle.loads(pickle.dumps([Queue, SimpleQueue])) == [Queue, SimpleQueue])
    print(issubclass(concurrent.futures.process._SafeQueue, Queue))
    with concurrent.futures.ProcessPoolExecutor(2, context) as executor:
        print(list(executor.map(abs, [-1, -2])), isinstance(executor._call_queue, Queue))
    put = Queue.put
    def put_twice(queue, item):
        put(queue, item)
        put(queue, item)
    Queue.put = put_twice
    queue = multiprocessing.Queue()
    queue.put("twice")
    print(queue.get(timeout=60), queue.get(timeout=60))
    Queue.put = put
    with mock.patch.object(Queue, "get", return_value="mocked"):
        print(multiprocessing.Queue().get())
    with mock.patch.object(multiprocessing.queues, "_ForkingPickler") as pickler:
        pass
    queue.put("once")
    print(queue.get(timeout=60), queue.empty(), Queue.put is put, Queue.get.__name__)
    print(isinstance(mock.Mock(spec=Queue), Queue), isinstance(3, Queue), issubclass(int, Queue))
"""


def test_types_of_queues(run_script, tmp_path, method):
    (tmp_path / "program.py").write_text(PROGRAM)
    plain = run_script("program.py", method, cwd=tmp_path)
    ours = run_script("-m", "goproc", "program.py", method, cwd=tmp_path)
    assert ours.stdout == plain.stdout
    assert plain.stdout.startswith("Queue True False False True") and (ours.stderr, plain.stderr) == ("", "")


CHANGED = """
import inspect, multiprocessing, queue, sys
from multiprocessing.queues import JoinableQueue, Queue, SimpleQueue
from unittest import mock

class Derived(Queue):
    def __new__(cls):
        return Queue.__new__(cls)

    def __init__(self):
        super().__init__(ctx=multiprocessing.get_context())

def one_through(queues):
    for queue in queues:
        queue.put("item")
    return [queue.get(timeout=60) for queue in queues]

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queues = [multiprocessing.Queue(), Derived()]
    put = Queue.put
    Queue.put = lambda queue, item: put(queue, ("changed", item))
    print(one_through(queues))
    Queue.put = put
    print(one_through(queues), type(multiprocessing.Queue()) is Queue)
    init = Queue.__init__
    def init_with_label(queue, *args, **keywords):
        init(queue, *args, **keywords)
        queue.label = "label"
    Queue.__init__ = init_with_label
    print([made.label for made in (multiprocessing.Queue(), multiprocessing.JoinableQueue(2), Derived())])
    Queue.__init__ = init
    print([hasattr(made, "label") for made in (multiprocessing.Queue(), multiprocessing.JoinableQueue(), Derived())])
    Queue.size = property(lambda queue: queue.qsize())
    Queue.__iter__ = lambda queue: iter(queue.get, None)
    for made in queues:
        made.put(None)
    print([made.size for made in queues if not list(made)])
    del Queue.size, Queue.__iter__
    print([hasattr(made, name) for made in queues for name in ("size", "__iter__")])
    for name in "put", "get", "close":
        with mock.patch.object(Queue, name, autospec=True) as mocked:
            for made in queues:
                getattr(made, name)
                getattr(made, name)(*[1] * (name == "put"))
            print(mocked.call_count, len(mocked.call_args[0]), type(multiprocessing.Queue()) is Queue)
    with mock.patch("multiprocessing.queues.Queue.get", side_effect=queue.Empty):
        for made in queues:
            try:
                made.get(timeout=60)
            except queue.Empty:
                print("mocked")
    print(one_through(queues))
    for kind in Queue, JoinableQueue, SimpleQueue:
        print(inspect.signature(kind), *[inspect.signature(getattr(kind, name)) for name in ("put", "get", "close")])
        mocked = mock.create_autospec(kind, instance=True)
        mocked.put("item")
        mocked.get()
        for call in mocked.put, lambda: mocked.get(1, 2, 3), lambda: mocked.close(1):
            try:
                call()
            except TypeError as error:
                print(error)
"""


def test_classes_that_a_program_changes(run_script, tmp_path, method):
    """What it sets in Queue is also in the classes that it has derived; tools see multiprocessing's signatures."""
    (tmp_path / "program.py").write_text(CHANGED)
    plain = run_script("program.py", method, cwd=tmp_path)
    ours = run_script("-m", "goproc", "program.py", method, cwd=tmp_path)
    assert ours.stdout == plain.stdout
    assert plain.stdout.startswith("[('changed', 'item'), ('changed', 'item')]") and ours.stderr == ""


BEFORE = """
import multiprocessing, pickle, sys
from multiprocessing.queues import Queue as Imported

class Derived(Imported):
    pass

def put_all(queues):
    for queue in queues:
        queue.put("item")

def made_before():
    context = multiprocessing.get_context(sys.argv[1])
    return [context.Queue(), context.SimpleQueue(), Derived(ctx=context)]

if __name__ == "__main__":
    queues = made_before()
    import goproc
    goproc.install()
    import multiprocessing.queues
    made = multiprocessing.get_context(sys.argv[1]).Queue()
    print(type(made) is multiprocessing.queues.Queue, isinstance(made, Imported))
    print([isinstance(queue, multiprocessing.queues.Queue) for queue in queues])
    process = multiprocessing.get_context(sys.argv[1]).Process(target=put_all, args=(queues + [made],))
    process.start()
    print([queue.get() for queue in queues + [made]])
    process.join()
"""


def test_what_was_made_before_install(run_script, tmp_path, method):
    """Queues keep the standard library's class, and are sent to processes by another name."""
    (tmp_path / "program.py").write_text(BEFORE)
    lines = run_script("program.py", method, cwd=tmp_path).stdout.splitlines()
    assert lines == ["True True", "[True, False, True]", "['item', 'item', 'item', 'item']"]


def test_classes_derived_from_goprocs_without_install(run_script):
    code = """
import goproc.queues, multiprocessing.queues
class Own(goproc.queues.Queue):
    pass
queue = Own(ctx=goproc.get_context())
queue.put(1)
print(queue.get(), Own.__bases__ == (goproc.queues.Queue,), type(goproc.Queue()) is goproc.queues.Queue)
print(goproc.queues.Queue is multiprocessing.queues.Queue, isinstance(queue, multiprocessing.queues.Queue))
print(isinstance(multiprocessing.Queue(), goproc.queues.Queue), issubclass(int, goproc.queues.Queue))
"""
    assert run_script("-c", code).stdout == "1 True True\nFalse True\nFalse False\n"


def test_where_shared_memory_is_refused(run_script, tmp_path, method):
    code = """
import multiprocessing.queues, resource, sys

def put(queue):
    queue.put("item")

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    context = multiprocessing.get_context(sys.argv[1])
    for kind in "Queue", "JoinableQueue", "SimpleQueue":
        queue = getattr(context, kind)()
        process = context.Process(target=put, args=(queue,))
        process.start()
        print(queue.get(), isinstance(queue, getattr(multiprocessing.queues, kind)))
        process.join()
"""
    (tmp_path / "program.py").write_text(code)
    done = run_script("-m", "goproc", "program.py", method, cwd=tmp_path, GOPROC_LOG="warning")
    assert done.stdout == "item True\n" * 3
    assert "a queue is multiprocessing's, in a pipe" in done.stderr
