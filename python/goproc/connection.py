"""multiprocessing.connection itself, under goproc's name: pipes, listeners and wait().

It works with goproc's processes as it is, and must be one module for both: it holds state that belongs to the process.

Of what it imports, it uses tempfile for the address of a Listener alone. That takes longer to import than all the rest
of a pool, and imports random, which each forked child seeds anew. So if goproc is the first to import this module,
tempfile is imported when it is used.
"""

import sys
from types import ModuleType


class _Deferred(ModuleType):
    """Stands for a module, which is imported when a name of it is asked for, set or deleted."""

    def __getattr__(self, name):
        return getattr(self._module(), name)

    def __setattr__(self, name, value):
        setattr(self._module(), name, value)

    def __delattr__(self, name):
        delattr(self._module(), name)

    def __dir__(self):
        return dir(self._module())

    def _module(self):
        name = self.__name__
        if sys.modules.get(name) is self:  # another thread has found it there
            del sys.modules[name]
        return __import__(name)


_tempfile = _Deferred("tempfile")
if sys.modules.keys().isdisjoint(["multiprocessing.connection", "tempfile"]):
    sys.modules["tempfile"] = _tempfile
try:
    import multiprocessing.connection
finally:
    if sys.modules.get("tempfile") is _tempfile:
        del sys.modules["tempfile"]

sys.modules[__name__] = multiprocessing.connection
