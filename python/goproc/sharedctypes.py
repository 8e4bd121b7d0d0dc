"""multiprocessing.sharedctypes, under goproc's name: shared ctypes values and arrays.

It is the standard library's module, because it holds state that belongs to the process. Only the default context is
replaced, from which a value gets its lock.
"""

import multiprocessing.sharedctypes
import sys

from ._common import start_methods

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.sharedctypes import *  # noqa: F403
    from multiprocessing.sharedctypes import Synchronized as Synchronized
    from multiprocessing.sharedctypes import SynchronizedArray as SynchronizedArray
    from multiprocessing.sharedctypes import SynchronizedBase as SynchronizedBase
    from multiprocessing.sharedctypes import SynchronizedString as SynchronizedString

multiprocessing.sharedctypes.get_context = start_methods.shared_default  # type: ignore[attr-defined]
sys.modules[__name__] = multiprocessing.sharedctypes
