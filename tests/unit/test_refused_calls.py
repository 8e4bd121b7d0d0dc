"""System calls that goproc makes and multiprocessing does not, refused: tests/scripts/refused.py."""

import pytest

CALLS = [
    "pidfd_open",
    "pidfd_send_signal",
    "waitid of a pidfd",
    "memfd_create",
    "fcntl F_SETSIG",
    "eventfd2",
    "epoll_create1",
    "close_range",
    "sched_getaffinity",
    "clone3",
    "prctl PR_GET_TID_ADDRESS",
    "fallocate",
]


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_refused_call(run_script, call, error, method):
    if call == "clone3" and error == "EPERM":
        return  # the C library takes that for a refusal of threads
    assert "done" in run_script("refused.py", call, error, method).stdout
