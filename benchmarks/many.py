"""Many targets on the few nodes of a lab: each gets an address of its own on a compute node, and
a connection, an agent and a plan of its own, as that node's twin.

Only for runs without a change: twins would tread on each other's feet.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import common

from cluster.load import load
from cluster.model import Cluster, Node, NodeRole
from provisioning import engine
from provisioning.facts import Facts
from provisioning.lab import LabInfo
from provisioning.report import Reporter
from provisioning.resources import Declared
from provisioning.role import Context, Role, declare

SSHD = "/etc/ssh/sshd_config.d/90-benchmark.conf"
FIRST = 100  # of the subnet's addresses: above the lab's own nodes


def twins(cluster: Cluster, count: int) -> dict[str, tuple[Node, Node]]:
    """{target: (its own name and address, the node that it is)}: every machine once, then
    compute nodes in turn."""
    machines = cluster.machines
    compute = cluster.with_role(NodeRole.COMPUTE)
    found = {node.name: (node, node) for node in machines[:count]}
    base = ipaddress.ip_network(cluster.network.subnet).network_address
    for number in range(count - len(found)):
        real = compute[number % len(compute)]
        name = f"twin{number + 1:02d}"
        address = str(base + FIRST + number)
        found[name] = (real.model_copy(update={"name": name, "address": address}), real)
    return found


def lend_addresses(info: LabInfo, targets: Mapping[str, tuple[Node, Node]]) -> None:
    """The twins' addresses on their nodes, and their host keys for the admin. The lab is the
    benchmark's own and ends with it."""
    cluster = load(info.cluster_toml)
    known = info.cluster_toml.parent / cluster.ssh.known_hosts
    lines = known.read_text().splitlines()
    keys = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line.strip()}
    prefix = ipaddress.ip_network(cluster.network.subnet).prefixlen
    by_node: dict[str, list[str]] = {}
    for twin, real in targets.values():
        if twin.address not in keys:
            by_node.setdefault(real.name, []).append(twin.address)
            lines.append(f"{twin.address} {keys[real.address]}")
    for node, addresses in by_node.items():
        batch = "".join(f"addr add {address}/{prefix} dev host0\n" for address in addresses)
        common.on_node(info, node, ["ip", "-batch", "-"], stdin=batch)
        # one sshd answers for thirty machines at once, and by itself drops some beyond ten
        common.on_node(info, node, ["tee", SSHD], stdin="MaxStartups 200\n")
        common.on_node(info, node, ["systemctl", "reload", "ssh"])
    known.write_text("\n".join(lines) + "\n")


class Twins(engine.Cohort):
    """A run over twins: each has the resources of the node that it is."""

    def __init__(
        self,
        cluster: Cluster,
        roles: Sequence[Role],
        secrets: Mapping[str, str],
        base: Path,
        count: int,
        reporter: Reporter,
    ) -> None:
        super().__init__(cluster, roles, secrets, base, (), reporter)
        self.pairs = twins(cluster, count)
        self.nodes = {name: twin for name, (twin, _) in self.pairs.items()}
        self.chosen = list(self.nodes)

    def _declared(self, name: str) -> Declared:
        facts = {
            node: fact for node, fact in self.facts.items() if node == self.pairs[node][1].name
        }
        context = Context(self.cluster, self.pairs[name][1], facts, self.secrets)
        return replace(declare(self.roles, context), node=name)

    def _remember(self, known: Mapping[str, Any]) -> None:
        """Twins' facts are nobody's."""


def declared(
    cluster: Cluster,
    roles: Sequence[Role],
    facts: Mapping[str, Facts],
    secrets: Mapping[str, str],
    count: int,
) -> tuple[list[Declared], dict[str, str]]:
    """What each target should have, and {target: address}, for the peer."""
    pairs = twins(cluster, count)
    found = [
        replace(declare(roles, Context(cluster, real, facts, secrets)), node=name)
        for name, (_, real) in pairs.items()
    ]
    return found, {name: twin.address for name, (twin, _) in pairs.items()}


if __name__ == "__main__":
    sys.exit("this is a part of converge.py")
