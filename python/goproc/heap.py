"""multiprocessing.heap itself, under goproc's name: the allocator behind shared ctypes.

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.heap
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.heap import *  # noqa: F403
    from multiprocessing.heap import Arena as Arena
    from multiprocessing.heap import Heap as Heap
    from multiprocessing.heap import rebuild_arena as rebuild_arena
    from multiprocessing.heap import reduce_arena as reduce_arena

sys.modules[__name__] = multiprocessing.heap
