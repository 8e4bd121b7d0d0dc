"""A module in the place of one that another imports, but seldom or never uses.

Used by connection.py in the main program, and by deferred_imports.py in spawned children. It imports nothing.
"""

import sys
from types import ModuleType

__all__ = ["StandIn", "import_with"]


class StandIn(ModuleType):
    """Stands for a module, which is imported when a name is asked for that this has not, or one is set or deleted.

    names: what it has itself.
    """

    def __init__(self, name, **names):
        super().__init__(name)
        vars(self).update(names)

    def __getattr__(self, name):
        return getattr(self._module(), name)

    def __setattr__(self, name, value):
        setattr(self._module(), name, value)

    def __delattr__(self, name):
        delattr(self._module(), name)

    def __dir__(self):
        return dir(self._module())

    def _module(self):
        self.leave()
        return __import__(self.__name__)

    def leave(self):
        """Stand in sys.modules no longer."""
        if sys.modules.get(self.__name__) is self:
            sys.modules.pop(self.__name__, None)


def import_with(stand_in, name):
    """Import a module. If it has not been imported, and what the StandIn stands for has not, it gets that instead."""
    if sys.modules.keys().isdisjoint([name, stand_in.__name__]):
        sys.modules[stand_in.__name__] = stand_in
    try:
        __import__(name)
    finally:
        stand_in.leave()
