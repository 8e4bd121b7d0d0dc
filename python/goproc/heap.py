"""multiprocessing.heap itself, under goproc's name: the allocator behind shared ctypes.

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.heap
import sys

sys.modules[__name__] = multiprocessing.heap
