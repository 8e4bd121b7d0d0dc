"""Large arrays as inputs: each is written to an unnamed file once, and the workers map that file.

    parent:  Shares.reduced(array) ─▶ a memfd, which this process holds open
    worker:  mapped("/proc/<pid of the parent>/fd/<number>", ...) ─▶ a numpy.memmap

The file has no name, so nothing is left behind, however the program ends. docs/design/joblib.md says when a file is
closed. Both sides import this module; numpy is imported only where there is an array.
"""

import os
import sys
import weakref
from threading import RLock

from .._start import data_files

__all__ = ["Shares", "backed_by_file", "is_shared", "mapped"]

#: How many files without a pending batch are kept, in case a later batch has the same array.
KEPT = 32

#: The most files at a time. Further arrays are copied to the workers, as small ones are.
MOST = 256

#: How the path of such a file begins, as the attribute `filename` of a numpy.memmap.
_PREFIX = "/proc/"


class Share:
    """An array's file. array: a weak reference to the array. users: the number of pending batches that refer to it."""

    __slots__ = ("fd", "array", "users", "inode")

    def __init__(self, fd, array):
        self.fd = fd
        self.array = weakref.ref(array)
        self.users = 0
        self.inode = os.fstat(fd).st_ino


class Shares:
    """The files of one call of Parallel.

    max_nbytes: arrays of more bytes are shared; None for no array. mode: as of numpy.memmap, or None for no array.
    folder: where the files are; None for memory. local: whether the workers can open the files of this machine.
    """

    def __init__(self, max_nbytes, mode, folder, local=True):
        self.local = local
        self._max_nbytes = max_nbytes
        self._mode = "r+" if mode == "w+" else mode
        self._folder = folder or os.environ.get("JOBLIB_TEMP_FOLDER") or None
        self._shares: list[Share] = []  # all whose file is open
        self._of_array: dict[int, Share] = {}  # by the id of the array
        self._lock = RLock()
        self.used: list[Share] = []  # of the batch that is being pickled
        self.pickling = RLock()  # held by who pickles a batch
        self.wanted = local and max_nbytes is not None and mode is not None and _others_may_open()

    def reduced(self, array):
        """Return the reduction of an array, None if it is not shared. Its share is added to the list `used`."""
        if not self.wanted or array.nbytes <= self._max_nbytes or array.dtype.hasobject:
            return None
        flags = array.flags
        order = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
        with self._lock:
            share = self._of_array.get(id(array))
            if share is None or share.array() is not array:  # another array may have had its id
                self._trim()
                if len(self._shares) >= MOST:
                    return None
                try:
                    share = Share(_written(array, order, self._folder), array)
                except OSError:
                    return None  # no descriptor is left, or no room: it is copied to the workers
                self._of_array[id(array)] = share
                self._shares.append(share)
            if share not in self.used:
                share.users += 1
                self.used.append(share)
        path = f"{_PREFIX}{os.getpid()}/fd/{share.fd}"
        return mapped, (path, share.inode, array.dtype, array.shape, order, self._mode)

    def release(self, used):
        """Note that a batch is done that referred to the shares in the list used."""
        with self._lock:
            for share in used:
                share.users -= 1
            used.clear()
            self._trim()

    def _trim(self):
        """Close files that no pending batch refers to: of arrays that are gone, and of others if there are many."""
        idle = [share for share in self._shares if not share.users]
        gone = [share for share in idle if share.array() is None]
        self._close(gone or idle[: max(0, len(idle) - KEPT)])

    def forget(self):
        """Close all files that no pending batch refers to: the program may change the arrays from now on."""
        with self._lock:
            self._close([share for share in self._shares if not share.users])

    def close(self):
        """Close all files. What workers have mapped stays mapped."""
        with self._lock:
            self.wanted = False
            self._close(list(self._shares))

    def _close(self, shares):
        for share in shares:
            self._shares.remove(share)
            os.close(share.fd)
        if shares:
            self._of_array = {key: share for key, share in self._of_array.items() if share not in shares}


def _others_may_open():
    """Whether processes of this user may open this process's files through /proc."""
    try:
        return os.stat("/proc/self/fd").st_uid == os.geteuid()
    except OSError:
        return False


def _written(array, order, folder):
    """Return the descriptor of an unnamed file that has an array's elements in that order."""
    import mmap

    import numpy

    if folder is None:
        fd = data_files.open_unnamed("goproc-array")
    else:
        import tempfile

        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            fd = os.dup(file.fileno())
    try:
        os.posix_fallocate(fd, 0, array.nbytes)  # without room this raises OSError; the copy would be killed by SIGBUS
        memory = mmap.mmap(fd, array.nbytes)
        numpy.ndarray(array.shape, array.dtype, memory, order=order)[...] = array
        return fd
    except BaseException:
        os.close(fd)
        raise


def mapped(path, inode, dtype, shape, order, mode):
    """Return the array that Shares.reduced() has written, as a numpy.memmap. Called in a worker, which unpickles it."""
    import numpy

    def opened(path, flags):
        return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)

    with open(path, "r+b" if mode == "r+" else "rb", buffering=0, opener=opened) as file:
        if os.fstat(file.fileno()).st_ino != inode:
            raise FileNotFoundError(f"{path} is another file by now: the call of Parallel has ended")
        return numpy.memmap(file, dtype=dtype, mode=mode, shape=shape, order=order)


def is_shared(array):
    """Whether a numpy.memmap is one of an array that Shares.reduced() has written."""
    name = getattr(array, "filename", None)
    return isinstance(name, str) and name.startswith(_PREFIX) and "/fd/" in name


def backed_by_file(array):
    """Return the numpy.memmap of a named file that has an array's memory, None if there is none.

    joblib's own function looks for it: a view of a memmap, of whatever class, is one, too.
    """
    if array.base is None:
        return None
    from joblib._memmapping_reducer import _get_backing_memmap

    found = _get_backing_memmap(array)
    memmap = sys.modules["numpy"].memmap
    return found if isinstance(found, memmap) and found.filename is not None and not is_shared(found) else None
