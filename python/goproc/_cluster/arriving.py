"""What runs in a machine's workers before the tasks: the initializer, and the `__main__` of functions by value.

A spawned worker imports this module, so it imports little.
"""

import sys

__all__ = ["Begin", "function", "main_globals", "update"]

#: The variables of the main program's `__main__`, as far as functions that have come here use them.
_globals: dict = {"__name__": "__main__", "__builtins__": __builtins__}
_versions: dict = {}
_functions: dict = {}


class Begin:
    """The initializer of a machine's workers. initializer: the pickled one of the program, with its arguments; or None.

    sys_path: of the main program, if the machine has the same files; else None.
    """

    def __init__(self, initializer, sys_path):
        self._initializer, self._sys_path = initializer, sys_path

    def __call__(self):
        if self._sys_path is not None:
            sys.path[:] = self._sys_path
        if self._initializer is not None:
            from .._pool.codec import decode

            initializer, initargs = decode(self._initializer)
            self._initializer = None
            initializer(*initargs)


def main_globals():
    """Return the dict of global variables that all functions of the program's `__main__` have here."""
    return _globals


def update(values):
    """Take over variables of the main program's `__main__`. values: by name, (version, value).

    A value comes again with each function that uses it. It is taken once: the functions here may have changed it.
    """
    for name, (version, value) in values.items():
        if _versions.get(name) != version:
            _globals[name] = value
            _versions[name] = version


def function(digest, stream):
    """Return the function of a pickle; always the same one for the same pickle. digest: of the pickle."""
    found = _functions.get(digest)
    if found is None:
        from pickle import loads

        if len(_functions) >= 256:
            _functions.clear()
        found = _functions[digest] = loads(stream)
    return found
