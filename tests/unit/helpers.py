"""What several unit tests share and is no fixture. It is not in conftest.py: tests/packaging has one, too."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from goproc._dump.record import Process

QUEUES = ["Queue", "JoinableQueue", "SimpleQueue"]
SCRIPTS = Path(__file__).parents[1] / "scripts"

# From Python 3.12 on forking warns about threads: goproc about Python's own, os.fork() about the engine's, too.
THREADS_ARE_MEANT = pytest.mark.filterwarnings("ignore:.*is multi-threaded:DeprecationWarning")


def wait_until(condition, seconds=60, instead=lambda: None):
    """Wait until the function returns something true. When the time is over, fail, and show what `instead` returns."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to pass: {instead()}"
        time.sleep(0.005)


def start(context, target, *args):
    """Start a process of a context, and return it."""
    process = context.Process(target=target, args=args)
    process.start()
    return process


def notes():
    """Return what the threads of this process have noted for dump that they wait for."""
    process = Process(os.getpid())
    try:
        return process.waits()
    finally:
        process.close()


def notes_of_main_thread():
    """Return the notes of this process's main thread."""
    return [note for note in notes() if note.thread == os.getpid()]


def in_own_mounts(script, *command, options=()):
    """Run a command in a namespace of mounts, which the script of the shell changes before. Only root can do that.

    options: further ones of unshare. Returns the completed process.
    """
    unshare = ["unshare", "--mount", *options]
    if subprocess.run([*unshare, "true"], capture_output=True, timeout=60).returncode:
        # The root of a chroot is no mount, which could be made private. So all mounts must be private already.
        assert " shared:" not in Path("/proc/self/mountinfo").read_text()
        unshare += ["--propagation", "unchanged"]
    command = [*unshare, "sh", "-c", f'{script} && exec "$@"', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=SCRIPTS)


def where_proc_hides(*command):
    """Run a command where /proc shows no processes of other users; return the completed process."""
    return in_own_mounts("mount -t proc -o hidepid=2 proc /proc", *command, options=["--pid", "--fork"])


class SharedMemoryFiles:
    """What comes into /dev/shm after this object was made. Other programs of the machine use that folder, too."""

    def __init__(self):
        self._before = set(os.listdir("/dev/shm"))

    def check(self, but=()):
        """Wait until none is left but those that other programs have mapped, or that have one of these prefixes."""
        new = {name for name in os.listdir("/dev/shm") if not name.startswith(but)} - self._before

        def left():
            mapped, inodes = _mapped_shared_memory(), {}
            for name in new.intersection(os.listdir("/dev/shm")):
                try:
                    inodes[name] = os.stat(f"/dev/shm/{name}").st_ino
                except FileNotFoundError:
                    pass  # it has been removed since
            return {name for name, inode in inodes.items() if inode not in mapped}

        wait_until(lambda: not left(), instead=left)


def _mapped_shared_memory():
    """The inodes of the files of /dev/shm that some process has mapped.

    Not the names: sem_open() maps a file with another name, which it then links to the semaphore's, and unlinks.
    """
    inodes = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            inodes.update(map(int, re.findall(r"(\d+) +/dev/shm/", maps.read_text())))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass
    return inodes
