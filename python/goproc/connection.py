"""multiprocessing.connection itself, under goproc's name: pipes, listeners and wait().

It works with goproc's processes as it is. It must be one module for goproc and multiprocessing, because it holds state
that belongs to the process.

It uses tempfile only for the address of a Listener. tempfile takes longer to import than all the rest of a pool, and it
imports random, which each forked child seeds again. So if goproc is the first to import multiprocessing.connection,
tempfile is imported when it is used.
"""

import sys

from ._start.stand_in import StandIn, import_with

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.connection import *  # noqa: F403
    from multiprocessing.connection import Connection as Connection
    from multiprocessing.connection import answer_challenge as answer_challenge
    from multiprocessing.connection import deliver_challenge as deliver_challenge

import_with(StandIn("tempfile"), "multiprocessing.connection")
sys.modules[__name__] = sys.modules["multiprocessing.connection"]
