"""Handles of share() in results: a worker pickles them by encode_result(), and back() makes them objects again.

A task that returns a handle gives the main program the object, as with a local pool. If the main program itself has
shared the object, the token is enough: the main program uses its own handle. The content of any other object travels
with the result, and the main program puts it into shared memory.
"""

import os
from functools import partial
from mmap import ACCESS_READ, mmap
from pickle import PickleBuffer
from threading import get_ident

from .._common import sharing
from .._pool import codec, worker

__all__ = ["back", "encode_result"]


def encode_result(value, is_of_program):
    """Pickle a result, as encode() of codec.py does.

    is_of_program: a function that tells whether the main program has the content of a token.
    """
    me = get_ident()
    codec.reducers_of_shared[me] = partial(_reduced, is_of_program)
    try:
        return worker.by_name_or_value(value)
    finally:
        del codec.reducers_of_shared[me]


def _reduced(is_of_program, handle):
    if handle._plain is not None:
        return handle.__reduce__()
    handle._check()
    if is_of_program(handle._token):
        return back, (handle._token,)
    fd = os.open(f"/proc/self/fd/{handle._fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return back, (handle._token, PickleBuffer(mmap(fd, 0, access=ACCESS_READ)))
    finally:
        os.close(fd)


def back(token, content=None):
    """Return the object of a handle that a task has returned. content: if the handle is not this process's.

    Raises FileNotFoundError if this process has closed its handle.
    """
    if content is not None:
        return sharing.of_content(token, content)
    if not sharing.is_here(token):
        raise FileNotFoundError(
            "a task has returned a shared object whose handle this program has closed: keep what goproc.share() "
            "returned until the result has come"
        )
    return sharing.arrived(token, 0, -1)
