"""[[keep]]."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.checks.problem import Problem, unknown
from cluster.hostlist import expand
from cluster.model import Cluster


def keep(cluster: Cluster) -> Iterator[Problem]:
    names = [node.name for node in cluster.machines]
    for index, entry in enumerate(cluster.keep):
        if entry.nodes == "ALL":
            continue
        try:
            wanted = expand(entry.nodes)
        except ValueError as error:
            yield Problem(("keep", index, "nodes"), str(error))
            continue
        for name in wanted:
            if name not in names:
                yield Problem(("keep", index, "nodes"), unknown(name, names, "node"))
