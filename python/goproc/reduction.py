"""multiprocessing.reduction itself, under goproc's name: pickling of descriptors and functions.

It works with goproc's processes as it is. It must be one module for goproc and multiprocessing, because it holds state
that belongs to the process.
"""

import multiprocessing.reduction
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.reduction import *  # noqa: F403
    from multiprocessing.reduction import HAVE_SEND_HANDLE as HAVE_SEND_HANDLE
    from multiprocessing.reduction import AbstractReducer as AbstractReducer

    if sys.version_info < (3, 14):
        from multiprocessing.reduction import ACKNOWLEDGE as ACKNOWLEDGE

sys.modules[__name__] = multiprocessing.reduction
