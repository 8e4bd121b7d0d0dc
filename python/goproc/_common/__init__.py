"""Used by all private folders of goproc. This file holds which parts are switched off.

engine.py         loads the Go engine when it is first needed, and calls it
calls.py          the engine's functions, one Python function for each
stdlib.py         the standard library's modules, and its private names that goproc uses
start_methods.py  the contexts, by the names of their start methods
threads.py        threads of goproc's own
cooperative.py    waiting under gevent and eventlet
counters.py       the line that --stats prints at the end
switches.py       the parts that GOPROC_DISABLE switches off
log.py            messages to the log, and to standard error
"""

import sys

#: This program's first argument. In spawned children and servers it is --multiprocessing-fork or
#: --multiprocessing-forkserver.
role = (getattr(sys, "argv", [])[1:2] or [""])[0]

#: The parts that the environment variable GOPROC_DISABLE switches off. switches.py fills it in, if the variable is set.
disabled: "set[str]" = set()
