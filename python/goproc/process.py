"""multiprocessing.process itself, under goproc's name: BaseProcess, the current process and its children.

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.process
import sys

sys.modules[__name__] = multiprocessing.process
