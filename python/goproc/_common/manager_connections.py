"""The connections between the proxies and the server of a manager: multiprocessing.connection's, but faster.

    Client()            a proxy's end  ┐
                                       ├─ Connection: send() by a pickler that is kept, recv() spins before it sleeps
    Listener.accept()   the server's   ┘

The bytes on the socket are multiprocessing's, so the other end may be a connection of multiprocessing's own, also on
another machine. Called by multiprocessing.managers, which managers.py gives these classes. docs/design/managers.md.
"""

from io import BytesIO
from multiprocessing import connection as _standard
from multiprocessing import reduction as _reduction

from .. import _native
from . import cooperative
from .monkeypatches import has_replaced_methods
from .own_pickler import CONNECTIONS, ORIGINAL
from .stdlib import detach, reducers_of

__all__ = ["Client", "Connection", "Listener"]


class _Sink:
    """The file of a pickler."""

    def __init__(self, write):
        self.write = write


class _Reducers(dict):
    """A pickler's table of reducers, which is empty until an object needs one. Most messages need none.

    A kept pickler must use what the program has registered since it was made. So nothing is kept here.
    """

    def __missing__(self, kind):
        return reducers_of(ORIGINAL)[kind]


def _make_pickler():
    """Return a pickler that can be used again, and the list to which it writes."""
    written: list[bytes] = []
    pickler = ORIGINAL(_Sink(written.append))
    pickler.dispatch_table = _Reducers()
    return pickler, written


class Connection(_standard.Connection):
    """A connection over a stream socket. Source: multiprocessing.connection.Connection.

    handle: the socket's descriptor, which the connection closes.
    """

    def __init__(self, handle):
        super().__init__(handle)
        self._stream = stream = _native.Stream(handle, _make_pickler, CONNECTIONS)
        # The methods of C themselves: a method in Python around them would take a tenth of a message's time.
        self.send = stream.send  # type: ignore[method-assign, assignment]
        self.recv = stream.recv  # type: ignore[method-assign]

    def close(self):
        """Close the socket. Calls that follow raise OSError."""
        self._stream.forget()
        super().close()

    def _send_bytes(self, buf):
        self._stream.send_bytes([bytes(buf)])

    def _recv_bytes(self, maxsize=None):
        message = self._stream.recv_bytes(-1 if maxsize is None else maxsize)
        if message is None:
            self.__dict__.pop("recv", None)  # the caller makes the connection unreadable: the class's recv() checks it
            return None
        return BytesIO(message)


_reduction.register(Connection, _standard.reduce_connection)


class Listener(_standard.Listener):
    """A listener whose connections are of the class Connection. Source: multiprocessing.connection.Listener."""

    def accept(self):
        """Accept a connection, and return it."""
        return _faster(super().accept())


def Client(address, family=None, authkey=None):
    """Return a Connection to the listener at an address. Source: multiprocessing.connection.Client."""
    connection = _faster(_standard.Client(address, family))
    if authkey is not None:
        if not isinstance(authkey, bytes):
            raise TypeError("authkey should be a byte string")
        _standard.answer_challenge(connection, authkey)
        _standard.deliver_challenge(connection, authkey)
    return connection


def _faster(connection):
    """Return a Connection in place of one of multiprocessing's.

    Return multiprocessing's own under gevent and eventlet, which switch greenlets in its methods, and if the program
    has replaced a method of its connections.
    """
    if type(connection) is not _standard.Connection or has_replaced_methods(_standard.Connection):
        return connection
    if cooperative.is_patched():
        return connection
    return Connection(detach(connection))
