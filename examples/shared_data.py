# goproc.share(): data that all tasks read is put into shared memory once. Each task is sent a handle of a few bytes.
"""
Sums: [1000000, 2000000, 3000000, 4000000]
The same object in each task of a worker: True
The handle is small: True
"""

import functools
import os
import pickle

import goproc


def count(data, byte):
    return data.count(byte), os.getpid(), id(data)


if __name__ == "__main__":
    data = b"".join(bytes([byte]) * (byte * 1_000_000) for byte in range(1, 5))
    with goproc.share(data) as shared, goproc.Pool(2) as pool:
        found = pool.map(functools.partial(count, shared), range(1, 5), chunksize=1)
        print("Sums:", [number for number, _, _ in found])
        objects = {(pid, place) for _, pid, place in found}
        print("The same object in each task of a worker:", len(objects) == len({pid for pid, _ in objects}))
        print("The handle is small:", len(pickle.dumps(shared)) < 200)
