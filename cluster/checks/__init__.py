"""What must hold across the tables of cluster.toml: names refer to something, nothing clashes.

Each check yields problems; :mod:`cluster.load` adds file and line.
"""

from __future__ import annotations

from cluster.checks import (
    accounting,
    courses,
    general,
    keep,
    network,
    nodes,
    people,
    scheduling,
    software,
    storage,
)
from cluster.checks.problem import Problem
from cluster.model import Cluster

__all__ = ["Problem", "check"]

CHECKS = (
    nodes.addresses,
    nodes.roles,
    general.general,
    people.groups,
    people.users,
    people.way_in,
    storage.storage,
    storage.quotas,
    scheduling.partitions,
    scheduling.profiles,
    accounting.qos,
    accounting.accounts,
    software.kernels,
    courses.courses,
    software.modules,
    software.trees,
    keep.keep,
    network.network,
    network.ports,
)


def check(cluster: Cluster) -> list[Problem]:
    """Everything that is wrong with it; nothing when the list is empty."""
    problems = [*nodes.node_entries(cluster)]
    if problems:  # without names and addresses nothing else can be looked at
        return problems
    for part in CHECKS:
        problems += part(cluster)
    return problems
