"""Compares goproc with similar libraries: the same work, in turn, in one run.

    python -m benchmarks run         measure, and keep the figures in build/bench/results.json    (make bench)
    python -m benchmarks quick       the table's rows, goproc and multiprocessing only            (make bench-quick)
    python -m benchmarks parts       measure the steps of a task, of Pipe and Queue, of a start   (make bench)
    python -m benchmarks report      write the tables and plots of the documentation from the figures

The files:

    work.py          the rows of the tables: what is measured
    growth.py        the curves: cost against the number of tasks and of workers, memory against the number of items
    peers.py         the libraries, each as a class with the same operations
    functions.py     the functions that the workers call
    subject.py       the process in which one library is measured at one row
    alternation.py   runs the subjects of one row in turn: A B C A B C ...
    processor.py     processor time of a process and all its descendants
    results.py       the figures, kept in a file; medians, spreads and ratios
    machine.py       the machine and the versions of the figures
    breakdown.py     the steps of a pool's task
    channels.py      the steps of an object through Pipe, SimpleQueue and Queue
    starting.py      the cost of starting a process, and lower bounds of it
    program.py       a small program, measured as a whole
    report.py        the figures as text: for the terminal, and as tables of the documentation
    plots.py         the figures as plots

docs/benchmarks.md says how it is measured, and why.
"""
