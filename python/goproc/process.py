"""multiprocessing.process itself, under goproc's name: BaseProcess, the current process and its children.

It works with goproc's processes as it is. It must be one module for goproc and multiprocessing, because it holds state
that belongs to the process.
"""

import multiprocessing.process
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.process import *  # noqa: F403

sys.modules[__name__] = multiprocessing.process
