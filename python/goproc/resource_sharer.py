"""multiprocessing.resource_sharer itself, under goproc's name: descriptors handed over later.

It works with goproc's processes as it is. It must be one module for goproc and multiprocessing, because it holds state
that belongs to the process.
"""

import multiprocessing.resource_sharer
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.resource_sharer import *  # noqa: F403

sys.modules[__name__] = multiprocessing.resource_sharer
