"""What a role is: a pure function from (cluster, node, facts) to resources.

A room that must be installed on nodes exports ``ROLES``; ``practicum.rooms`` puts them
together and hands them down, so this package never knows the rooms above it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from cluster.model import Cluster, Node
from provisioning.facts import Facts
from provisioning.resources import Declared, File, Line, Resource

# In this order; a stage starts on any node when the one before is done on all nodes.
STAGES = (
    "network",
    "base",
    "storage",  # homes are made on it
    "identity",
    "trust",
    "database",
    "controller",
    "compute",
    "software",
    "hub",
)


@dataclass(frozen=True)
class Opening:
    """A port that a node's role wants reached from elsewhere than the cluster's own nodes, which
    always reach each other: from ``outside`` ([network] outside, and the cluster's network), from
    all of the cluster's ``network``. ``login`` is the other way round: of the nodes too, only
    login nodes may.
    """

    ports: tuple[int, int]  # lowest and highest
    source: Literal["outside", "network", "login"]
    protocol: Literal["tcp", "udp"] = "tcp"


def opening(
    port: int,
    source: Literal["outside", "network", "login"],
    protocol: Literal["tcp", "udp"] = "tcp",
) -> Opening:
    """An :class:`Opening` of a single port."""
    return Opening((port, port), source, protocol)


def no_openings(_cluster: Cluster) -> Sequence[Opening]:
    return ()


@dataclass(frozen=True)
class Context:
    """All that a role may look at."""

    cluster: Cluster
    node: Node
    facts: Mapping[str, Facts]  # by node name; only of nodes that answered
    secrets: Mapping[str, str] = field(default_factory=dict)
    openings: tuple[Opening, ...] = ()  # of all roles of this node; filled in by declare

    @property
    def own(self) -> Facts:
        return self.facts.get(self.node.name, Facts())


@dataclass(frozen=True)
class Role:
    """``build`` is called for nodes where ``where`` holds."""

    name: str
    stage: str
    where: Callable[[Cluster, Node], bool]
    build: Callable[[Context], Sequence[Resource]]
    openings: Callable[[Cluster], Sequence[Opening]] = no_openings


def declare(roles: Sequence[Role], context: Context) -> Declared:
    """Everything that one node should have, in stage order.

    ValueError when two roles declare one resource differently: that is a fault in the roles.
    """
    here_roles = [role for role in roles if role.where(context.cluster, context.node)]
    wanted = [one for role in here_roles for one in role.openings(context.cluster)]
    context = replace(context, openings=tuple(dict.fromkeys(wanted)))
    seen: dict[str, Resource] = {}
    kept = context.cluster.kept_paths(context.node.name)
    stages: list[tuple[str, tuple[Resource, ...]]] = []
    for stage in STAGES:
        here: list[Resource] = []
        for role in here_roles:
            if role.stage != stage:
                continue
            for built in role.build(context):
                resource = _kept(built, kept)
                known = seen.get(resource.key)
                if known is None:
                    seen[resource.key] = resource
                    here.append(resource)
                elif known != resource:
                    raise ValueError(
                        f"role {role.name} declares {resource.key} unlike a role before it"
                    )
        stages.append((stage, tuple(here)))
    return Declared(node=context.node.name, stages=tuple(stages))


def _kept(resource: Resource, paths: Collection[str]) -> Resource:
    """Files, and lines of files, that [[keep]] leaves to the admin."""
    if isinstance(resource, File | Line) and resource.path in paths:
        return replace(resource, keep=True)
    return resource
