"""What the modules that start processes have to know: the contexts, by start method, and what a pool adds to a process.

context.py fills in the contexts when it is imported, before it imports any of those modules.
"""

from multiprocessing.context import BaseContext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than forking

__all__ = [
    "begin_child",
    "be_worker",
    "clone_from",
    "concrete",
    "default",
    "engines_context",
    "take_nursery",
    "worker_end",
]

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


# A pool's worker is an ordinary Process object, of a class that the program may have chosen. What else belongs to it is
# in two attributes, which only these functions touch.


def be_worker(process_obj, end) -> None:
    """Make the process, which has not been started, a pool's worker. end: its worker.ChannelEnd."""
    process_obj._goproc_worker = end


def worker_end(process_obj):
    """Return the worker.ChannelEnd of a pool's worker, None for any other process."""
    return vars(process_obj).get("_goproc_worker")


def clone_from(process_obj, nursery) -> None:
    """Have the process's start() take on a clone. nursery: the nursery.Nursery that has it."""
    process_obj._goproc_nursery = nursery


def take_nursery(process_obj):
    """Return the nursery.Nursery from which start() is to take a clone, and forget it; None to fork."""
    return vars(process_obj).pop("_goproc_nursery", None)
