"""multiprocessing.dummy.connection itself, under goproc's name: pipes and listeners between threads.

For type checkers and editors only: at run time goproc.dummy has put the module itself in this one's place.
"""

from multiprocessing.dummy.connection import *  # noqa: F403
from multiprocessing.dummy.connection import Connection as Connection
from multiprocessing.dummy.connection import families as families
