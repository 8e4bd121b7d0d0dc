"""Processes started by fork, in programs of their own: without an engine, and with one that is loaded later."""

import pytest

FORKS_ONLY = [
    "exit_codes",
    "signals",
    "joining",
    "children",
    "given_back",
    "given_up_while_it_runs",
    "stolen_status",
    "children_ignored",
    "no_descriptors",
    "stats",
    "nested",
    "the_parents_end",
    "daemons_of_threads",
    "forked_by_the_user",
    pytest.param("very_many", marks=pytest.mark.slow),
]

ENGINE_LATER = [
    "by_a_pool",
    "by_a_spawned_process",
    "while_a_thread_joins",
    "while_threads_fork",
    "children_of_a_parent_with_one",
    "by_a_thread_that_forks",
    pytest.param("when_no_seat_is_left", marks=pytest.mark.slow),
]

# From Python 3.12 on forking warns about threads, which are meant here.
THREADS_ARE_MEANT = ["-W", "ignore:.*is multi-threaded:DeprecationWarning"]


@pytest.mark.parametrize("scenario", FORKS_ONLY)
def test_without_an_engine(run_script, scenario):
    run_script("forks_only.py", scenario, options=THREADS_ARE_MEANT)


@pytest.mark.parametrize("scenario", ENGINE_LATER)
def test_the_engine_is_loaded_later(run_script, scenario):
    run_script("engine_later.py", scenario, options=THREADS_ARE_MEANT)


def test_the_line_of_statistics(run_script):
    code = """
import goproc
process = goproc.get_context("fork").Process()
process.start()
process.join()
assert not goproc._common.engine.is_loaded()
"""
    line = "goproc: processes started: fork 1, spawn 0, forkserver 0; tasks done: 0; workers lost: 0\n"
    assert run_script("-c", code, GOPROC_STATS="1").stderr == line
