"""multiprocessing.resource_tracker itself, under goproc's name: named resources, one tracker for both.

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.
"""

import multiprocessing.resource_tracker
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.resource_tracker import *  # noqa: F403
    from multiprocessing.resource_tracker import ResourceTracker as ResourceTracker
    from multiprocessing.resource_tracker import getfd as getfd
    from multiprocessing.resource_tracker import main as main

sys.modules[__name__] = multiprocessing.resource_tracker
