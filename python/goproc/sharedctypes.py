"""multiprocessing.sharedctypes itself, under goproc's name: shared ctypes values and arrays.

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.sharedctypes
import sys

sys.modules[__name__] = multiprocessing.sharedctypes
