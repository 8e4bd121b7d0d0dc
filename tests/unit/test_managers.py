"""Managers: their connections, what their servers leave behind, and that all works as with multiprocessing."""

import os
import pickle
import random
import signal
import socket
import struct
import sys
import threading
from multiprocessing import AuthenticationError, reduction
from multiprocessing.managers import BaseManager, BaseProxy, NamespaceProxy, RemoteError, SyncManager
from pathlib import Path

import pytest
from helpers import THREADS_ARE_MEANT, wait_until

import goproc
import goproc.managers
from goproc import _native
from goproc._common import manager_connections
from goproc._common.own_pickler import CONNECTIONS

pytestmark = THREADS_ARE_MEANT
OURS = pytest.mark.part("manager-connections")

SIZES = [0, 1, 4000, 4096, 4097, 16_300, 16_384, 1 << 20, (1 << 20) + 1, 5 << 20]


@pytest.fixture
def manager(context):
    with context.Manager() as manager:
        yield manager
    manager._process.close()  # pytest keeps the manager, which keeps the process


class Counter:
    """What the managers of these tests share."""

    def __init__(self, start=0):
        self.value = start

    def add(self, number=1):
        self.value += number
        return self.value

    def fail(self):
        raise ZeroDivisionError("as asked")

    def unpicklable(self):
        return lambda: None

    def child(self):
        return Counter(self.value)

    def pid(self):
        return os.getpid()

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def _hidden(self):
        return 1


class CounterProxy(BaseProxy):
    """Programs derive their own proxies in this way."""

    _exposed_ = ("add", "__getattribute__")

    def twice(self):
        self._callmethod("add", (1,))
        return self._callmethod("add", kwds={"number": 1})


class SettingsProxy(NamespaceProxy):
    _exposed_ = ("__getattribute__", "__setattr__", "__delattr__", "add")

    def add(self, number):
        return self._callmethod("add", (number,))


class OwnManager(BaseManager):
    pass


OwnManager.register("Counter", Counter, method_to_typeid={"child": "Child"})
OwnManager.register("Child", create_method=False)
OwnManager.register("OwnCounter", Counter, CounterProxy)
OwnManager.register("Settings", Counter, SettingsProxy)


@pytest.fixture
def own(context):
    with OwnManager(ctx=context) as manager:
        yield manager
    manager._process.close()


def fill(shared, numbers, lock):
    for _ in range(50):
        with lock:
            shared["n"] = shared.get("n", 0) + 1
    numbers.append(os.getpid())


def test_proxies_in_children(manager, context):
    shared, numbers, lock = manager.dict(), manager.list(), manager.Lock()
    children = [context.Process(target=fill, args=(shared, numbers, lock)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert shared["n"] == 150
    assert sorted(numbers) == sorted(child.pid for child in children)


def read(shared):
    return shared["key"], type(shared._tls.connection).__module__


def test_proxies_as_arguments_of_tasks(manager, context):
    shared = manager.dict(key=["value"])
    with context.Pool(2) as pool:
        found = pool.map(read, [shared] * 6, 1)
    assert {key[0] for key, _ in found} == {"value"}


@OURS
def test_the_connections_of_children_are_goprocs(manager, context):
    shared = manager.dict(key=1)
    assert read(shared)[1] == "goproc._common.manager_connections"
    with context.Pool(1) as pool:
        assert pool.apply(read, (shared,))[1] == "goproc._common.manager_connections"


def test_messages_of_all_sizes(manager):
    shared = manager.list()
    for size in SIZES:
        shared.append(random.Random(size).randbytes(size))
        assert shared.pop() == random.Random(size).randbytes(size)
    shared.append([bytes(size) for size in SIZES])  # pickled in several pieces
    assert [len(item) for item in shared[0]] == SIZES
    assert shared[-1:] == shared[:]


def test_everything_that_a_sync_manager_makes(manager):
    queue, event, namespace = manager.Queue(), manager.Event(), manager.Namespace(a=1)
    queue.put({"a": (1, 2.5, None)})
    assert queue.get() == {"a": (1, 2.5, None)}
    namespace.b = [1]
    assert (namespace.a, namespace.b) == (1, [1])
    assert not event.wait(0.001)
    event.set()
    assert event.wait()
    value, array = manager.Value("i", 1), manager.Array("i", range(3))
    value.value += 1
    array[1] = 5
    assert (value.value, array[:].tolist()) == (2, [0, 5, 2])
    with manager.Condition() as condition:
        assert condition is False or condition is True
    assert manager.Barrier(1).wait() == 0
    with manager.Semaphore(2), manager.BoundedSemaphore(1), manager.RLock():
        pass
    assert list(manager.dict(a=1, b=2).items()) == [("a", 1), ("b", 2)]
    assert list(iter(manager.dict(a=1))) == ["a"]
    with manager.Pool(1) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
        assert pool.apply_async(abs, (-3,)).get() == 3
        assert list(pool.imap(abs, [-4])) == [4]
    nested = manager.list([manager.dict(a=1)])
    nested[0]["a"] = 2
    assert nested[0]["a"] == 2
    assert str(nested[0]) == "{'a': 2}"


def test_errors_of_the_server(own):
    counter = own.Counter(5)
    with pytest.raises(ZeroDivisionError, match="as asked"):
        counter.fail()
    with pytest.raises(RemoteError, match="Unserializable message"):
        counter.unpicklable()
    with pytest.raises(AttributeError):
        counter._hidden()
    with pytest.raises(RemoteError, match="not in exposed"):
        counter._callmethod("_hidden")
    with pytest.raises((pickle.PicklingError, AttributeError)):
        counter.add(lambda: None)
    with pytest.raises(TypeError):
        counter.add("x")
    assert counter.add() == 6  # the connection is still good


def test_proxies_of_the_programs_own(own):
    counter, settings = own.OwnCounter(1), own.Settings(1)
    assert counter.twice() == 3
    settings.value = 7
    assert settings.add(1) == settings.value == 8
    settings.other = "x"
    del settings.other
    with pytest.raises(AttributeError):
        settings.other  # noqa: B018
    child = own.Counter(4).child()
    assert child.add() == 5
    assert "AutoProxy[Child]" in type(child).__name__
    copied = pickle.loads(pickle.dumps(child))
    assert copied.add() == 6


def test_many_proxies_and_threads(manager):
    lists = [manager.list() for _ in range(64)]
    failures = []

    def work(number):
        try:
            for index, shared in enumerate(lists[number::16]):
                shared.extend([number, index])
                assert shared[:] == [number, index]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sum(map(len, lists)) == 128


def add_one(counter):
    counter.add()


def test_forks_beside_threads_that_call(own):
    context = goproc.get_context("fork")
    counter, stop = own.Counter(), threading.Event()

    def call():
        while not stop.is_set():
            counter.add(0)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        for _ in range(5):
            child = context.Process(target=add_one, args=(counter,))
            child.start()
            child.join()
            assert child.exitcode == 0
    finally:
        stop.set()
        thread.join()
    assert counter.add(0) == 5


def test_a_server_that_is_killed_in_a_call(own):
    counter, address = own.Counter(), own.address
    with pytest.raises((EOFError, ConnectionResetError)):
        counter.die()
    with pytest.raises((EOFError, OSError)):
        counter.add()
    own.shutdown()
    assert not os.path.exists(os.path.dirname(address))


def call_for_ever(counter, ready):
    ready.set()
    while True:
        counter.add()


def test_a_client_that_is_killed_in_a_call(own, context):
    counter, ready = own.Counter(), context.Event()
    child = context.Process(target=call_for_ever, args=(counter, ready))
    child.start()
    ready.wait()
    wait_until(lambda: counter.add(0) > 10)
    child.kill()
    child.join()
    assert counter.add() > 10


def test_the_socket_and_its_folder_go_with_the_manager(context):
    manager = context.Manager()
    folder = os.path.dirname(manager.address)
    assert os.path.exists(folder)
    manager.shutdown()
    assert not os.path.exists(folder)


def test_an_initializer(context):
    with OwnManager(ctx=context) as manager:
        with pytest.raises(goproc.ProcessError, match="Already started"):
            manager.start()
    manager = OwnManager(ctx=context)
    with pytest.raises(TypeError, match="callable"):
        manager.start(initializer=1)
    manager.start(os.putenv, ("GOPROC_TEST", "yes"))
    try:
        assert manager.Counter().pid() == manager._process.pid
    finally:
        manager.shutdown()


def test_over_tcp_with_a_key(context):
    server = OwnManager(("127.0.0.1", 0), authkey=b"secret", ctx=context)
    with server:
        client = OwnManager(server.address, authkey=b"secret")
        client.connect()
        assert client.Counter(3).add() == 4
        with pytest.raises(AuthenticationError):
            OwnManager(server.address, authkey=b"wrong").connect()
        with pytest.raises(TypeError):
            goproc.managers.listener_client["pickle"][1](server.address, authkey="text")


PLAIN = """
import sys
from multiprocessing.managers import SyncManager
if sys.argv[1] == "serve":
    server = SyncManager(("127.0.0.1", 0), authkey=b"key").get_server()
    print(server.address[1], flush=True)
    server.serve_forever()
manager = SyncManager(("127.0.0.1", int(sys.argv[2])), authkey=b"key")
manager.connect()
shared = manager.dict(a=1)
shared["b"] = bytes(100_000)
print(sorted(shared.keys()), len(shared["b"]))
"""


def test_a_client_that_is_multiprocessings(context, run_script):
    with_key = SyncManager(("127.0.0.1", 0), authkey=b"key", ctx=context)
    with with_key:
        done = run_script("-c", PLAIN, "connect", with_key.address[1])
    assert done.stdout == "['a', 'b'] 100000\n"


def test_a_server_that_is_multiprocessings():
    import subprocess

    with subprocess.Popen([sys.executable, "-c", PLAIN, "serve"], stdout=subprocess.PIPE, text=True) as server:
        try:
            manager = SyncManager(("127.0.0.1", int(server.stdout.readline())), authkey=b"key")
            manager.connect()
            shared = manager.dict(a=1)
            shared["b"] = bytes(100_000)
            assert (sorted(shared.keys()), len(shared["b"])) == (["a", "b"], 100_000)
            del shared
        finally:
            server.kill()


def test_a_manager_of_xmlrpc():
    with OwnManager(ctx=goproc.get_context("fork"), serializer="xmlrpclib", address=("127.0.0.1", 0)) as manager:
        assert manager.Counter(1).add(2) == 3


def test_a_manager_of_multiprocessings_own_context():
    import multiprocessing

    with multiprocessing.get_context("fork").Manager() as manager:
        shared = manager.dict(a=1)
        assert shared["a"] == 1


class Late:
    def __eq__(self, other):
        return type(other) is Late

    __hash__ = None

    def __reduce__(self):
        raise TypeError("this class needs a reducer")


def test_a_reducer_that_is_registered_later(manager):
    shared = manager.list([1])
    with pytest.raises(TypeError, match="needs a reducer"):
        shared.append(Late())
    reduction.register(Late, lambda late: (dict, ()))
    shared.append(Late())
    assert shared[:] == [1, {}]
    reduction.register(Late, lambda late: (list, ()))
    shared.append(Late())
    assert shared[:] == [1, {}, []]
    del reduction.ForkingPickler._extra_reducers[Late]


def test_a_pickler_that_the_program_has_put_in_place(manager, monkeypatch):
    from multiprocessing import connection

    used = []

    class Pickler(reduction.ForkingPickler):
        @classmethod
        def dumps(cls, obj, protocol=None):
            used.append(obj)
            return super().dumps(obj, protocol)

    monkeypatch.setattr(connection, "_ForkingPickler", Pickler)
    shared = manager.dict()
    shared["a"] = 1
    assert used[-1][1:3] == ("__setitem__", ("a", 1))


def test_an_interrupted_call(run_script):
    code = """
import goproc, os, signal, threading, time
if __name__ == "__main__":
    with goproc.Manager() as manager:
        event = manager.Event()
        def interrupt():
            while True:
                time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt, daemon=True).start()
        try:
            event.wait()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            print("interrupted")
"""
    assert run_script("-c", code).stdout == "interrupted\n"


@pytest.mark.slow
def test_an_idle_server_and_its_clients_use_no_processor_time(manager):
    shared = [manager.dict() for _ in range(4)]
    ready, done = threading.Barrier(5), threading.Event()

    def call_once(proxy):
        proxy["a"] = 1
        ready.wait()
        done.wait()

    threads = [threading.Thread(target=call_once, args=(proxy,)) for proxy in shared]
    for thread in threads:
        thread.start()
    ready.wait()

    def ticks():
        return sum(map(int, Path(f"/proc/{manager._process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))

    before = ticks()
    done.wait(2)
    assert ticks() - before <= 2
    done.set()
    for thread in threads:
        thread.join()


# ---- the stream below


def stream_of(connected):
    return _native.Stream(connected.fileno(), manager_connections._make_pickler, CONNECTIONS)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield stream_of(ours), theirs


def test_a_stream_has_multiprocessings_bytes(pair):
    stream, peer = pair
    stream.send_bytes([b"ab", b"", b"c"])
    assert peer.recv(100) == struct.pack("!i", 3) + b"abc"
    stream.send_bytes([])
    assert peer.recv(100) == struct.pack("!i", 0)
    for text in (b"", b"x", bytes(5000)):
        peer.sendall(struct.pack("!i", len(text)) + text)
        assert stream.recv_bytes() == text
    peer.sendall(struct.pack("!iQ", -1, 3) + b"xyz")  # the form of messages of 2 GiB and more
    assert stream.recv_bytes() == b"xyz"


def test_a_stream_of_pieces(pair):
    """A message comes in as many pieces as the socket likes."""
    stream, peer = pair
    message = struct.pack("!i", 9000) + bytes(range(250)) * 36

    def dribble():
        for start in range(0, len(message), 1111):
            peer.sendall(message[start : start + 1111])

    thread = threading.Thread(target=dribble)
    thread.start()
    assert stream.recv_bytes() == message[4:]
    thread.join()
    many = [bytes([number % 256]) * 1000 for number in range(1000)]
    received = []
    thread = threading.Thread(target=lambda: received.append(stream_of(peer).recv_bytes()))
    thread.start()
    stream.send_bytes(many)
    thread.join()
    assert received == [b"".join(many)]


def test_a_stream_with_a_limit(pair):
    stream, peer = pair
    peer.sendall(struct.pack("!i", 5) + b"12345")
    assert stream.recv_bytes(5) == b"12345"
    peer.sendall(struct.pack("!i", 5))
    assert stream.recv_bytes(4) is None
    peer.sendall(struct.pack("!iQ", -1, 1 << 40))
    assert stream.recv_bytes(1000) is None


@pytest.mark.parametrize(
    "sent, error",
    [
        (b"", EOFError),
        (b"\0\0", OSError),
        (struct.pack("!i", 5), EOFError),
        (struct.pack("!i", 5) + b"12", OSError),
        (struct.pack("!i", 5_000_000) + b"12", OSError),
        (struct.pack("!iQ", -1, 1 << 40) + b"12", OSError),
        (struct.pack("!iQ", -1, (1 << 64) - 1), MemoryError),
        (struct.pack("!i", -2), OSError),
    ],
)
def test_a_stream_that_ends(pair, sent, error):
    stream, peer = pair
    peer.sendall(sent)
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(error):
        stream.recv_bytes()


def test_a_stream_whose_other_end_is_gone(pair):
    stream, peer = pair
    peer.close()
    with pytest.raises(BrokenPipeError):
        stream.send_bytes([b"x"])
    with pytest.raises(EOFError):
        stream.recv_bytes()


def test_wrong_arguments_of_a_stream(pair):
    stream, _ = pair
    for wrong in (None, b"x", (b"x",), [b"x", "y"], [bytearray(3)]):
        with pytest.raises(TypeError):
            stream.send_bytes(wrong)
    with pytest.raises(TypeError):
        stream.recv_bytes("x")
    with pytest.raises(TypeError):
        stream.recv_bytes(1, 2)
    with pytest.raises(TypeError):
        _native.Stream("x", print, CONNECTIONS)
    with pytest.raises(OSError):
        _native.Stream(-1, print, CONNECTIONS).recv_bytes()
    with pytest.raises(TypeError):
        _native.Stream(-1, print, print)


def test_wrong_arguments_of_end_after_parent():
    for wrong in (-1, 1e9, float("nan")):
        with pytest.raises(ValueError, match="seconds"):
            _native.end_after_parent(0, wrong)


def test_a_closed_connection():
    ours, theirs = socket.socketpair()
    connection = manager_connections.Connection(ours.detach())
    with theirs:
        connection.send_bytes(b"abc")
        assert theirs.recv(100) == struct.pack("!i", 3) + b"abc"
        theirs.sendall(struct.pack("!i", 3) + b"abc")
        assert connection.poll(5)
        assert connection.recv_bytes() == b"abc"
        theirs.sendall(struct.pack("!i", 300))
        with pytest.raises(OSError, match="bad message length"):
            connection.recv_bytes(256)
        with pytest.raises(OSError, match="write-only"):
            connection.recv()
    connection.close()
    for call in (connection.recv, lambda: connection.send(1), connection.recv_bytes):
        with pytest.raises(OSError, match="closed"):
            call()
