"""What goproc's rooms share.

engine.py         loads the Go engine when it is first needed, and calls it
calls.py          the engine's functions, one Python function for each
stdlib.py         what goproc has to know of the standard library's inside
start_methods.py  the contexts, by the names of their start methods
cooperative.py    waiting under gevent and eventlet
counters.py       the line that --stats prints at the end
log.py            warnings in multiprocessing's log
"""
