"""A program that closes descriptors that it has not opened: tests/scripts/closed_descriptors.py."""

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario", ["between_two", "after_a_process", "one_by_one", "pool_in_use", "orphans", "in_child", "in_worker"]
)
def test_closed_descriptors(run_script, scenario, method):
    assert "done" in run_script("closed_descriptors.py", scenario, method).stdout
