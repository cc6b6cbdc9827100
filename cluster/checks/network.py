"""[network], [ssh] and the ports of everything."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.checks.problem import Problem
from cluster.model import Cluster

DATABASE_PORT = 3306  # MariaDB's, on the database node


def ports(cluster: Cluster) -> Iterator[Problem]:
    """Every port has one owner, on whichever node: nodes may take several roles."""
    hub, slurm = cluster.hub, cluster.slurm
    owners = {cluster.ssh.port: "ssh.port", DATABASE_PORT: "the database"}
    for place, port in (
        (("slurm", "controller_port"), slurm.controller_port),
        (("slurm", "node_port"), slurm.node_port),
        (("slurm", "database_port"), slurm.database_port),
        (("hub", "port"), hub.port),
        (("hub", "api_port"), hub.api_port),
        (("hub", "proxy_api_port"), hub.proxy_api_port),
    ):
        if port in owners:
            yield Problem(place, f"port {port} is also {owners[port]}: choose another")
        owners.setdefault(port, ".".join(place))
    low, high = hub.session_ports
    if low >= high:
        yield Problem(("hub", "session_ports"), f"must be [lowest, highest], not [{low}, {high}]")
    for port, owner in owners.items():
        if low <= port <= high:
            yield Problem(
                ("hub", "session_ports"), f"{low}-{high} holds {port}, which is {owner}: move one"
            )
