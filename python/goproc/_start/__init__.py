"""How processes start: the implementation of the modules popen_*, spawn and forkserver.

prefork.py            the main loop of the two servers that fork
spawn_server.py       the spawn server: the interpreter that spawned children are forked from
deferred_imports.py   keeps a spawned child from importing what it does not need
data_files.py         files without a name, and pipes, for what new processes are sent
stand_in.py           a module that is imported only when it is used
inert.py              whether the fork server may import the main module for all children
main_module.py        the program's main module in a child that was not forked, and its name there
manager_server.py     ends the server of a manager with the process that has started it
companions.py         imports goproc's module together with multiprocessing's of the same name
"""
