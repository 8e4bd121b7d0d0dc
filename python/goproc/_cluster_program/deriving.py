"""Makes the class on the cluster for a program's own class of pools or executors. Used by pool.py and executor.py."""

__all__ = ["on_cluster"]

_made: dict[type, type] = {}


def on_cluster(cls, base):
    """Return the class that derives from cls and from base, and looks like cls. For one cls it is always the same."""
    made = _made.get(cls)
    if made is None:
        looks = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
        made = _made[cls] = type(cls.__name__, (cls, base), looks)
    return made
