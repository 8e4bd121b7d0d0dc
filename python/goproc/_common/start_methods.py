"""Shared by the modules that start processes: the contexts by start method, and the attributes of a pool's workers.

context.py fills in the contexts when it is imported, before it imports any module that starts processes.
"""

from multiprocessing.context import BaseContext

from . import stdlib
from .detached import loaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than forking

__all__ = [
    "begin_child",
    "be_worker",
    "bind_children",
    "clone_from",
    "concrete",
    "default",
    "ends_with_parent",
    "engines_context",
    "relay_by",
    "run_spawned",
    "sent_to_spawned",
    "shared_default",
    "take_nursery",
    "worker_end",
]

concrete: "dict[str, Any]" = {}
default: "Any" = None  # the DefaultContext
children_are_bound = False  # in a worker of a nested pool, and in all processes below it
base_class: "type[BaseContext]" = BaseContext  # goproc's BaseContext
relay: "Any" = None  # the _relay.state.State of this process, if log records are relayed


def engines_context(context):
    """Return the context that starts a pool's workers.

    For None: goproc's default context. For a context of multiprocessing: goproc's context for the same start method.
    A context of a class that the program has derived may have a Process class of its own. So after install(), when its
    processes are goproc's, it is returned as it is; before, goproc's context is returned for it, too. Any other object
    is returned as it is.
    """
    if context is None:
        return default.get_context()
    if isinstance(context, BaseContext) and not isinstance(context, base_class):
        if type(context).__module__ == BaseContext.__module__ or not stdlib.installed:
            return concrete[context.get_start_method()]
    return context


def shared_default(force=False):
    """Return the default context of classes that goproc and multiprocessing share: managers, shared ctypes values.

    It is goproc's; only if the program has chosen a start method with multiprocessing, and none with goproc, it is
    multiprocessing's. force: of no effect; multiprocessing.sharedctypes gives it.
    """
    theirs = stdlib.default_context()
    if theirs._actual_context is not None and default._actual_context is None:
        return theirs.get_context()
    return default.get_context()


def bind_children() -> None:
    """Let all processes that this one starts from now on, and theirs, end with their parent, as daemons do."""
    global children_are_bound
    children_are_bound = True


def ends_with_parent(process_obj) -> bool:
    """Whether the kernel is to kill a process, which has not been started yet, when its parent ends."""
    return children_are_bound or process_obj.daemon


def begin_child(process_obj) -> None:
    """Prepare a child for process_obj._bootstrap(): its default start method is the one by which it was started.

    _bootstrap() sets that in multiprocessing's default context, which is not goproc's unless install() was called.
    """
    method = process_obj._start_method
    if method is not None:
        default._actual_context = concrete.get(method) or default.get_context(method)
    # A forked child may have inherited handles of shared objects, or a module that another thread was importing.
    begin_child = getattr(loaded("goproc._common.sharing"), "begin_child", None)
    if begin_child is not None:
        begin_child(process_obj)
    if relay is not None:
        relay.begin(process_obj)


def sent_to_spawned(process_obj):
    """Return what is sent first to a process that its parent does not fork: its end of the pool, and of the relay."""
    state = vars(process_obj).pop("_goproc_relay", relay)
    return {"worker": worker_end(process_obj), "relay": None if state is None else state.for_spawned(process_obj)}


def relay_by(process_obj, state) -> None:
    """Have a process that has not been started send its log records by the given state, not by this process's.

    state: has for_spawned(). For processes that are not forked by their parent: the workers of a cluster's machine.
    """
    process_obj._goproc_relay = state


def run_spawned(process_obj, parent_sentinel, name, method) -> int:
    """Run process_obj in a child that was not forked by its parent; return its exit status.

    name, method: dump finds them in this call's frame (popen_fork.run_child has them for forked children).
    """
    begin_child(process_obj)
    return process_obj._bootstrap(parent_sentinel)


# A pool's worker is an ordinary Process object, of a class that the program may have chosen. Its further data is in two
# attributes, which only the following functions use.


def be_worker(process_obj, end) -> None:
    """Make a process that has not been started a pool's worker. end: its worker.ChannelEnd."""
    process_obj._goproc_worker = end


def worker_end(process_obj):
    """Return the worker.ChannelEnd of a pool's worker, None for any other process."""
    return vars(process_obj).get("_goproc_worker")


def clone_from(process_obj, nursery) -> None:
    """Let the process's start() take a clone instead of forking. nursery: the nursery.Nursery that has the clone."""
    process_obj._goproc_nursery = nursery


def take_nursery(process_obj):
    """Return the nursery.Nursery from which start() takes a clone, None if it forks. A second call returns None."""
    return vars(process_obj).pop("_goproc_nursery", None)
