"""Programs and workers under limits of the system: they go on, or raise exceptions that can be caught."""

import os

import pytest


@pytest.mark.parametrize(
    "case", ["few_addresses", "hardly_any_addresses", "many_queues", "few_addresses_in_workers", "no_addresses_left"]
)
def test_address_space(run_script, method, case):
    # glibc may reserve 64 MB for a thread's allocations. Then the next thread of multiprocessing's pool cannot
    # start. That is a matter of chance, also with multiprocessing itself.
    assert run_script("limits.py", case, method, MALLOC_ARENA_MAX="1").stdout == "fine\n"


@pytest.mark.parametrize(
    "case",
    [
        "large_results_in_few_addresses",
        "large_arguments_in_few_addresses",
        "a_result_for_which_there_are_no_addresses",
    ],
)
def test_address_space_for_large_data(run_script, method, case):
    assert run_script("limits.py", case, method, MALLOC_ARENA_MAX="1").stdout == "fine\n"


@pytest.mark.parametrize("case", ["no_memory_for_results", "no_memory_for_the_results_of_callbacks"])
def test_no_result_is_lost_for_want_of_memory(run_script, method, case):
    assert run_script("limits.py", case, method).stdout == "fine\n"


def test_submit_until_there_is_no_memory(run_script, method):
    assert run_script("limits.py", "no_memory_to_submit", method).stdout == "fine\n"


def test_endless_queue(run_script):
    assert run_script("limits.py", "queue_without_end", "fork").stdout == "fine\n"


@pytest.mark.slow
def test_address_space_of_clones(run_script):
    assert run_script("limits.py", "few_addresses_in_replaced_workers", "fork").stdout == "fine\n"


def test_forked_children_have_nothing_of_the_engine(run_script):
    assert run_script("limits.py", "child_without_engine", "fork").stdout == "fine\n"


def test_signals_of_forked_children(run_script):
    assert run_script("limits.py", "signals_in_children", "fork").stdout == "fine\n"


@pytest.mark.skipif(os.getuid() != 0, reason="takes a user without processes")
@pytest.mark.parametrize("case", ["few_threads", "no_threads", "threads_used_up"])
def test_threads(run_script, method, case):
    assert run_script("limits.py", case, method).stdout == "fine\n"


def test_threads_refused(run_script, method):
    assert run_script("limits.py", "threads_refused", method).stdout == "fine\n"


@pytest.mark.skipif(os.getuid() != 0, reason="takes a user without processes")
@pytest.mark.parametrize("case", ["file_size", "soft_file_size", "file_size_later"])
def test_file_size(run_script, method, case):
    assert run_script("limits.py", case, method).stdout == "fine\n"


def test_descriptors(run_script, method):
    assert run_script("limits.py", "few_descriptors_later", method).stdout == "fine\n"


@pytest.mark.parametrize("limit", [28, 34, 40])
def test_few_descriptors(run_script, method, limit):
    assert run_script("limits.py", f"few_descriptors_{limit}", method).stdout == "fine\n"
