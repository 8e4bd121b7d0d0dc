"""The implementation of goproc.cluster: a Pool whose workers are on the machines of a Dask cluster.

In the main program:

    pool.py          Pool: engine_pool.Pool with the parts below in the place of the engine's
    address.py       what an address means: returns a Dask client
    local.py         the machines of an address such as local:2x4; local_worker.py is their program
    port.py          where tasks are submitted, and their results collected
    control.py       cancelling, closing and the like
    crew.py          the machines, in place of a local pool's workers: how they join and leave, and the end of all
    ledger.py        which task is where: queued, held by a machine, or granted to it
    tasks.py         a task, and the account of a machine
    driver.py        the exchange with one machine
    contents.py      shared objects, which go once to each machine
    workers.py       the stand-ins in pool._pool
    forms.py         how tasks are pickled: functions of `__main__` by value
    log_sink.py      takes the log records of machines

On each machine, in the process of its Dask worker:

    machine.py       the Dask actor with which the driver exchanges
    relay.py         the engine's pool of the machine: takes tasks, and returns results, as bytes
    log_source.py    reads the log records of the machine's workers
    arriving.py      in the machine's workers: what arrives there
    returning.py     in these, too: shared objects in results

Both: messages.py. docs/design/cluster.md says why.
"""
