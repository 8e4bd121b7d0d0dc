"""multiprocessing.managers itself, under goproc's name: managers and their proxies.

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.managers
import sys

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

sys.modules[__name__] = multiprocessing.managers
