"""Which nodes a command means."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.model import Cluster, Node


def names(cluster: Cluster, items: Iterable[str], what: str) -> list[str]:
    """The nodes that names and host lists stand for, each once; UsageError lists those there
    are. ``what`` begins the sentence (``--limit``)."""
    from cluster.errors import UsageError
    from cluster.hostlist import expand, fold

    known = [node.name for node in cluster.machines]
    chosen: list[str] = []
    for item in items:
        try:
            found = expand(item)
        except ValueError as error:
            raise UsageError(f"{what}: {error}") from None
        strange = [name for name in found if name not in known]
        if strange:
            raise UsageError(f"{what}: there is no node {fold(strange)}; there are {fold(known)}")
        chosen += found
    return list(dict.fromkeys(chosen))


def compute(cluster: Cluster, items: Iterable[str]) -> list[Node]:
    """The compute nodes that are meant; UsageError for one that takes no jobs anyway."""
    from cluster.errors import UsageError
    from cluster.hostlist import fold
    from cluster.model import NodeRole

    nodes = [cluster.node(name) for name in names(cluster, items, "NODES")]
    strange = [node.name for node in nodes if not node.has(NodeRole.COMPUTE)]
    if strange:
        raise UsageError(f"{fold(strange)} takes no jobs: it has not the role compute")
    return nodes
