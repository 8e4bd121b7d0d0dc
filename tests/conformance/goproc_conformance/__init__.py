"""The conformance harness: CPython's own tests of multiprocessing, run on goproc.

No file of CPython is copied: the interpreter that runs the tests provides them. The modules are of two sides::

    tests/conformance/run.py                              what a person calls
      cli.py          options, the order of the runs, the verdict
      launch.py       one run: start the test process, watch it, end it, read what it wrote
      environment.py  a venv for the interpreter, whose start-up file is the hook below
      processes.py    the processes of a run: finds them, prints their tracebacks, ends them
      verdict.py      the verdict on a run's events; exceptions.toml; the line of the summary
      table.py        the table in docs/compatibility.md
    ------------------------------------------------------------------------------------------
      startup.py      in every interpreter of a run: the traps, goproc in scripts that tests start
      __main__.py     the test process: chooses the tests, runs them, writes events
      suites.py       finds the installed test modules of a suite
      standin.py      test.test_multiprocessing_<method>, where an installation lacks it
"""
