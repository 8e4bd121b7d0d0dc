"""Describes the machine, the interpreter and the libraries of the figures."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path


def describe() -> dict[str, str]:
    """Return the properties of this machine and interpreter, by name, in the order in which they are shown."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": f"{_cpu_model()}, {platform.machine()}",
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "C library": " ".join(platform.libc_ver()),
    }


def versions(libraries) -> dict[str, str]:
    """Return the versions of those libraries that are installed."""
    found = {}
    for library in libraries:
        if library.partition(".")[0] in sys.stdlib_module_names:
            found[library] = platform.python_version()
            continue
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:  # it may be importable without being installed
            try:
                found[library] = getattr(__import__(library), "__version__", "?")
            except ImportError:
                pass
    return found


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "processor unknown"
