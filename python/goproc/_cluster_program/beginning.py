"""What a worker on a machine does before the program's initializer: it becomes like a child of the program.

Pickles name this module, and a worker imports it before anything else. So it imports nothing.
"""

__all__ = ["Child", "begin"]


class Child:
    """Makes the process that unpickles it like a child of the program. It must be unpickled before anything else is.

    installed, futures: whether the program has called install(), and with futures=True.
    """

    def __init__(self, installed, futures):
        self._installed, self._futures = installed, futures

    def __reduce__(self):
        return _be_child, (self._installed, self._futures)


def _be_child(installed, futures):
    import os

    # Functions of the program's `__main__` have no name here. A pool that a task makes must send them by value, too.
    os.environ.setdefault("GOPROC_PICKLER", "cloudpickle")
    if installed:
        from ..install import install

        install(futures=futures)


def begin(_, initializer, initargs):
    """Call the program's initializer, if it has one. The first argument was a Child."""
    if initializer is not None:
        initializer(*initargs)
