"""Compares goproc.cluster with Dask and Ray: the same work on machines of one core each, in turn, in one run.

    python -m benchmarks cluster     measure, and write the tables of docs/benchmarks-cluster.md   (make bench-cluster)

The files:

    rows.py          what is measured
    peers.py         the libraries, each as a class with the same operations
    machines.py      starts a scheduler of Dask and its workers; reads their processor time and memory
    subject.py       the process in which one library is measured at one row, with machines of its own
    command.py       the command
    report.py        the tables
"""
