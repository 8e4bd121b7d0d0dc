"""The venv in which a run's interpreters live.

Its site-packages contain only one .pth file, which names the folder of the goproc under test and the folder of this
package, and imports startup.py. This is the only way to give the run's hooks to every interpreter that a test starts,
also with ``-I``.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

HARNESS = Path(__file__).resolve().parents[1]  # tests/conformance
PTH_FILE = "goproc_conformance.pth"

_DESCRIBE = (
    "import importlib.util, json, os, platform, sys; spec = importlib.util.find_spec('goproc'); print(json.dumps({"
    "'version': platform.python_version(),"
    "'executable': sys.executable,"
    "'goproc': spec and os.path.dirname(os.path.dirname(spec.origin))}))"
)


class EnvironmentFailed(Exception):
    """The interpreter cannot be run or cannot make a venv; the text is what it said."""


def describe(python):
    """The interpreter's version, executable, and the folder of its goproc, if any. Raises EnvironmentFailed."""
    try:
        done = subprocess.run(
            [python, "-I", "-c", _DESCRIBE],
            check=False, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        raise EnvironmentFailed(f"{python}: {error.strerror}") from error
    if done.returncode:
        raise EnvironmentFailed(f"{python}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return json.loads(done.stdout)


def venv_for(python, about, source, build):
    """Make (or find) the venv for an interpreter.

    Arguments: python, its command; about, what describe() says of it; source, the folder that holds the goproc to
    test; build, where venvs are kept. Returns the venv's python. Raises EnvironmentFailed.
    """
    key = hashlib.sha256(f"{about['executable']}\n{source}".encode()).hexdigest()[:8]
    folder = build / f"venv-{about['version']}-{key}"
    lines = f"{source}\n{HARNESS}\nimport goproc_conformance.startup\n"
    build.mkdir(parents=True, exist_ok=True)
    with _locked(build / "venv.lock"):
        inside = folder / "bin" / "python"
        made = list(folder.glob(f"lib/*/site-packages/{PTH_FILE}"))
        if not (inside.exists() and made and made[0].read_text() == lines):
            shutil.rmtree(folder, ignore_errors=True)
            done = subprocess.run(
                [python, "-m", "venv", "--without-pip", str(folder)],
                check=False, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            if done.returncode:
                said = (done.stderr or done.stdout).strip()
                raise EnvironmentFailed(f"{python} -m venv failed: {said}")
            packages = next(folder.glob("lib/python*/site-packages"))
            (packages / PTH_FILE).write_text(lines)
    return str(inside)


@contextlib.contextmanager
def _locked(path):
    """Hold a lock file: two runs at once must not make the same venv."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
