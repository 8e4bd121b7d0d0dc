"""Whether the pools of this program are on a cluster: --cluster and GOPROC_CLUSTER, --ship and GOPROC_SHIP.

The command line's options are put into the environment, so children have them, too. A machine of a cluster takes both
variables out of its environment: a pool that a task makes is local. What the pools become is in _cluster_program/,
which is imported only if there is an address.
"""

import os

from . import stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # as in stdlib.py

__all__ = ["ADDRESS", "SHIPPED", "address", "cores", "executor_class", "pool_class", "put_into_environment", "shipped"]

ADDRESS = "GOPROC_CLUSTER"
SHIPPED = "GOPROC_SHIP"


def address() -> "str | None":
    """Return the address of the cluster on which this program's pools are, None for local pools."""
    return os.environ.get(ADDRESS) or None


def shipped() -> "list[str]":
    """Return what is to be copied to the machines: names of packages and modules, and folders."""
    return [what for what in os.environ.get(SHIPPED, "").split(os.pathsep) if what]


def cores() -> int:
    """Return the number of cores of the cluster's machines."""
    return stdlib.import_module("goproc._cluster_program.connection").cores()


def put_into_environment(address: "str | None", ship: "list[str]") -> None:
    """Set the variables from the options of the command line; None and [] leave them as they are."""
    if address is not None:
        os.environ[ADDRESS] = address
    if ship:
        os.environ[SHIPPED] = os.pathsep.join(os.path.abspath(what) if os.sep in what else what for what in ship)


def pool_class(cls: type) -> "Any":
    """Return the class of a new pool: for a class of local pools, the one on the cluster, if there is an address."""
    if os.environ.get(ADDRESS):
        return stdlib.import_module("goproc._cluster_program.pool").class_for(cls)
    return cls


def executor_class(cls: type) -> "Any":
    """Return the class of a new executor; see pool_class."""
    if os.environ.get(ADDRESS):
        return stdlib.import_module("goproc._cluster_program.executor").class_for(cls)
    return cls
