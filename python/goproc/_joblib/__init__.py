"""The implementation of goproc.joblib: joblib's Parallel on the engine's executor.

    backend.py     GoprocBackend, which joblib calls
    kept.py        keeps the executor between two calls of Parallel, and ends it after an idle time
    payload.py     pickles batches and results with joblib's cloudpickle
    arrays.py      large arrays: written once for each call, mapped by the workers
    inworker.py    what runs in a worker: the initializer, and the function that runs a batch
    processes.py   the default context: new interpreters that do not import the program's main module

docs/design/joblib.md says why. Nothing here is imported by `import goproc`.
"""
