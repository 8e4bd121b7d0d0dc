"""Says why goproc cannot be used here: what this installation is, what this interpreter is, and what to do.

goproc/__init__.py and engine.py import this file when something is wrong, and only then.
"""

import os
import platform
import re
import sys
from _imp import extension_suffixes

from . import extension_path, folder

__all__ = ["explained", "missing", "refuse_import"]

#: The processors that a library can be for, by the number in its header.
_PROCESSORS = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64", 21: "ppc64le", 22: "s390x"}

#: The names of interpreters and systems, by what Python calls them.
_NAMES = {"cpython": "CPython", "pypy": "PyPy", "graalpy": "GraalPy", "darwin": "macOS", "win32": "Windows"}

_ELSE = "Use CPython 3.10 to 3.15 on Linux with glibc, or multiprocessing itself"


def refuse_import() -> None:
    """Raise the ImportError of `import goproc` for this interpreter.

    Return if _native can be found after all: a frozen program may have it elsewhere.
    """
    if sys.implementation.name != "cpython":
        raise _unsupported(f"its extensions are for CPython. {_ELSE}")
    if sys.platform != "linux":
        raise _unsupported(f"it is made of what Linux alone has, such as pidfds. {_ELSE}")
    if "t" in sys.abiflags:
        raise _unsupported(
            "this is a free-threaded build, and goproc's C code relies on the GIL: it would give wrong results. "
            f"Use the ordinary build, python{sys.version_info.major}.{sys.version_info.minor}"
        )
    if "-musl" in _suffix():
        raise _unsupported(f"Go's shared libraries do not load with musl. {_ELSE}")
    from importlib.util import find_spec

    if find_spec("goproc._native") is None:
        raise missing("_native")


def _unsupported(reason: str) -> ImportError:
    return ImportError(f"goproc (in {folder}) does not run on {_interpreter()}: {reason}", name="goproc")


def missing(name: str) -> ImportError:
    """Return the error for an extension that is not there for this interpreter."""
    entries = os.listdir(folder) if os.path.isdir(folder) else []
    others = sorted(entry for entry in entries if entry.startswith(f"{name}.") and entry.endswith((".so", ".pyd")))
    if others:
        has = f"is built for {', '.join(_built_for(entry) for entry in others)}"
    else:
        has = "has not been built: there are only its Python files"
    return ImportError(
        f"goproc in {folder} {has}, and this is {_interpreter()}: there is no {name}{_suffix()}. {_advice()}",
        name=f"goproc.{name}",
    )


def explained(name: str, error: ImportError) -> ImportError:
    """Return the error for an extension that exists, but could not be loaded because of the given error."""
    path = extension_path(name)
    if path is None:
        return missing(name)
    with open(path, "rb") as file:
        header = file.read(20)
    processor = int.from_bytes(header[18:20], "little")
    if not header.startswith(b"\x7fELF"):
        reason = f"it is no library, or a damaged one ({error})"
    elif _PROCESSORS.get(processor) != platform.machine():
        reason = f"it is built for the processor {_PROCESSORS.get(processor, processor)} ({error})"
    elif "too short" in str(error):
        reason = f"it is truncated ({error})"
    elif "GLIBC_" in str(error):
        reason = f"it needs a newer C library than this system has, {' '.join(platform.libc_ver())} ({error})"
    else:
        reason = str(error)
    return ImportError(
        f"goproc's extension {path} cannot be loaded: {reason}. This is {_interpreter()}. {_advice()}",
        name=f"goproc.{name}",
        path=path,
    )


def _interpreter() -> str:
    version = ".".join(str(number) for number in sys.version_info[:3])
    return f"{_name(sys.implementation.name)} {version} for {_system()} ({sys.executable})"


def _system() -> str:
    """Return the platform of this interpreter, such as x86_64-linux-gnu."""
    found = re.search(r"\.cpython-\w+-(\w+-linux-\w+)\.so$", _suffix())
    return found[1] if found and sys.platform == "linux" else _name(sys.platform)


def _name(word: str) -> str:
    return _NAMES.get(word, word)


def _suffix() -> str:
    """Return how the names of extensions for this interpreter end."""
    return (extension_suffixes() or [".so"])[0]


def _built_for(entry: str) -> str:
    """Return the version and the platform in a name such as _native.cpython-311-x86_64-linux-gnu.so."""
    found = re.match(r"_\w+\.(?:cpython-|cp)3(\d+)\w*-(.+)\.(?:so|pyd)$", entry)
    return f"CPython 3.{found[1]} for {found[2]}" if found else entry


def _advice() -> str:
    pip = f"{sys.executable} -m pip install --force-reinstall FILE"
    return (
        f"Install goproc with this interpreter: `{pip}`, where FILE is the wheel for it, or the folder of goproc's "
        "sources (there, `make build` builds the extensions in place)"
    )
