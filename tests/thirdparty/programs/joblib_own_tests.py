"""joblib's own tests of its backends, with goproc in the place of loky.

The tests are in joblib's wheel. They run in a folder of their own, with "goproc" in the place of "loky" in their text;
only those of the backend are chosen.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib

#: Tests that ask for something of loky's own, and why goproc does not do it.
EXCEPTIONS = {
    "test_nested_parallel_warnings and multiprocessing-True": "the text of a warning names loky; with goproc, a nested "
    "call may use the backend multiprocessing, and has no warning",
    "test_error_capture": "it compares loky's executors, in attributes that only joblib's backends have",
    "test_backend_context_manager": "it asks for the class LokyBackend",
    "test_parallel_with_interactively_defined_bound_method": "it asks for loky's processes in the log",
    "test_memmapping_leaks": "it looks for files with names in the temporary folder: goproc's have none",
    "test_multiple_generator_call_separated_gc and True": "with loky, another call breaks when a generator is given "
    "up; with goproc it goes on",
}

REGISTER = "import goproc.joblib\ngoproc.joblib.register()\n"


def main():
    source = (Path(joblib.__file__).parent / "test" / "test_parallel.py").read_text()
    source = re.sub(r"(def test_\w*)loky", r"\1goproc", source.replace('"loky"', '"goproc"'))
    chosen = "goproc and not (" + " or ".join(f"({name})" for name in EXCEPTIONS) + ")"
    with tempfile.TemporaryDirectory(prefix="gpj-") as folder:
        # Also for the programs that the tests start, and for loky's workers.
        Path(folder, "sitecustomize.py").write_text(REGISTER)
        Path(folder, "test_parallel.py").write_text(source)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", "-k", chosen]
        environment = {**os.environ, "PYTHONPATH": folder}
        environment.pop("GOPROC_STATS", None)  # some tests look at what a program prints
        # A test ends its manager while workers start that need it: they complain on stderr.
        done = subprocess.run([*command, "test_parallel.py"], cwd=folder, env=environment, stderr=subprocess.STDOUT)
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
