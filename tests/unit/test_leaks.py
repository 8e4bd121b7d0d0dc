"""Very many processes and pools in one program: it has the same resources afterwards as before."""

import json

import pytest

COUNTS = {"fork": (1500, 75), "forkserver": (200, 10), "spawn": (40, 3)}

#: The Go runtime keeps threads that were in a system call, and how many are at once is chance; malloc keeps memory.
THREADS, MAPPINGS, MEMORY = 8, 64, 20 << 20


@pytest.mark.slow
def test_nothing_leaks(run_script, method):
    before, after = json.loads(run_script("many.py", method, *COUNTS[method], timeout=110).stdout)
    for what in ("descriptors", "shared mappings", "children"):
        assert after[what] == before[what], what
    for what, more in {"threads": THREADS, "mappings": MAPPINGS, "memory": MEMORY}.items():
        assert after[what] <= before[what] + more, what
