"""goproc measured against its peers: the same work, side by side, in one run.

    python -m benchmarks run         measure, and keep the figures in build/bench/results.json    (make bench)
    python -m benchmarks quick       the table's rows, goproc and multiprocessing only            (make bench-quick)
    python -m benchmarks parts       take a task's time apart, and that of Pipe and Queue            (make bench)
    python -m benchmarks report      write the tables and plots of the documentation from the figures

The files:

    work.py          the rows of the tables: what is measured
    growth.py        the curves: cost against the number of tasks and of workers, memory against the number of items
    peers.py         the libraries, each behind the same few operations
    functions.py     what the workers call
    subject.py       the process in which one library is measured at one row
    alternation.py   runs the subjects of one row in turn: A B C A B C ...
    processor.py     processor time of a process and all that it has started
    results.py       the figures, kept in a file; medians, spreads and ratios
    machine.py       what the figures were measured on
    breakdown.py     where the time of a pool's task goes
    channels.py      where the time of what goes through Pipe, SimpleQueue and Queue goes
    starting.py      what starting a process costs, and what it cannot cost less than
    program.py       a small program, measured as a whole
    report.py        the figures as text: the terminal's, and the documentation's tables
    plots.py         the figures as plots

How it is measured, and why so: docs/benchmarks.md.
"""
