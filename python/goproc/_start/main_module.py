"""Runs the program's script in a child that was not forked. Used by goproc.spawn."""

import os
import sys
from io import open_code

from .._common import stdlib

__all__ = ["announce_to_linecache", "import_main_path"]


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
