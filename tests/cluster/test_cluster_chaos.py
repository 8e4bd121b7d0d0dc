"""A short round of chaos on machines in network namespaces; and nothing is left of a round that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import spaces

HERE = Path(__file__).parent
RUN = HERE / "run.py"

pytest.importorskip("distributed", reason="distributed is not installed")
needs_namespaces = pytest.mark.skipif(bool(reason := spaces.why_not()), reason=reason)


@pytest.mark.slow
@needs_namespaces
def test_hosts_lose_each_other_when_a_link_is_cut(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import json, subprocess, spaces\n"
        "spaces.make_hub()\n"
        "one, two = spaces.Host(2), spaces.Host(3)\n"
        "code = ('import socket, sys; s = socket.create_server((sys.argv[1], 9)); print(1, flush=True); '\n"
        "        's.accept(); s.accept()')\n"
        "server = two.start(['python3', '-c', code, two.address], stdout=subprocess.PIPE)\n"
        "server.stdout.readline()\n"
        "code = 'import socket, sys; socket.create_connection((sys.argv[1], 9), 0.5)'\n"
        "said = []\n"
        "for change in (lambda: None, two.cut, two.heal):\n"
        "    change()\n"
        "    said.append(one.start(['python3', '-c', code, two.address], stderr=subprocess.DEVNULL).wait())\n"
        "one.power_off(); two.power_off()\n"
        "print(json.dumps([said, server.wait(), list(two.processes())]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    with spaces.enter([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as inside:
        said, status, left = json.loads(inside.stdout.read())
    assert said == [0, 1, 0] and status in (0, -signal.SIGKILL) and left == []
    assert inside.returncode == 0


@pytest.mark.slow
@needs_namespaces
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", ["3", "4"])
def test_a_short_round(seed):
    command = [sys.executable, RUN, "--tasks", "4000", "--seed", seed, "--limit", "240"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    assert "chaos-cluster: all accounted for" in done.stdout


@pytest.mark.slow
@needs_namespaces
def test_nothing_is_left_of_a_round_that_is_killed():
    command = [sys.executable, RUN, "--tasks", "100000"]
    mark = f"GOPROC_ROUND={os.getpid()}"
    environment = {**os.environ, "GOPROC_ROUND": str(os.getpid())}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        run.stderr.readline()  # of the first misfortune: all is running
        assert len(marked(mark)) > 5
        run.kill()
        run.stderr.read()  # to its end: nobody holds it any more
    deadline = time.monotonic() + 20
    while left := marked(mark):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.02)


def marked(mark):
    """Return {pid: command line} of the processes with a variable in their environment."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                if mark.encode() in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    found[int(entry)] = Path(f"/proc/{entry}/cmdline").read_text().replace("\0", " ")
            except OSError:
                pass
    return found
