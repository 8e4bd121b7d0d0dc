"""The implementation of goproc.futures.

executor.py   ProcessPoolExecutor: the API, with the names of concurrent.futures that programs use
works.py      the object behind one executor: has the parts of a pool, adds workers, and ends them
future.py     Future: what submit() returns
mapping.py    map()
inside.py     what programs use of the inside of concurrent.futures' executor
faults.py     turns a pool's exceptions into those that programs expect of an executor
"""
