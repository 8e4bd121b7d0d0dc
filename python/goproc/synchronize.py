"""multiprocessing.synchronize itself, under goproc's name: locks, semaphores, conditions, events, barriers.

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.synchronize
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.synchronize import *  # noqa: F403
    from multiprocessing.synchronize import Barrier as Barrier
    from multiprocessing.synchronize import SemLock as SemLock

sys.modules[__name__] = multiprocessing.synchronize
