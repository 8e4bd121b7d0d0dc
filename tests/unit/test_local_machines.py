"""The processes of an address such as local:2x4, when they end."""

import subprocess
import sys

import pytest

distributed = pytest.importorskip("distributed", reason="goproc.cluster needs distributed")

#: A machine that says when its event loop has ended, and takes a while to remove its folder.
SLOW = """
import shutil, sys, time, types
from goproc._cluster import local_worker

def slow(*arguments, **options):
    print("its loop has ended", flush=True)
    time.sleep(0.5)
    shutil.rmtree(*arguments, **options)

local_worker.shutil = types.SimpleNamespace(rmtree=slow)  # Dask has the module itself
local_worker.main(sys.argv[1:])
"""


def _started(*arguments):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *map(str, arguments)], text=True, bufsize=1, **pipes)


@pytest.mark.slow
def test_the_main_program_ends_while_a_machine_ends(tmp_path):
    """The scheduler ends first, and its machines with it. That is no error."""
    with _started("-m", "goproc._cluster.local_worker", tmp_path / "s", "scheduler", 0) as scheduler:
        address = scheduler.stdout.readline()
        with _started("-c", SLOW, tmp_path / "m", "m", 1) as machine:
            machine.stdin.write(address)
            machine.stdin.flush()
            with distributed.Client(address.strip(), set_as_default=False) as client:
                client.wait_for_workers(1)
            scheduler.stdin.close()
            assert machine.stdout.readline() == "its loop has ended\n"
            machine.stdin.close()
            assert machine.stderr.read() == ""
            assert machine.wait(60) == 0
        assert scheduler.wait(60) == 0
