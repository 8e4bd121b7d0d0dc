"""The program's main module in children that are not forked, and its name there. Used by goproc.spawn."""

import os
import sys
from _weakref import ref
from io import open_code

from .._common import stdlib

__all__ = ["announce_to_linecache", "forget_preloaded_main", "import_main_path", "name_main"]

#: `__mp_main__` as multiprocessing has set it, a weak reference, and whether it stays for good. The module must not be
#: kept: at the end of the interpreter its objects would be finalized too late, without the modules that they use.
_first_named: "ref | None" = None
_is_settled = False


def name_main():
    """Let `__mp_main__` be the module that children import: objects of its classes come back under that name.

    multiprocessing sets the name once, when the program imports it. `python -m goproc` has imported it before the
    program. So if a launcher runs another program as `__main__`, such as a profiler or runpy.run_path(), the name is
    still the launcher's. It is changed until the module that had it first starts a process: this one keeps it.
    """
    global _first_named, _is_settled
    main, named = sys.modules["__main__"], sys.modules.get("__mp_main__")
    if _first_named is None and named is not None:
        _first_named = ref(named)
    if main is not named and not _is_settled:
        sys.modules["__mp_main__"] = main
    _is_settled = _is_settled or _first_named is not None and main is _first_named()


def forget_preloaded_main():
    """Give this child of the fork server the `__main__` of its interpreter. It is not to have the program's script.

    The server may have imported a script that runpy or IPython's %run made the main module for a while. The program's
    main module is now one that a child cannot import. With the script's module, the child would find other functions
    under the same names. Where multiprocessing's server imports the main module, too, its children keep it.
    """
    from multiprocessing.spawn import old_main_modules

    if old_main_modules and not stdlib.PRELOADS_MAIN:
        sys.modules["__main__"] = old_main_modules[0]
        sys.modules.pop("__mp_main__", None)


def announce_to_linecache(main_path):
    """Avoid a warning of linecache when a traceback through the program's script is made; `-W error` would raise it.

    From Python 3.15 on, linecache warns about a module without `__spec__`, unless its `__name__` is `__main__`; here it
    is `__mp_main__`. linecache does not look at the module if it has an entry for the file. The entry that is added
    here means "not read yet".
    """
    import linecache  # the interpreter's start has imported it already

    linecache.cache.setdefault(main_path, (lambda: None,))


def import_main_path(main_path: str) -> None:
    """Run the program's script under the name `__mp_main__`, and make it this process's `__main__`, unless it is.

    Source: multiprocessing.spawn.import_main_path, which handles everything but an ordinary file. It is not used for
    ordinary files, because it imports runpy, and with it pkgutil and typing, which takes longer than all the rest.
    """
    current = sys.modules["__main__"]
    is_file = main_path.endswith(".py") and os.path.isfile(main_path)
    if not is_file or getattr(current, "__file__", None) == main_path or os.path.basename(main_path) == "ipython.py":
        return stdlib.fix_main(main_path)
    from multiprocessing.spawn import old_main_modules

    old_main_modules.append(current)
    module = type(sys)("__mp_main__")
    module.__dict__.update(__file__=main_path, __package__="")
    if sys.version_info < (3, 15):
        module.__dict__["__cached__"] = None
    with open_code(main_path) as file:
        code = compile(file.read(), main_path, "exec", dont_inherit=True)
    before, argument = sys.modules.get("__mp_main__"), sys.argv[0]
    sys.modules["__mp_main__"] = module
    sys.argv[0] = main_path
    try:
        exec(code, module.__dict__)
    except BaseException:
        if before is None:
            del sys.modules["__mp_main__"]
        else:
            sys.modules["__mp_main__"] = before
        raise
    finally:
        sys.argv[0] = argument
    sys.modules["__main__"] = module
