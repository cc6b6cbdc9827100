"""What a role is: a pure function from (cluster, node, facts) to resources.

A room that must be installed on nodes exports ``ROLES``; ``practicum.rooms`` puts them
together and hands them down, so this package never knows the rooms above it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.model import Cluster, Node
from provisioning.facts import Facts
from provisioning.resources import Declared, Resource

# In this order; a stage starts on any node when the one before is done on all nodes.
STAGES = (
    "base",
    "identity",
    "storage",
    "trust",
    "database",
    "controller",
    "compute",
    "software",
    "hub",
)


@dataclass(frozen=True)
class Context:
    """All that a role may look at."""

    cluster: Cluster
    node: Node
    facts: Mapping[str, Facts]  # by node name; only of nodes that answered
    secrets: Mapping[str, str] = field(default_factory=dict)

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


def declare(roles: Sequence[Role], context: Context) -> Declared:
    """Everything that one node should have, in stage order.

    ValueError when two roles declare one resource differently: that is a fault in the roles.
    """
    seen: dict[str, Resource] = {}
    stages: list[tuple[str, tuple[Resource, ...]]] = []
    for stage in STAGES:
        here: list[Resource] = []
        for role in roles:
            if role.stage != stage or not role.where(context.cluster, context.node):
                continue
            for resource in role.build(context):
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
