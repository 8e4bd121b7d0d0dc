"""The pickler that the program has put in the place of multiprocessing's, if it has.

Programs do so in these ways, for instance to send lambdas by dill:

    ForkingPickler.dumps, ForkingPickler.loads = ...    in the class itself
    multiprocessing.reduction.ForkingPickler = ...      before multiprocessing.queues and connection are imported
    the private name for it in one of these modules     at any time
    context.reducer = ...                               before they are imported; goproc: at any time

Both modules take the class from multiprocessing.reduction when they are imported. From then on, each has its own name
for it, which decides as follows. Process objects are written by multiprocessing.reduction.dump (picklers.py).

    of multiprocessing.queues        items of queues; the tasks of executors; in a worker, the tasks it gets and results
    of multiprocessing.connection    messages of pipes and managers; in the main program, tasks of pools and all results

If the program has its own pickler, whole objects are given to its dumps() and loads(): there are no buffers out of
band, no plain items and no batches. The base of goproc's own pickler classes is ORIGINAL, which the program cannot
replace. docs/design/pickler.md. A spawned worker imports this module, so it imports little.
"""

import gc
import sys
from _pickle import loads  # pickle's, whatever the program has put there
from multiprocessing import context, reduction

from .. import _native
from .stdlib import import_module, place_of_pickler, replaced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it takes longer than the rest of this module

__all__ = ["ANY", "CONNECTIONS", "ORIGINAL", "QUEUES", "dumped", "follow"]

#: multiprocessing's class itself, whatever the name ForkingPickler means now.
ORIGINAL: "Any" = reduction.AbstractReducer.ForkingPickler

#: Its dict. vars() returns a proxy of it, through which looking takes longer.
(_members,) = gc.get_referents(vars(ORIGINAL))


def dumped(own, obj):
    """Pickle an object by a pickler of the program's own; return bytes. dumps() may return any buffer."""
    return bytes(memoryview(own.dumps(obj)))


def follow():
    """Have modules use the pickler that the main module has put into multiprocessing.reduction.

    Called in a child of a server that has imported them. In multiprocessing's children they are imported later.
    """
    for name in _MODULES:
        module = _module(name)
        if module is not None:
            variables, key, pickler = place_of_pickler(module)
            if pickler is ORIGINAL:
                variables[key] = context.reduction.ForkingPickler


def _module(name):
    return replaced.get(name) or sys.modules.get(name)  # multiprocessing's, if goproc's is in its place


def _finder(*names):
    def find():
        """Return the program's own pickler and None; or None, and the places that say so: see PicklerWatch."""
        places: list = []
        for name in names:
            own = _find(name, places)
            if own is not None:
                return own, None
        return None, tuple({(id(place[0]), place[1]): place for place in places}.values())

    return find


def _find(name, places):
    """Return the pickler of the program's own that a module uses. If there is none, add the places to the list."""
    reducer, module = context.reduction, _module(name)
    place = (None, None, None) if module is None else place_of_pickler(module)
    if place[2] is None and reducer.ForkingPickler is not ORIGINAL:
        # multiprocessing has imported the module by now, as this process uses a queue, a pool or a connection.
        import_module(name)
        place = place_of_pickler(_module(name))
    if place[2] is not None and place[2] is not ORIGINAL:
        return place[2]
    if reducer is not reduction:
        return reducer.ForkingPickler
    dumps, theirs = _members.get("dumps"), _members.get("loads")
    if getattr(getattr(dumps, "__func__", None), "__globals__", None) is not vars(reduction) or theirs is not loads:
        return ORIGINAL
    places += [(vars(context), "reduction", reduction), (_members, "dumps", dumps), (_members, "loads", loads)]
    if place[2] is not None:
        places.append(place)
    else:
        places += [(sys.modules, name, module), (vars(reduction), "ForkingPickler", ORIGINAL)]
    return None


_MODULES = "multiprocessing.queues", "multiprocessing.connection"

#: Which pickler of the program's own is used in the place of that of multiprocessing.queues, of that of
#: multiprocessing.connection, and of either.
QUEUES, CONNECTIONS, ANY = (
    _native.PicklerWatch(_finder(*names), loads) for names in (_MODULES[:1], _MODULES[1:], _MODULES)
)
