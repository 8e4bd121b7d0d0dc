"""A stand-in for a module that another module imports, but rarely or never uses.

Used by connection.py in the main program, and by deferred_imports.py in spawned children. It imports nothing.
"""

import sys
from types import ModuleType

__all__ = ["StandIn", "import_with"]


class StandIn(ModuleType):
    """Stands for the module `name` in sys.modules.

    The module is imported when a program reads a name that the stand-in lacks, or sets or deletes any name. names: the
    names that the stand-in has.
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
        """Remove this stand-in from sys.modules."""
        if sys.modules.get(self.__name__) is self:
            sys.modules.pop(self.__name__, None)


def import_with(stand_in, name):
    """Import the module `name`, which imports the StandIn instead of the module that it stands for.

    If either module has been imported before, the stand-in is not used.
    """
    if sys.modules.keys().isdisjoint([name, stand_in.__name__]):
        sys.modules[stand_in.__name__] = stand_in
    try:
        __import__(name)
    finally:
        stand_in.leave()
