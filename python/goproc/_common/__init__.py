"""What goproc's rooms share, and which of its parts are switched off.

engine.py         loads the Go engine when it is first needed, and calls it
calls.py          the engine's functions, one Python function for each
stdlib.py         what goproc has to know of the standard library's inside
start_methods.py  the contexts, by the names of their start methods
threads.py        threads of goproc's own
cooperative.py    waiting under gevent and eventlet
counters.py       the line that --stats prints at the end
switches.py       which parts GOPROC_DISABLE switches off
log.py            what goproc tells in the log, and on standard error
"""

import sys

#: This program's first argument. Spawned children and servers have --multiprocessing-fork or
#: --multiprocessing-forkserver there.
role = (getattr(sys, "argv", [])[1:2] or [""])[0]

#: The parts that the environment variable GOPROC_DISABLE takes out. switches.py fills it in, if the variable is set.
disabled: "set[str]" = set()
