"""multiprocessing.util itself, under goproc's name: finalizers, logging, and what runs at exit.

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.util
import sys

sys.modules[__name__] = multiprocessing.util
