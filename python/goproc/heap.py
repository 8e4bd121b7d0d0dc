"""multiprocessing.heap, the allocator behind shared ctypes, on memory without a name.

It is the standard library's module, because it holds state that belongs to the process; only its class Arena is
replaced. multiprocessing makes a file in /dev/shm, and then removes it: if the program is killed in between, the file
stays. Here the kernel makes memory that never had a name. If the kernel refuses (memfd_create), the file is made.
"""

import mmap
import multiprocessing.heap as _standard
import posix
import sys
from multiprocessing import reduction, util

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a type checker and an editor see; at run time it is the module itself
    from multiprocessing.heap import *  # noqa: F403
    from multiprocessing.heap import Heap as Heap
    from multiprocessing.heap import rebuild_arena as rebuild_arena
    from multiprocessing.heap import reduce_arena as reduce_arena


class Arena(_standard.Arena):
    """A block of shared memory. Source: multiprocessing.heap.Arena.

    size: its bytes. fd: the descriptor of an arena that another process has made; -1 for a new one.
    """

    def __init__(self, size: int, fd: int = -1) -> None:
        if fd == -1:
            try:
                fd = posix.memfd_create("goproc-heap")
            except OSError:
                pass
            else:
                util.Finalize(self, posix.close, (fd,))
                posix.ftruncate(fd, size)
        if fd == -1:
            super().__init__(size)
            return
        self.size = size
        self.fd = fd
        self.buffer: mmap.mmap = mmap.mmap(fd, size)


Arena.__module__ = _standard.__name__
reduction.register(Arena, _standard.reduce_arena)
_standard.Arena = Arena  # type: ignore[misc]
sys.modules[__name__] = _standard
