"""The private names of the standard library: goproc uses them in one file only, and this Python has all of them."""

import ast
import importlib
import sys
from pathlib import Path

import pytest

from goproc._common import stdlib

PACKAGE = Path(__file__).parents[2] / "python" / "goproc"
THE_FILE = PACKAGE / "_common" / "stdlib.py"

#: Modules of C that hold the functions of a public module, without what that imports. Their names are public there.
OF_C = {"_frozen_importlib", "_frozen_importlib_external", "_imp", "_json", "_pickle", "_signal", "_socket", "_weakref"}

#: goproc's own contexts, results and pools have attributes of multiprocessing's names.
OWN = {"_actual_context", "_bootstrap", "_concrete_contexts", "_default_context", "_Popen", "_after_fork"}

#: Names that classes of goproc's, which derive from the standard library's, have as well.
ALSO_OURS = {"_fd", "_pid", "_lock", "_send", "_stop", "_launch", "_send_signal"}

PRIVATE = {part for names in stdlib.NAMES.values() for name in names for part in name.partition(":")[0].split(".")}
PRIVATE = {name for name in PRIVATE if name.startswith("_")} - OWN


def is_there(versions):
    """Whether a name is to be there that stands for some versions only: "3.13", or "<3.13"."""
    if not versions:
        return True
    before = versions.startswith("<")
    wanted = tuple(map(int, versions.lstrip("<").split(".")))
    return (sys.version_info[: len(wanted)] >= wanted) != before


@pytest.mark.parametrize("module", stdlib.NAMES)
def test_they_are_there(module):
    gone = []
    for name in stdlib.NAMES[module]:
        path, _, versions = name.partition(":")
        if not is_there(versions):
            continue
        found = importlib.import_module(module)
        try:
            for part in path.split("."):
                found = getattr(found, part)
        except AttributeError:
            gone.append(path)
    assert not gone, f"Python {sys.version.split()[0]} has no longer these names in {module}"


@pytest.mark.parametrize("name", sorted(OF_C))
def test_modules_of_c_are_there(name):
    importlib.import_module(name)


@pytest.mark.parametrize(
    "path", [p for p in sorted(PACKAGE.rglob("*.py")) if p != THE_FILE], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_other_file_touches_them(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in PRIVATE - ALSO_OURS, f"line {node.lineno}"
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module != "__future__":
            assert node.module.partition(".")[0] in OF_C or not node.module.startswith("_"), f"line {node.lineno}"
            if not node.module.startswith(("goproc", "gevent", "joblib", "cloudpickle")):
                assert not [alias.name for alias in node.names if alias.name.startswith("_")], f"line {node.lineno}"
