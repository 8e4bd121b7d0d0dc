"""The contexts by the names of their start methods, for the modules that start processes, which context.py imports.

context.py fills this in when it is imported, before any of them.
"""

from multiprocessing.context import BaseContext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than forking

__all__ = ["begin_child", "concrete", "default", "engines_context"]

concrete: "dict[str, Any]" = {}
default: "Any" = None  # the DefaultContext
base_class: "type[BaseContext]" = BaseContext  # goproc's own


def engines_context(context):
    """Return the goproc context that starts a pool's workers: the default, or the namesake of multiprocessing's."""
    if context is None:
        return default.get_context()
    if isinstance(context, BaseContext) and not isinstance(context, base_class):
        return concrete[context.get_start_method()]
    return context


def begin_child(process_obj) -> None:
    """Do in a child what precedes process_obj._bootstrap(): let it go on with the start method that it was started by.

    multiprocessing does that itself, with its own default context, which is not goproc's unless goproc is installed.
    """
    method = process_obj._start_method
    if method is not None:
        default._actual_context = concrete.get(method) or default.get_context(method)
