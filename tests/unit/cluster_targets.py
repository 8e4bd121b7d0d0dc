"""Functions that the tests of goproc.cluster run on machines."""

import os


def double(x):
    return 2 * x


def pid(_=None):
    return os.getpid()
