"""multiprocessing.util itself, under goproc's name: finalizers, logging, and what runs at exit.

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.util
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.util import *  # noqa: F403

sys.modules[__name__] = multiprocessing.util
