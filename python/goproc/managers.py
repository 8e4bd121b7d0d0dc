"""multiprocessing.managers, under goproc's name: managers and their proxies, with faster connections.

It is the standard library's module, because it holds state that belongs to the process, and because pickled proxies
name it. Four things are replaced: the connections of the serializer "pickle"; BaseManager.start(), so a server that
goproc has started ends with the process that has started it; the end of a manager, which also removes the socket of a
server that was killed; and the default context. docs/design/managers.md has the reasons.
"""

import functools
import multiprocessing.managers as _standard
import sys

from ._common import disabled, start_methods, stdlib
from ._start.manager_server import Beginning, remove_socket

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.managers import *  # noqa: F403
    from multiprocessing.managers import BaseListProxy as BaseListProxy
    from multiprocessing.managers import DictProxy as DictProxy
    from multiprocessing.managers import ListProxy as ListProxy
    from multiprocessing.managers import Namespace as Namespace
    from multiprocessing.managers import RemoteError as RemoteError
    from multiprocessing.managers import Server as Server
    from multiprocessing.managers import SharedMemoryServer as SharedMemoryServer
    from multiprocessing.managers import ValueProxy as ValueProxy

    if sys.version_info >= (3, 14):
        from multiprocessing.managers import SetProxy as SetProxy

_standard_start = _standard.BaseManager.start


@functools.wraps(_standard_start)
def _start(self, initializer=None, initargs=()):
    if isinstance(stdlib.context_of(self), start_methods.base_class) and (initializer is None or callable(initializer)):
        initializer = Beginning(initializer)
    _standard_start(self, initializer, initargs)


def _end(finalize):
    @functools.wraps(finalize)
    def finalize_manager(process, address, *arguments, **options):
        finalize(process, address, *arguments, **options)
        remove_socket(process, address)

    return finalize_manager


_standard.get_context = start_methods.shared_default  # type: ignore[attr-defined]
_standard.BaseManager.start = _start  # type: ignore[method-assign]
stdlib.replace_end_of_managers(_end)
if "manager-connections" not in disabled:
    from ._common import manager_connections

    _standard.listener_client["pickle"] = manager_connections.Listener, manager_connections.Client  # type: ignore[attr-defined]
sys.modules[__name__] = _standard
