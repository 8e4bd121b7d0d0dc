"""What runs in a machine's workers before the tasks: the initializer, and the `__main__` of functions by value.

A spawned worker imports this module, so it imports little.
"""

import sys

from .._pool import worker

__all__ = ["Begin", "main_globals", "repeated", "shared", "update"]

#: The variables of the main program's `__main__` that the functions use which have arrived here.
_globals: dict = {"__name__": "__main__", "__builtins__": __builtins__}
_versions: dict = {}
_CONTENT_AT = 128  # where the content of shared bytes begins (sharing.py)
_machine = 0  # the process that keeps the contents of shared objects


class Begin:
    """The initializer of a machine's workers. initializer: the program's, pickled with its arguments; or None.

    sys_path: of the main program, if the machine has the same files; else None. machine: the process id of the Dask
    worker, which keeps the contents of shared objects.
    """

    def __init__(self, initializer, sys_path, machine):
        self._initializer, self._sys_path, self._machine = initializer, sys_path, machine

    def __call__(self):
        global _machine
        _machine = self._machine
        worker.encode_result = _encode_result
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


def shared(token):
    """Return the shared object of a token. Raises FileNotFoundError if the main program has closed its handle."""
    from .._common import sharing

    if token in sharing._kept or token in sharing._memories:
        return sharing.arrived(token, 0, -1)
    return sharing.arrived(token, _machine, _descriptor_of(token))


def repeated(token, is_bytes):
    """Return the content of a token, as bytes, or as a private copy that can be written."""
    import os
    from mmap import MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap

    from .._common.nameless import open_place

    fd = open_place(token, _machine, _descriptor_of(token))
    try:
        size = os.fstat(fd).st_size
        view = memoryview(mmap(fd, size, MAP_PRIVATE, PROT_READ | PROT_WRITE))[_CONTENT_AT:]
        return bytes(view) if is_bytes else view
    finally:
        os.close(fd)


def _encode_result(value):
    """Do what encode() of codec.py does. Only if there may be handles of shared objects, returning.py is imported."""
    if "goproc._common.sharing" not in sys.modules:
        return worker.by_name_or_value(value)
    from .returning import encode_result

    return encode_result(value, _is_of_program)


def _is_of_program(token):
    """Whether the main program has sent the content of a token to this machine, and has not closed its handle."""
    return _descriptor_of(token) >= 0


def _descriptor_of(token):
    """Return the number of the descriptor in the machine's process whose memfd has the content of a token."""
    import os

    from .._common.nameless import open_place

    for number in os.listdir(f"/proc/{_machine}/fd"):
        try:
            os.close(open_place(token, _machine, int(number)))
            return int(number)
        except OSError:
            continue
    return -1
