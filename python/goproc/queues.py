"""multiprocessing.queues itself, under goproc's name: queues between processes.

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.queues
import sys

sys.modules[__name__] = multiprocessing.queues
