"""multiprocessing.synchronize itself, under goproc's name: locks, semaphores, conditions, events, barriers.

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.synchronize
import sys

sys.modules[__name__] = multiprocessing.synchronize
