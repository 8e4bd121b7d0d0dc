"""The implementation of goproc.pool.

From a call in the main program to the engine:

    engine_pool.py   Pool
    maps.py          map and starmap: divides the input into tasks
    mapped.py        what its methods for maps have in common
    additions.py     its methods that multiprocessing's Pool does not have
    options.py       its arguments that multiprocessing's Pool does not have
    inputs.py        checks arguments, and reads iterables
    machinery.py     makes the parts of a pool, and ends them
    submitter.py     submits tasks to the engine
    codec.py         pickles calls and results
    forms.py         pickles them by value, with cloudpickle
    repeats.py       large buffers that come again in the chunks of a map
    control.py       all other calls of the engine

Workers and results:

    crew.py          starts, replaces and ends the workers
    nursery.py       starts many workers from one fork
    worker.py        the main function of a worker
    blas_threads.py  how many threads BLAS and OpenMP use in a worker
    failures.py      how an exception travels from a worker to the main program
    dispatch.py      collects results, and delivers them to the objects that the user holds
    results.py       these objects: AsyncResult, MapResult, IMapIterator
    iteration.py     one call of imap, behind an IMapIterator; unordered.py: one call of imap_unordered
    references.py    notices that the program has dropped an iterator
    streams.py       one call of stream
    retrying.py      runs tasks again that failed
    progress.py      shows how many items of a map are done
    awaited.py       these objects in coroutines of asyncio
    describe.py      names a lost task in exceptions and in the log

For programs that use or replace private parts of multiprocessing's Pool:

    parts.py         which parts these are
    inside.py        stand-ins for the parts that the engine's pool does not have
    queue_pool.py    the queue-driven pool: multiprocessing's own Pool, whole; and ThreadPool
"""
