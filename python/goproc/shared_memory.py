"""multiprocessing.shared_memory itself, under goproc's name: named shared memory.

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.shared_memory
import sys

sys.modules[__name__] = multiprocessing.shared_memory
