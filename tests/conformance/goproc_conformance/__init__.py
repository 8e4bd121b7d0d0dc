"""The conformance harness: CPython's own tests of multiprocessing, run on goproc.

Nothing of CPython is copied: the tests are those of the interpreter that runs them. Two sides::

    tests/conformance/run.py                              what a person calls
      cli.py          options, the order of the runs, the verdict
      launch.py       one run: start the test process, watch it, end it, read what it wrote
      environment.py  a venv for the interpreter, whose start-up file is the hook below
      processes.py    who belongs to a run, tracebacks from all of them, and their end
      verdict.py      what a run's events amount to; exceptions.toml; the one line
      table.py        the table in docs/compatibility.md
    ------------------------------------------------------------------------------------------
      startup.py      in every interpreter of a run: the traps, goproc in scripts that tests start
      __main__.py     the test process: chooses the tests, runs them, writes events
      suites.py       which installed test modules make up a suite
      standin.py      test.test_multiprocessing_<method>, where an installation lacks it
"""
