"""Tells whether a main module is inert: whether no child notices that the fork server has imported it once for all.

Until Python 3.13.7 each child of multiprocessing's fork server imports the main module, and later each child does if
the program is run with -m. Such children have random numbers, open files, threads and process ids of their own. An
import that only defines functions, classes and constants has no such effects, and is most of the time of a start. So
the server reads the source. It imports the module if all that the import does is on the lists below. Otherwise each
child imports the module. docs/design/prefork.md. Used by forkserver.py.
"""

import _ast
import builtins
import os
import sys
import warnings
from _frozen_importlib_external import PathFinder
from io import open_code

__all__ = ["reason_to_import_anew"]

#: The most files that are read.
_MOST_FILES = 40

#: What may be called in an expression: it makes an object, which depends on its arguments only.
_MAKES = frozenset(
    "collections.namedtuple dataclasses.field enum.auto functools.partial logging.getLogger re.compile typing.NewType "
    "typing.TypeVar bytes dict float frozenset int list range set str tuple".split()
)

#: What may be a decorator, and a decorator with constant arguments.
_DECORATES = frozenset(
    "abc.abstractmethod contextlib.contextmanager dataclasses.dataclass functools.cache functools.cached_property "
    "functools.lru_cache functools.wraps typing.final typing.overload classmethod property staticmethod".split()
)
_DECORATES_WITH = frozenset({"dataclasses.dataclass", "functools.lru_cache"})

#: Of the module sys, whose other attributes children may have other values of.
_OF_SYS = frozenset({"sys.byteorder", "sys.maxsize", "sys.platform", "sys.version_info"})

#: What children may have in another form, besides attributes of sys; and a flag that makes re.compile() print.
_CHANGING = frozenset({"sys", "os.environ", "os.environb", "re.DEBUG"})

#: What may be imported by name from sys.
_FROM_SYS = _OF_SYS | {"sys.exit", "sys.getsizeof", "sys.intern"}

#: Modules of the standard library whose import does something that can be seen.
_NOISY = frozenset({"antigravity", "idlelib", "readline", "test", "this", "tkinter", "turtle", "turtledemo"})

#: Methods that Python calls when a class, or a member of an Enum, is made, and functions that it calls at an import.
_CALLED = frozenset("__class_getitem__ __dir__ __getattr__ __init_subclass__ __mro_entries__ __prepare__".split())
_CALLED |= {"__set_name__", "_generate_next_value_", "_ignore_", "_missing_"}

#: Names with underscores that may be assigned.
_ASSIGNED = frozenset("__all__ __author__ __copyright__ __email__ __license__ __slots__ __version__".split())

#: Marks the full names of what is imported from modules of the program's own.
_OWN = "?"

_STANDARD = os.path.dirname(os.__file__) + os.sep
_INSTALLED = ("site-packages", "dist-packages")


def reason_to_import_anew(path: "str | None", name: "str | None") -> "str | None":
    """Return where the import of a main module may do something that children would notice; None if it does nothing.

    path: of the script; or name: that of the module.
    """
    reader = _Reader()
    try:
        if path is not None:
            reader.read(path, "")
        elif name is not None:
            reader.imports(name)
    except _Noticed as noticed:
        return str(noticed)
    except Exception as error:  # a file cannot be read, or a finder of the program raises
        return f"{type(error).__name__}: {error}"
    return None


class _Noticed(Exception):
    """The import does something that is not on the lists. The text says where."""


class _Reader:
    """Reads a main module and the program's own modules that it imports."""

    def __init__(self):
        self._read = set()

    def read(self, path, package):
        """Check a file. package: the name of its package, for relative imports."""
        if path in self._read:
            return
        if len(self._read) == _MOST_FILES:
            raise _Noticed(f"it imports more than {_MOST_FILES} of the program's files")
        self._read.add(path)
        with open_code(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the import warns
            tree = compile(file.read(), path, "exec", _ast.PyCF_ONLY_AST, dont_inherit=True)
        _Checker(self, path, package).statements(tree.body)

    def imports(self, name):
        """Check the import of a module, and of the packages that it is in. Return whether it is the program's own."""
        package, spec = "", None
        for part in name.split("."):
            full = f"{package}.{part}" if package else part
            if spec is not None and not spec.submodule_search_locations:
                return True  # an attribute of a module
            spec = PathFinder.find_spec(full, spec.submodule_search_locations if spec is not None else None)
            if not package and (part == "goproc" or part in sys.builtin_module_names):
                return False
            if spec is None or not spec.origin:
                raise _Noticed(f"module {name!r} is not found as a file")
            if spec.origin.startswith(_STANDARD) and not any(folder in spec.origin for folder in _INSTALLED):
                if full in _NOISY:
                    raise _Noticed(f"module {full!r}")
                return False
            if not spec.origin.endswith(".py") or any(folder in spec.origin for folder in _INSTALLED):
                raise _Noticed(f"module {full!r} is not the program's own")
            self.read(spec.origin, full if spec.submodule_search_locations else package)
            package = full
        return True

    def is_module(self, name):
        """Whether a name in a package of the program's is that of a module."""
        package, _, last = name.rpartition(".")
        spec = PathFinder.find_spec(package.partition(".")[0])
        for part in package.split(".")[1:]:
            if spec is None:
                return False
            spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
        locations = spec.submodule_search_locations if spec is not None else None
        return bool(locations) and PathFinder.find_spec(f"{package}.{last}", locations) is not None


class _Checker:
    """Checks the statements of one file. Raises _Noticed."""

    def __init__(self, reader, path, package):
        self._reader = reader
        self._path = path
        self._package = package
        self._plain = set()  # names of classes that are no Enum
        self._origins = {}  # by name: the full name of what was imported; None if the file itself defines it

    def _refuse(self, node):
        raise _Noticed(f"{os.path.basename(self._path)}, line {node.lineno}")

    def statements(self, nodes, in_class=False):
        for node in nodes:
            check = getattr(self, "_" + type(node).__name__, None)
            if check is None:
                return self._refuse(node)
            check(node, in_class)

    def _Expr(self, node, in_class):
        is_install = type(node.value) is _ast.Call and self._origin(node.value.func) == "goproc.install"
        if is_install:  # the server has done that already
            self._values([*node.value.args, *(keyword.value for keyword in node.value.keywords)])
        elif type(node.value) is not _ast.Constant:
            self._refuse(node)

    def _Pass(self, node, in_class):
        pass

    def _Import(self, node, in_class):
        for alias in node.names:
            own = _OWN if self._reader.imports(alias.name) else ""
            first = alias.name.partition(".")[0]
            self._bind(alias.asname or first, own + (alias.name if alias.asname else first))

    def _ImportFrom(self, node, in_class):
        module = node.module or ""
        if node.level:
            parts = self._package.split(".")
            if not self._package or node.level > len(parts):
                self._refuse(node)
            module = ".".join([*parts[: len(parts) - node.level + 1], *([module] if module else [])])
        own = _OWN if self._reader.imports(module) else ""
        for alias in node.names:
            full = f"{module}.{alias.name}"
            if alias.name == "*" or module == "sys" and full not in _FROM_SYS:
                self._refuse(node)
            if self._reader.is_module(full):
                self._reader.imports(full)
            self._bind(alias.asname or alias.name, own + full)

    def _bind(self, name, origin):
        """Note what a name refers to. If it is bound twice, in branches, say, what it refers to is not known."""
        known = self._origins.get(name, origin)
        self._origins[name] = origin if known == origin else None

    def _FunctionDef(self, node, in_class):
        if node.name in _CALLED:
            self._refuse(node)
        self._decorators(node)
        arguments = node.args
        self._values([*arguments.defaults, *filter(None, arguments.kw_defaults)])
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        self._values(filter(None, [node.returns, *(argument.annotation for argument in every if argument)]))
        self._bind(node.name, None)

    _AsyncFunctionDef = _FunctionDef

    def _ClassDef(self, node, in_class):
        origins = [self._origin(base) or _OWN for base in node.bases]
        plain = [getattr(base, "id", None) in self._plain for base in node.bases]
        unknown = any(origin.startswith(_OWN) and not known for origin, known in zip(origins, plain, strict=True))
        makes_members = any(origin.startswith("enum.") for origin in origins)
        has_functions = any(type(statement) in (_ast.FunctionDef, _ast.AsyncFunctionDef) for statement in node.body)
        # One of several bases may be an Enum, which calls methods of the others when it makes its members.
        mixed = len(origins) > 1 and (unknown or makes_members and any(plain))
        if node.keywords or mixed or makes_members and has_functions:
            self._refuse(node)
        self._decorators(node)
        self._values(node.bases)
        self.statements(node.body, in_class=True)
        if not unknown and not makes_members and node.name not in self._origins:
            self._plain.add(node.name)
        self._bind(node.name, None)

    def _Assign(self, node, in_class):
        for target in node.targets:
            self._target(target)
        self._value(node.value)

    def _AnnAssign(self, node, in_class):
        self._target(node.target)
        self._values(filter(None, [node.annotation, node.value]))

    def _If(self, node, in_class):
        self._value(node.test)
        if not _is_main_guard(node.test):
            self.statements(node.body, in_class)
        self.statements(node.orelse, in_class)

    def _Try(self, node, in_class):
        self._values(filter(None, (handler.type for handler in node.handlers)))
        for part in (node.body, node.orelse, node.finalbody, *(handler.body for handler in node.handlers)):
            self.statements(part, in_class)

    def _target(self, node):
        if type(node) is _ast.Tuple:
            for element in node.elts:
                self._target(element)
        elif type(node) is _ast.Name and (node.id in _ASSIGNED or not node.id.startswith("_") or node.id[1:2] != "_"):
            if node.id in _CALLED:
                self._refuse(node)
            self._bind(node.id, None)
        else:
            self._refuse(node)

    def _decorators(self, node):
        for decorator in node.decorator_list:
            if type(decorator) is _ast.Call:
                arguments = [*decorator.args, *(keyword.value for keyword in decorator.keywords)]
                known = self._origin(decorator.func) in _DECORATES_WITH
                known = known and all(type(argument) is _ast.Constant for argument in arguments)
            elif type(decorator) is _ast.Attribute and decorator.attr in ("setter", "getter", "deleter"):
                known = type(decorator.value) is _ast.Name and self._origins.get(decorator.value.id, _OWN) is None
            else:
                known = self._origin(decorator) in _DECORATES
            if not known or _is_class_property(node):
                self._refuse(decorator)

    def _values(self, nodes):
        for node in nodes:
            self._value(node)

    def _value(self, node):
        """Check an expression: it must be the same, and do nothing, whichever process evaluates it."""
        kind = type(node)
        if kind in (_ast.Name, _ast.Attribute):
            origin = self._origin(node) or ""
            # An attribute of the program's own may be computed.
            if kind is _ast.Attribute and (not origin or origin.startswith(_OWN)):
                self._refuse(node)
            if origin in _CHANGING or origin.startswith("sys.") and origin not in _OF_SYS:
                self._refuse(node)
        elif kind is _ast.Call:
            if self._origin(node.func) not in _MAKES:
                self._refuse(node)
            self._values([*node.args, *(keyword.value for keyword in node.keywords)])
        elif kind is _ast.Lambda:
            self._values([*node.args.defaults, *filter(None, node.args.kw_defaults)])
        elif kind is _ast.Subscript:  # of a type, in an annotation
            if (self._origin(node.value) or _OWN).startswith(_OWN):
                self._refuse(node)
            self._values([node.value, node.slice])
        elif kind in _PARTS:
            for field in _PARTS[kind]:
                value = getattr(node, field)
                self._values(filter(None, value) if type(value) is list else [value] if value is not None else [])
        elif kind is not _ast.Constant:
            self._refuse(node)

    def _origin(self, node):
        """Return the full name of what a name or an attribute refers to; None if the file defines it, or for others."""
        if type(node) is _ast.Name:
            return self._origins.get(node.id, node.id if hasattr(builtins, node.id) else None)
        if type(node) is _ast.Attribute and (origin := self._origin(node.value)) is not None:
            return f"{origin}.{node.attr}"
        return None


#: By kind of expression: the attributes with the expressions that it is made of.
_PARTS = {
    _ast.BinOp: ("left", "right"),
    _ast.BoolOp: ("values",),
    _ast.Compare: ("left", "comparators"),
    _ast.Dict: ("keys", "values"),
    _ast.FormattedValue: ("value", "format_spec"),
    _ast.IfExp: ("test", "body", "orelse"),
    _ast.JoinedStr: ("values",),
    _ast.List: ("elts",),
    _ast.Set: ("elts",),
    _ast.Slice: ("lower", "upper", "step"),
    _ast.Starred: ("value",),
    _ast.Tuple: ("elts",),
    _ast.UnaryOp: ("operand",),
}


def _is_class_property(function):
    """Whether reading the attribute of the class calls the function."""
    names = {getattr(decorator, "id", None) for decorator in function.decorator_list}
    return {"classmethod", "property"} <= names


def _is_main_guard(test):
    """Whether a condition is `__name__ == "__main__"`, which is false in a child."""
    return (
        type(test) is _ast.Compare
        and type(test.left) is _ast.Name
        and test.left.id == "__name__"
        and len(test.ops) == 1
        and type(test.ops[0]) is _ast.Eq
        and type(test.comparators[0]) is _ast.Constant
        and test.comparators[0].value == "__main__"
    )
