"""Signatures of the API reference from the stubs, and docstrings as reStructuredText.

The types of goproc.pool, goproc.context and goproc itself are in their .pyi files, which autodoc does not read. `make
lint` compares those files with the code, so both agree. Overloads become one signature.

The docstrings are plain text. Here `code` becomes ``code``, an indented block stays as it is, names of arguments are
set as code, and no character is markup.
"""

import ast
import inspect
import re
from pathlib import Path

import goproc

PACKAGE = Path(goproc.__file__).parent
#: Where the names of the stubs are documented.
_QUALIFIED = {
    "Callable": "~collections.abc.Callable",
    "Iterable": "~collections.abc.Iterable",
    "Mapping": "~collections.abc.Mapping",
    "Any": "~typing.Any",
    "Literal": "~typing.Literal",
    "os.PathLike": "~os.PathLike",
    "_Pool": "~goproc.pool.Pool",
    "AsyncResult": "~goproc.pool.ApplyResult",
    "_ErrorCallback": "~collections.abc.Callable[[BaseException], object] | None",
    "_Progress": "bool | str | ~collections.abc.Callable[[int, int | None], object] | None",
    "_IMapIterator": "~goproc.pool.IMapIterator",
}
_QUALIFIED["_Abandoned"] = "~typing.Literal['raise', 'take', 'keep']"
for _name in "Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier":
    _QUALIFIED[f"_synchronize.{_name}"] = _QUALIFIED[f"_standard_locks.{_name}"] = f"~goproc.synchronize.{_name}"
_POOL = {"Pool", "MapResult", "IMapIterator", "IMapUnorderedIterator"}
_CONTEXT = {"BaseContext", "ForkContext", "SpawnContext", "ForkServerContext"}


def setup(app):
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-bases", bases)
    return {"parallel_read_safe": True}


# --- Signatures


def signature(app, what, name, obj, options, args, returns):
    """Return the stub's signature of an object, or None where there is no stub of it."""
    found = in_stub(name)
    if found is None:
        return None
    if isinstance(found, ast.ClassDef):
        found = methods(found, "__init__", None)
        # Objects of the other classes are made by goproc only.
        return ("(%s)" % arguments(found), None) if found else ("", None)
    return "(%s)" % arguments(found), union([function.returns for function in found])


def stub(module):
    """Return the syntax tree of a module's stub, or None."""
    path = PACKAGE / ("__init__.pyi" if module == "goproc" else module.removeprefix("goproc.") + ".pyi")
    return ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else None


def in_stub(name):
    """Return what a stub has for a name: a class, or a list of functions with the same name. None for nothing."""
    parts = name.split(".")
    module = ".".join(parts[:2]) if len(parts) > 2 else parts[0]
    tree = stub(module)
    if tree is None:
        return None
    first, *more = parts[2:] if len(parts) > 2 else parts[1:]
    found = named(tree.body, first)
    if found and isinstance(found[0], ast.ClassDef):
        return methods(found[0], more[0], tree) if more else found[0]
    if found and isinstance(found[0], ast.FunctionDef):
        return found
    if module == "goproc":  # a method of the default context
        tree = stub("goproc.context")
        return methods(named(tree.body, "DefaultContext")[0], first, tree)
    return None


def named(body, name):
    return [node for node in body if getattr(node, "name", None) == name]


def methods(cls, name, tree):
    """Return the functions of a class with a name, or those of its bases in the same stub, or None."""
    if found := [node for node in named(cls.body, name) if isinstance(node, ast.FunctionDef)]:
        return found
    for base in cls.bases if tree else ():
        for parent in named(tree.body, ast.unparse(base)):
            if found := methods(parent, name, tree):
                return found
    return None


def arguments(functions):
    """Return the arguments of a function, or of all its overloads in one."""
    last = functions[-1].args
    parts, positional = [], last.posonlyargs + last.args
    defaults = dict(zip([one.arg for one in positional][::-1], last.defaults[::-1], strict=False))
    for one in positional:
        if one.arg != "self":
            parts.append(argument(one.arg, functions, defaults.get(one.arg)))
            if last.posonlyargs and one is last.posonlyargs[-1]:
                parts.append("/")
    if last.kwonlyargs:
        parts.append("*")
        parts += [argument(one.arg, functions) for one in last.kwonlyargs]
    return ", ".join(parts)


def argument(name, functions, default=None):
    """Return an argument with what any of the overloads says of it."""
    annotations = []
    for function in functions:
        every = function.args.posonlyargs + function.args.args
        values = [None] * (len(every) - len(function.args.defaults)) + function.args.defaults
        every, values = every + function.args.kwonlyargs, values + function.args.kw_defaults
        for one, value in zip(every, values, strict=True):
            if one.arg == name:
                annotations.append(one.annotation)
                default = default or value
    text = f"{name}: {union(annotations)}"
    return f"{text} = {ast.unparse(default)}" if default else text


def union(annotations):
    """Return the types as one text, without those that another includes."""
    texts = list(dict.fromkeys(text for each in annotations if each is not None for text in alternatives(each)))
    if len(annotations) > 1:
        texts = [text for text in texts if not text.startswith("Literal[")]
        texts = [text for text in texts if text != "None"] + ["None"] * ("None" in texts)
    return " | ".join(map(qualified, texts))


def alternatives(annotation):
    """Return the types of a union, one by one."""
    if isinstance(annotation, ast.BinOp):
        return alternatives(annotation.left) + alternatives(annotation.right)
    return [ast.unparse(annotation)]


def qualified(text):
    """Return a type with the names under which it is documented."""

    def replace(match):
        name = match[0]
        if name in _QUALIFIED:
            return _QUALIFIED[name]
        if name in _POOL:
            return f"~goproc.pool.{name}"
        if name in _CONTEXT:
            return f"~goproc.context.{name}"
        return name.removeprefix("_") if re.fullmatch("_[A-Z]", name) else name

    return re.sub(r"[\w.]+", replace, text)


def bases(app, name, obj, options, found):
    """Leave out bases that only share code."""
    found[:] = [base for base in found if not base.__module__.startswith("goproc._")]


# --- Docstrings


def docstring(app, what, name, obj, options, lines):
    """Make reStructuredText of the lines of a docstring, and link to the standard library's own documentation."""
    names = parameters(obj)
    made, code = [], False
    for line in lines:
        if line.startswith("    "):
            if not code:
                made += ["::", ""]
            code = True
            made.append(line)
        else:
            code = code and not line
            made.append(line if not line else escaped(line, names))
    lines[:] = made
    parts = name.split(".")
    if len(parts) == 2 and getattr(obj, "__module__", "").startswith("multiprocessing") and parts[1] in documented(app):
        lines += ["", f"See :py:obj:`{documented(app)[parts[1]]}`.", ""]


def documented(app):
    """Return the names of the list python.inv, by their last part."""
    lines = (Path(app.srcdir) / "python.inv").read_text(encoding="utf-8").splitlines()[3:]
    names = [line.split()[0] for line in lines]
    return {name.rpartition(".")[2]: name for name in names if name.startswith("multiprocessing.")}


def parameters(obj):
    """Return the names of the arguments of an object, and of the attributes that a class declares."""
    names = set()
    try:
        names.update(inspect.signature(obj).parameters)
        names.update(re.findall(r"self\.(\w+): ", inspect.getsource(obj)))
    except (OSError, TypeError, ValueError):
        pass  # not written in Python
    return names


#: What is code in prose: `code`, arguments before a colon, exceptions, calls; and characters that are markup.
_CODE = re.compile(
    r"`+(?P<code>[^`]*)`+|(?<![\w.])(?P<arguments>\w+(?:, \w+)*)(?=:(?: |$))|(?<![\w.])(?P<name>[\w.]*[A-Z]\w*Error)\b"
    r"|(?<![\w.])(?P<call>[\w.]+\((?:\*args, \*\*kwds)?\))(?!\w)|(?P<markup>[*|\\]|_\b)"
)


def escaped(line, names):
    """Return a line of prose as reStructuredText in which only code is marked up."""

    def replace(match):
        words = match["arguments"].split(", ") if match["arguments"] else []
        if match["markup"]:
            return "\\" + match[0]
        if words:
            return ", ".join(f"``{word}``" for word in words) if names.issuperset(words) else match[0]
        return f"``{match['code'] or match[0]}``"

    return _CODE.sub(replace, line)
