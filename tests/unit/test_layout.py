"""The files of the product: there is no import cycle in the package, and no file is too long."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "python" / "goproc"
LONGEST = 450

FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = {
    path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for path in FILES
}
MODULES = set(NAMES.values())
GO_AND_C = [
    path
    for folder in ("capi", "core", "pybind")
    for path in sorted((ROOT / folder).rglob("*.*"))
    if path.suffix in {".go", ".c", ".h"} and not path.name.endswith("_test.go")
]


def imported_by(path):
    """Return the modules of the package that a file imports, in functions as well; the package itself does not count:
    it is imported before any of them."""
    package = NAMES[path] if path.name == "__init__.py" else NAMES[path].rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.rsplit(".", node.level - 1)[0]
                base = f"{parent}.{base}" if base else parent
            for alias in node.names:
                found.add(f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base)
    return (found & MODULES) - {"goproc", NAMES[path]}


def test_no_circle():
    left = {NAMES[path]: imported_by(path) for path in FILES}
    while free := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in free:
            del left[name]
    assert not left, "these files import each other in a circle, or what does"


def test_go_and_c_are_there():
    assert {path.relative_to(ROOT).parts[0] for path in GO_AND_C} == {"capi", "core", "pybind"}


@pytest.mark.parametrize("path", FILES + GO_AND_C, ids=lambda path: str(path.relative_to(ROOT)))
def test_length(path):
    assert len(path.read_text().splitlines()) <= LONGEST
