"""multiprocessing.resource_tracker itself, under goproc's name: named resources, one tracker for both.

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.resource_tracker
import sys

sys.modules[__name__] = multiprocessing.resource_tracker
