"""Where a role belongs."""

from __future__ import annotations

from collections.abc import Callable

from cluster.model import Cluster, Node, NodeRole


def everywhere(_cluster: Cluster, _node: Node) -> bool:
    return True


def on(*roles: NodeRole) -> Callable[[Cluster, Node], bool]:
    """Nodes that have one of the roles."""

    def where(_cluster: Cluster, node: Node) -> bool:
        return any(node.has(role) for role in roles)

    return where


def on_first(role: NodeRole) -> Callable[[Cluster, Node], bool]:
    """The first node with the role: what exists once in a cluster lives there."""

    def where(cluster: Cluster, node: Node) -> bool:
        nodes = cluster.with_role(role)
        return bool(nodes) and node.name == nodes[0].name

    return where


def homes_node(cluster: Cluster) -> Node:
    """Where root makes homes: on the cluster's own file server, which alone sees them without
    NFS between; with a site's server on the first login node."""
    servers = cluster.with_role(NodeRole.STORAGE)
    if cluster.storage.provider == "nfs" and servers:
        return servers[0]
    return cluster.first(NodeRole.LOGIN)
