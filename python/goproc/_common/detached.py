"""What the interpreter keeps to its very end: finders for sys.meta_path, and functions for os.register_at_fork().

A function keeps the globals of its module, and all that they refer to. The interpreter keeps finders and such functions
until after its last garbage collection. So functions of goproc's modules would keep, for instance, the target of the
current process, and with it the program's main module. The program's objects would not be finalized: the end of a
compressed file would not be written. The classes here are given names, which they look up when they are called.
"""

import sys

__all__ = ["Finder", "Function"]


class Function:
    """Calls a function of a module."""

    def __init__(self, module, name):
        self._module = module
        self._name = name

    def __call__(self):
        module = sys.modules.get(self._module)
        if module is not None:
            getattr(module, self._name)()


class Finder:
    """A finder that calls a function of a module."""

    def __init__(self, module, name):
        self._module = module
        self._name = name

    def find_spec(self, name, path=None, target=None):
        module = sys.modules.get(self._module)
        return None if module is None else getattr(module, self._name)(name, path, target)
