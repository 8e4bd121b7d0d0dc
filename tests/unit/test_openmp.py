"""OpenMP of GCC in programs that fork: its threads belong to the thread that has used it."""

import ctypes.util

import pytest

pytestmark = pytest.mark.skipif(not ctypes.util.find_library("gomp"), reason="GCC's OpenMP is not installed")

PROGRAM = """
import ctypes, ctypes.util, os, sys

gomp = ctypes.CDLL(ctypes.util.find_library("gomp"))


def region(number=0):
    gomp.GOMP_parallel(ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p), None, 2, 0)  # free(NULL) in two threads
    return number


class Model:  # as of LightGBM and XGBoost, which are read with OpenMP
    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return Model._read, (self.number,)

    @staticmethod
    def _read(number):
        return Model(region(number))


def train(number):
    return Model(region(number))


import goproc

goproc.set_start_method("fork")
"""


def run(run_script, code, **variables):
    return run_script("-c", PROGRAM + code, **variables).stdout.split()


def test_a_second_pool_after_results_that_were_unpickled_with_openmp(run_script):
    code = """
for _ in range(2):
    with goproc.Pool(2) as pool:
        print(sum(model.number for model in pool.map(train, range(4))))
"""
    assert run(run_script, code) == ["6", "6"]


def test_workers_that_are_replaced_while_the_program_uses_openmp(run_script):
    code = """
with goproc.Pool(1, maxtasksperchild=1) as pool:
    print(*(region(model.number) for model in pool.imap(train, range(3))))
"""
    assert run(run_script, code) == ["0", "1", "2"]


def test_a_process_that_inherits_the_threads_of_openmp_by_os_fork_can_start_processes(run_script):
    code = """
region()
pid = os.fork()
if not pid:
    process = goproc.Process(target=print, args=("started",))
    process.start()
    process.join()
    os._exit(process.exitcode)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert sorted(run(run_script, code)) == ["0", "started"]


def test_goproc_is_imported_after_os_fork(run_script):
    code = """
import os
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
import goproc
goproc.set_start_method("fork")
process = goproc.Process(target=print, args=("started",))
process.start()
process.join()
"""
    before = PROGRAM.partition("import goproc")[0]
    assert run_script("-c", before + "region()" + code).stdout.split() == ["started"]


def test_a_child_that_was_forked_in_a_parallel_region(run_script):
    code = """
begin = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def start(_):
    if gomp.omp_get_thread_num() == 0:
        process = goproc.Process(target=print, args=("started",))
        process.start()
        process.join()


callback = begin(start)
gomp.GOMP_parallel(callback, None, 2, 0)
"""
    done = run_script("-c", PROGRAM + "goproc.log_to_stderr('INFO')" + code)
    assert done.stdout.split() == ["started"]
    assert "threads of GCC's OpenMP could not be ended before a fork" in done.stderr
