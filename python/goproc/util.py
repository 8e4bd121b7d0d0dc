"""multiprocessing.util itself, under goproc's name: finalizers, logging, and what runs at exit.

It works with goproc's processes as it is. It must be one module for goproc and multiprocessing, because it holds state
that belongs to the process.
"""

import multiprocessing.util
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.util import *  # noqa: F403
    from multiprocessing.util import DEBUG as DEBUG
    from multiprocessing.util import DEFAULT_LOGGING_FORMAT as DEFAULT_LOGGING_FORMAT
    from multiprocessing.util import INFO as INFO
    from multiprocessing.util import LOGGER_NAME as LOGGER_NAME
    from multiprocessing.util import MAXFD as MAXFD
    from multiprocessing.util import NOTSET as NOTSET
    from multiprocessing.util import abstract_sockets_supported as abstract_sockets_supported
    from multiprocessing.util import is_abstract_socket_namespace as is_abstract_socket_namespace
    from multiprocessing.util import spawnv_passfds as spawnv_passfds

    if sys.version_info >= (3, 14):
        from multiprocessing.util import WARNING as WARNING

sys.modules[__name__] = multiprocessing.util
