"""The stub _native.pyi declares exactly the names that the C extension has."""

import ast
import inspect
from pathlib import Path

import pytest

from goproc import _native

STUB = Path(__file__).parents[2] / "python" / "goproc" / "_native.pyi"
DECLARED = {node.name: node for node in ast.parse(STUB.read_text()).body if hasattr(node, "name")}
CONSTANTS = {
    node.target.id
    for node in ast.parse(STUB.read_text()).body
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
}
CLASSES = [name for name, node in DECLARED.items() if isinstance(node, ast.ClassDef)]


def found(name):
    return type(_native.held_signals) if name == "HeldSignals" else getattr(_native, name)


def public(names):
    return {name for name in names if not name.startswith("__")}


def test_module():
    names = set(DECLARED) - {"HeldSignals"} | CONSTANTS
    assert public(dir(_native)) == names


@pytest.mark.parametrize("name", CLASSES)
def test_class(name):
    declared = {
        node.target.id if isinstance(node, ast.AnnAssign) else node.name
        for node in DECLARED[name].body
        if isinstance(node, (ast.AnnAssign, ast.FunctionDef))
    }
    assert public(dir(found(name))) == public(declared)


@pytest.mark.parametrize("name", CLASSES)
def test_arguments(name):
    for method in DECLARED[name].body:
        if not isinstance(method, ast.FunctionDef) or method.name.startswith("__") or method.decorator_list:
            continue
        there = inspect.signature(getattr(found(name), method.name))
        wanted = [argument.arg for argument in method.args.args if argument.arg != "self"]
        assert wanted == [name for name in there.parameters if name != "self"], method.name
