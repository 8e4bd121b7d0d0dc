"""multiprocessing.dummy itself, under goproc's name: multiprocessing's API on threads, with nothing to replace."""

import multiprocessing.dummy
import multiprocessing.dummy.connection
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.dummy import *  # noqa: F403
    from multiprocessing.dummy import Array as Array
    from multiprocessing.dummy import DummyProcess as DummyProcess
    from multiprocessing.dummy import Namespace as Namespace
    from multiprocessing.dummy import Value as Value
    from multiprocessing.dummy import shutdown as shutdown

sys.modules[__name__] = multiprocessing.dummy
# Without this, goproc.dummy.connection would be found in the package's folder, and loaded a second time.
sys.modules[__name__ + ".connection"] = multiprocessing.dummy.connection
