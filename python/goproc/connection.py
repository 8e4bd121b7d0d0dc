"""multiprocessing.connection itself, under goproc's name: pipes, listeners and wait().

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.connection
import sys

sys.modules[__name__] = multiprocessing.connection
