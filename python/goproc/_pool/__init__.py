"""The implementation of goproc.pool.

From a call in the main program to the engine:

    engine_pool.py   Pool
    maps.py          map and starmap: divides the input into tasks
    inputs.py        checks arguments, and reads iterables
    machinery.py     makes the parts of a pool, and ends them
    submitter.py     submits tasks to the engine
    codec.py         pickles calls and results
    repeats.py       large buffers that come again in the chunks of a map

Workers and results:

    crew.py          starts, replaces and ends the workers
    nursery.py       starts many workers from one fork
    worker.py        the main function of a worker
    failures.py      how an exception travels from a worker to the main program
    dispatch.py      collects results, and delivers them to the objects that the user holds
    results.py       these objects: AsyncResult, MapResult, IMapIterator
    iteration.py     what is behind an IMapIterator; unordered.py: and behind that of imap_unordered
    progress.py      shows how many items of a map are done
    awaited.py       these objects in coroutines of asyncio
    describe.py      names a lost task in exceptions and in the log

For programs that use or replace private parts of multiprocessing's Pool:

    parts.py         which parts these are
    inside.py        stand-ins for the parts that the engine's pool does not have
    queue_pool.py    the queue-driven pool: multiprocessing's own Pool, whole; and ThreadPool
"""
