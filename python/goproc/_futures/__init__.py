"""The implementation of goproc.futures.

executor.py   ProcessPoolExecutor: the API, with the names of concurrent.futures that programs use
works.py      what is behind one executor: the parts of a pool, how workers are added, how it ends
future.py     Future: what submit() returns
mapping.py    map()
faults.py     turns a pool's exceptions into those that programs expect of an executor
"""
