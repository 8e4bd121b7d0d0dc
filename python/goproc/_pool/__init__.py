"""What is behind goproc.pool.

In the main program, a call on its way to the workers:

    engine_pool.py   Pool
    maps.py          how the input of a map becomes tasks
    iteration.py     imap: reads the input as results are taken
    inputs.py        checks of the arguments, and how iterables are read
    submitter.py     how tasks go to the engine
    codec.py         calls and results as pickles

Its workers, and the way back:

    crew.py          the workers: started, replaced, ended
    nursery.py       many workers from one fork
    worker.py        what runs in a worker
    failures.py      how an exception travels
    dispatch.py      who waits for results, and how they reach the objects that the user holds
    results.py       these objects
    describe.py      how a lost task is named in exceptions and in the log

For programs that look inside, or bring parts of their own:

    parts.py         which parts these are
    inside.py        the parts that the engine's pool does not have, made when asked for
    queue_pool.py    multiprocessing's own Pool, whole; and ThreadPool
"""
