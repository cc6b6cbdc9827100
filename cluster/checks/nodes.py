"""[[nodes]]: names, addresses, and which role needs how many machines."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from cluster.checks.problem import Problem
from cluster.hostlist import expand
from cluster.model import Cluster, NodeRole
from cluster.values import HOST

RESERVED_HOSTS = frozenset({"localhost", "default", "all"})  # two are words of slurm.conf


def node_entries(cluster: Cluster) -> Iterator[Problem]:
    """Host lists and first addresses: what `machines` needs."""
    for index, entry in enumerate(cluster.nodes):
        try:
            names = expand(entry.name)
        except ValueError as error:
            yield Problem(("nodes", index, "name"), str(error))
            continue
        for name in names:
            if not re.match(HOST, name) or name in RESERVED_HOSTS:
                yield Problem(
                    ("nodes", index, "name"),
                    f"{name!r} cannot be a host name: use a-z, 0-9 and -, and none of "
                    f"{', '.join(sorted(RESERVED_HOSTS))}",
                )
        try:
            address = ipaddress.ip_address(entry.address)
            _ = address + (len(names) - 1)
        except ValueError:
            yield Problem(
                ("nodes", index, "address"),
                f"must be an address like {_example(cluster)}, not {entry.address!r}",
            )


def _example(cluster: Cluster) -> str:
    network = cluster.network.network
    return str(network[min(10, network.num_addresses - 1)])


def addresses(cluster: Cluster) -> Iterator[Problem]:
    """One machine, one name, one usable address of the subnet."""
    network = cluster.network.network
    names: dict[str, int] = {}
    owners: dict[str, str] = {}
    gateway = cluster.network.gateway
    taken = {gateway: "the gateway's"} if gateway else {}
    if network.version == 4 and network.num_addresses > 2:
        taken |= {
            str(network.network_address): "the network's own",
            str(network.broadcast_address): "the broadcast",
        }
    machines = iter(cluster.machines)
    for index, entry in enumerate(cluster.nodes):
        for name in expand(entry.name):
            node = next(machines)
            if name in names:
                yield Problem(
                    ("nodes", index, "name"),
                    f"{name} is already in nodes[{names[name]}]: every machine is listed once",
                )
            names.setdefault(name, index)
            where = ("nodes", index, "address")
            if ipaddress.ip_address(node.address) not in network:
                yield Problem(where, f"{node.address} ({name}) is not in {network}")
            elif node.address in taken:
                yield Problem(where, f"{node.address} ({name}) is {taken[node.address]} address")
            elif owners.get(node.address, name) != name:
                yield Problem(
                    where,
                    f"{node.address} ({name}) is also the address of {owners[node.address]}: "
                    "give each node its own",
                )
            owners.setdefault(node.address, name)


def roles(cluster: Cluster) -> Iterator[Problem]:
    """Which role needs how many machines."""
    for index, entry in enumerate(cluster.nodes):
        if len(set(entry.roles)) < len(entry.roles):
            yield Problem(("nodes", index, "roles"), "a role is listed twice")
    for role in (NodeRole.CONTROLLER, NodeRole.DATABASE):
        names = [node.name for node in cluster.with_role(role)]
        if len(names) > 1:
            index = [i for i, entry in enumerate(cluster.nodes) if role in entry.roles][-1]
            yield Problem(
                ("nodes", index, "roles"),
                f"only one node can be the {role}, and there are {', '.join(names)}",
            )
    for role in (NodeRole.LOGIN, NodeRole.CONTROLLER, NodeRole.DATABASE, NodeRole.COMPUTE):
        if not cluster.with_role(role):
            yield Problem(
                ("nodes",), f'no node has the role {role}: add "{role}" to the roles of one'
            )
