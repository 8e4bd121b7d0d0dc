"""multiprocessing.managers itself, under goproc's name: managers and their proxies.

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.managers
import sys

sys.modules[__name__] = multiprocessing.managers
