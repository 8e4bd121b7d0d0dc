"""multiprocessing.reduction itself, under goproc's name: pickling of descriptors and functions.

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.reduction
import sys

sys.modules[__name__] = multiprocessing.reduction
