"""The documentation is complete: links and anchors lead somewhere, each public name has an entry in the API reference.

`make docs` finds more, such as names that Sphinx cannot import. These tests need no Sphinx.
"""

import ast
import importlib
import os
import pkgutil
import re
from pathlib import Path

import pytest

import goproc

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
STUBS = Path(__file__).resolve().parents[2] / "python" / "goproc"
API = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))


def anchors(page):
    """Return the anchors of a page's headings, as a code host makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_and_anchors_exist(page):
    lost = []
    for target in re.findall(r"\]\(([^()\s]+)\)", CODE.sub("", page.read_text(encoding="utf-8"))):
        if re.match("[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = Path(os.path.normpath(page.parent / path)) if path else page
        if not file.exists() or anchor and anchor not in anchors(file):
            lost.append(target)
    assert lost == []


def test_each_page_is_in_the_table_of_contents():
    listed = {"index.md"}
    for index in (DOCS / "index.md", DOCS / "api" / "index.md"):
        for toctree in re.findall(r"```\{toctree\}\n(.*?)```", index.read_text(encoding="utf-8"), re.DOTALL):
            folder = index.parent.relative_to(DOCS)
            listed |= {str(folder / f"{name}.md") for name in re.findall(r"^[\w/-]+$", toctree, re.MULTILINE)}
    notes = re.findall(r"^\| \[[^]]+\]\(([\w-]+\.md)\)", (DOCS / "design" / "README.md").read_text(), re.MULTILINE)
    listed |= {f"design/{note}" for note in notes}
    assert {str(page.relative_to(DOCS)) for page in PAGES} == listed


# --- The API reference


def entries():
    """Return the names that the pages of docs/api have entries for."""
    found, module, outer = set(), "", ""
    directive = re.compile(r"^( *)\.\. (?:(py:)|auto)(\w+):: ([\w.]+)|^ {13}(\w+)$", re.MULTILINE)
    for indent, py, kind, name, another in directive.findall(API):
        if kind == "module":
            module = name
        elif indent:
            name = f"{outer}.{name}"
        elif py or another:
            name = f"{module}.{name or another}"
        found.add(name)
        if not indent:
            outer = name
    return found


def declared(stub):
    """Return the names of a stub that are public, and of its classes the methods that are."""
    names = set()
    for node in ast.parse((STUBS / stub).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module != "collections.abc":
            names |= {alias.asname for alias in node.names if alias.asname}
        elif isinstance(node, ast.AnnAssign):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets}
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names.add(node.name)
            if isinstance(node, ast.ClassDef) and node.name not in ("ThreadPool", "MapResult"):  # as their bases
                names |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return {name for name in names if not re.search(r"(^|\.)_", name) or name == "__version__"}


MODULES = [module.name for module in pkgutil.iter_modules(goproc.__path__) if not module.name.startswith("_")]


def test_each_name_of_the_package_has_an_entry():
    names = set(goproc.__all__) | declared("__init__.pyi") - set(MODULES) | {"__version__"}
    errors = set(importlib.import_module("goproc.errors").__all__)
    assert {f"goproc.{name}" for name in names - errors} <= entries()


@pytest.mark.parametrize("module", ["pool", "futures", "context"])
def test_each_name_of_a_stub_has_an_entry(module):
    assert {f"goproc.{module}.{name}" for name in declared(f"{module}.pyi")} <= entries()


@pytest.mark.parametrize("name", MODULES)
def test_each_module_has_an_entry(name):
    module = importlib.import_module(f"goproc.{name}")
    if name == "install":  # the function of this name stands for it
        assert module.__all__ == ["install"]
        return
    found = entries()
    assert f"goproc.{name}" in found
    if module.__name__ == f"goproc.{name}":  # not the standard library's own
        assert {f"goproc.{name}.{public}" for public in module.__all__} <= found
