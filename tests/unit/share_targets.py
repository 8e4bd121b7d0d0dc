"""What the tests of share() run in other processes. In a module of its own: spawned workers import it by its name."""

import os
import signal
import time

import numpy

import goproc

kept = None


def mappings():
    """How many mappings of shared objects this process has."""
    with open("/proc/self/maps") as file:
        return sum("goproc-share" in line for line in file)


def keep(value):
    global kept
    kept = value


def look_at_kept(index):
    return type(kept).__name__, float(kept[index]), kept.flags.writeable


def element(array, index):
    return float(array[index])


def where(array, _=None):
    return os.getpid(), array.ctypes.data, id(array), array.flags.writeable, mappings()


def write(array):
    array[0] = 1


def unlock_and_write(array):
    array.setflags(write=True)


def count_mappings(_):
    time.sleep(0.01)  # so that all workers get some
    return os.getpid(), mappings()


def inside(value):
    """The types of what is deep inside of an argument."""
    return type(value["deep"][0][1]).__name__, float(value["deep"][0][1][3])


def types(arrays):
    return {name: (type(array).__name__, array.flags.writeable) for name, array in arrays.items()}


def put(queue, array, index):
    queue.put((float(array[index]), array.flags.writeable))


def get_and_put(queue, answers):
    array = queue.get()
    answers.put((type(array).__name__, float(array[5]), array.flags.writeable))


def make(length):
    return goproc.share(numpy.arange(float(length)))


def share_again(array, index):
    """Pass on what was received: the handle is of the same memory."""
    handle = goproc.share(array)
    with goproc.get_context("fork").Pool(1) as pool:
        return handle.get() is array, pool.apply(element, (handle, index)), mappings()


def kill_after(array, index):
    if index == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return float(array[index])


def change(array, index):
    """What a function receives is its own, also when the next chunk has the same array."""
    before = float(array[0]), float(array[index])
    array[:] = -1
    return before


def change_nothing(array, index):
    return float(array[0]), array.flags.writeable


def same(pair, other=None):
    """Whether the two arrays are one object, as they were in the program."""
    first, second = pair
    return first is second


def received_bytes(data, index):
    return type(data).__name__, len(data), data[index]


def keep_and_sum(array, index):
    """Keep what was received for later, then look at it again."""
    if index == 0:
        keep(array)
    return os.getpid()


def sum_of_kept(_):
    return None if kept is None else float(kept.sum())


tried: list = []


def fail_first(array, index):
    """Raise KeyError at the first attempt in this process; return the element at the second one."""
    if index not in tried:
        tried.append(index)
        raise KeyError(index)
    return float(array[index])


def become_another(uid):
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def shared_again(array):
    return goproc.share(array)


def deep_inside(array):
    return {"deep": [goproc.share(array)]}


def make_of(value):
    return goproc.share(value)


def yield_again(array):
    yield goproc.share(array)


def yield_made(length):
    yield make(length)


def shared_again_when_there(array, path, folder):
    """Wait for a file, and return a handle then."""
    open(os.path.join(folder, "begun"), "w").close()
    while not os.path.exists(path):
        time.sleep(0.01)
    return goproc.share(array)


def in_a_pool(length):
    """Give a pool of this process a handle, and take one from it."""
    with goproc.Pool(1) as pool:
        made = pool.apply(make, (length,))
        return pool.apply(element, (goproc.share(made), 3)), float(made[4]), "null"
