"""multiprocessing.sharedctypes itself, under goproc's name: shared ctypes values and arrays.

It works with goproc's processes as it is. It must be one module for goproc and multiprocessing, because it holds state
that belongs to the process.
"""

import multiprocessing.sharedctypes
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.sharedctypes import *  # noqa: F403
    from multiprocessing.sharedctypes import Synchronized as Synchronized
    from multiprocessing.sharedctypes import SynchronizedArray as SynchronizedArray
    from multiprocessing.sharedctypes import SynchronizedBase as SynchronizedBase
    from multiprocessing.sharedctypes import SynchronizedString as SynchronizedString

sys.modules[__name__] = multiprocessing.sharedctypes
