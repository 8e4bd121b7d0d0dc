"""How many CPUs this process can use: by its affinity, and by the CPU quotas of its control groups.

Pool() and ProcessPoolExecutor() without a number have as many workers. The quotas are read from the files of control
groups, version 1 and version 2, each time: they may be changed while a program runs. docs/design/cpu-quota.md says how
the files are found. Imported when a pool without a number is made.
"""

import os
from collections.abc import Iterator
from io import FileIO
from multiprocessing import util

from . import disabled, stdlib

__all__ = ["quota_of", "usable_cpu_count"]

#: The most groups that are searched for this process, when the names of the groups above it are not known.
_MOST_GROUPS = 10_000

_logged = (0, 0)  # what the log says: the quota, and the number of CPUs without it


def usable_cpu_count() -> int:
    """Return how many CPUs this process can use at the same time, at least 1. It is the default number of workers.

    That is the number of CPUs in the affinity mask of the calling thread (os.sched_getaffinity), or the CPU quota of
    the control groups of this process if that is lower, rounded up: 1.5 CPUs are 2. If -X cpu_count or PYTHON_CPU_COUNT
    sets a number, which Python 3.13 and newer obey, it is that number. If the program has replaced the function that
    multiprocessing's Pool calls (os.process_cpu_count, before Python 3.13 os.cpu_count), it is what that returns.
    multiprocessing.cpu_count() is another number: the CPUs of the machine.
    """
    count = getattr(os, "process_cpu_count", os.cpu_count)
    standard = count() or 1
    is_own = type(count) is type(len) or getattr(count, "__globals__", None) is vars(os)
    if "cpu-quota" in disabled or stdlib.configured_cpu_count() is not None or not is_own:
        return standard
    try:
        usable = min(standard, len(os.sched_getaffinity(0)))
    except OSError:  # a sandbox refuses the system call
        usable = standard
    quota = quota_of()
    if quota is None or quota >= usable:
        return usable
    global _logged
    if _logged != (quota, usable):
        _logged = quota, usable
        util.info(
            "the CPU quota of this process's control group is %d of the %d CPUs that it may run on", quota, usable
        )
    return quota


def quota_of(root: str = "") -> "int | None":
    """Return the lowest CPU quota of this process's control groups, in CPUs, rounded up; None if there is none.

    root: for tests: a folder in which the files are, as in the file system.
    """
    lowest: int | None = None
    for version, mount, above, groups in _mounts(root):
        for folder in _folders(root + mount, above, groups):
            cpus = _cpus(_quota(version, folder))
            if cpus is not None and (lowest is None or cpus < lowest):
                lowest = cpus
    return lowest


def _quota(version, folder):
    """Return the quota and the period of a group, as texts in a list."""
    if version == 2:
        return _read(f"{folder}/cpu.max").split()
    return [_read(f"{folder}/cpu.cfs_quota_us"), _read(f"{folder}/cpu.cfs_period_us")]


def _cpus(texts):
    """Return how many CPUs a quota is, rounded up, at least 1; None if there is no quota, or if it cannot be read."""
    try:
        quota, period = map(int, texts)
    except ValueError:
        return None  # "max", or no such file
    return max(1, -(-quota // period)) if quota > 0 and period > 0 else None


def _mounts(root) -> "Iterator[tuple[int, str, int, list[str]]]":
    """Yield each mount of a hierarchy with CPU quotas in which this process is:

    version     of the control groups, 1 or 2
    mount       the mount point
    above       how many groups, with unknown names, lie between the mount's root and the groups that follow
    groups      the names of the groups to this process's group
    """
    paths = {}
    for line in _read(f"{root}/proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[2] = path
        elif "cpu" in controllers.split(","):
            paths[1] = path
    found = {}
    for line in _read(f"{root}/proc/self/mountinfo").splitlines() if paths else ():
        if " - cgroup" not in line:
            continue
        fields, _, kind = line.partition(" - ")
        kind, _, options = kind.partition(" ")
        version = 2 if kind == "cgroup2" else 1 if "cpu" in options.rpartition(" ")[2].split(",") else 0
        parts = fields.split(" ")
        if version in paths and len(parts) > 4:
            found[_unescaped(parts[4])] = version, _unescaped(parts[3])  # a later mount covers one at the same place
    for mount, (version, top) in found.items():
        below = _below(top, paths[version])
        if below is not None:
            yield version, mount, *below


def _below(top, path):
    """Return where a group is below a mount's root: (above, groups) as in _mounts(); None if it is not below the root.

    top, path: of the mount's root and of the group, both relative to the root of this process's cgroup namespace. A
    path begins with /.. for each level that it is above that root.
    """
    top_up, top_names = _split(top)
    up, names = _split(path)
    if up == top_up and names[: len(top_names)] == top_names:
        return 0, names[len(top_names) :]
    if up < top_up and not top_names:
        return top_up - up, names
    return None


def _split(path):
    names = [name for name in path.split("/") if name]
    up = 0
    while up < len(names) and names[up] == "..":
        up += 1
    return up, names[up:]


def _folders(mount, above, groups):
    """Return the folders of this process's group and of the groups above it, up to the mount's root."""
    if above:
        # The names of the groups between are hidden by a cgroup namespace: look for the group that has this process.
        import glob
        import itertools

        pattern = "/".join([glob.escape(mount), *["*"] * above, *map(glob.escape, groups), "cgroup.procs"])
        for file in itertools.islice(glob.iglob(pattern), _MOST_GROUPS):
            if str(os.getpid()) in _read(file).split():
                groups = file[len(mount) + 1 :].split("/")[:-1]
                break
        else:
            groups = []  # the mount's root is above this process, in any case
    folders = [mount]
    for name in groups:
        folders.append(f"{folders[-1]}/{name}")
    return folders


def _unescaped(text):
    """Return a path of /proc/self/mountinfo, in which blanks and a few other characters are octal numbers."""
    if "\\" not in text:
        return text
    for character in " \t\n\\":
        text = text.replace(f"\\{ord(character):03o}", character)
    return text


def _read(path):
    """Return the text of a small file; "" if it cannot be read."""
    try:
        with FileIO(path) as file:
            return os.fsdecode(file.read() or b"").rstrip("\n")
    except OSError:
        return ""
