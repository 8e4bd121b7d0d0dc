"""Compares goproc with similar libraries: the same work, in turn, in one run.

    python -m benchmarks run         measure, and keep the figures in build/bench/results.json    (make bench)
    python -m benchmarks quick       the table's rows, goproc and multiprocessing only            (make bench-quick)
    python -m benchmarks parts       measure the steps of a task, of Pipe and Queue, of a start   (make bench)
    python -m benchmarks progress    measure what progress= costs
    python -m benchmarks cluster     goproc.cluster against Dask and Ray                          (make bench-cluster)
    python -m benchmarks report      put the figures into the documentation: docs/plots/figures.json, tables, plots
    python -m benchmarks plots       write the tables and plots again from docs/plots/*.json      (make plots)

The files:

    rows.py          the rows of the tables: what is measured
    work.py          the kinds of rows
    growth.py        the curves: what is measured at several sizes, lengths, and numbers of tasks and workers
    peers.py         the libraries, each as a class with the same operations
    functions.py     the functions that the workers call
    subject.py       the process in which one library is measured at one row
    alternation.py   runs the subjects of one row in turn: A B C A B C ...
    processor.py     processor time of a process and all its descendants
    results.py       the measurements, kept in a file; medians, spreads and ratios
    figures.py       the published figures: medians and quartiles of the measurements
    machine.py       the machine and the versions of the figures
    breakdown.py     the steps of a pool's task
    locks.py         work for two processes that use locks
    queues.py        work for processes that use a queue
    managers.py      work for a manager's proxy
    channels.py      the steps of an object through Pipe, SimpleQueue and Queue
    starting.py      the cost of starting a process, and lower bounds of it
    progress.py      maps with and without progress=
    cluster/         goproc.cluster, Dask and Ray on many machines
    program.py       a small program, measured as a whole
    report.py        the figures as text: for the terminal, and as tables of the documentation
    plots.py         the figures as plots
    theme.py         the plots' colours, light and dark

docs/benchmarks.md says how it is measured, and why.
"""
